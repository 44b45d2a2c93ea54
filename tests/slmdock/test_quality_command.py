import json

from tests.slmdock.test_cli import CommandLine, sentences, write_examples
from tests.slmdock.test_cli import cli as cli


def test_quality_is_attached_shown_and_weighed(cli: CommandLine) -> None:
    folder = cli.home / "benchmarks"
    folder.mkdir()
    write_examples(folder / "harvests.jsonl", sentences("farming", "Count"))
    for name, score in (("farming", 0.9), ("medicine", 0.4)):
        results = {"results": {"harvests": {"acc,none": score}, "other": {"acc,none": score}}}
        (cli.home / f"{name}.json").write_text(json.dumps(results))
        cli("quality", name, "--lm-eval", f"{name}.json", "--texts", folder)
    found = json.loads(cli("quality", "farming", "--json").stdout)
    assert [(signal["task"], signal["value"]) for signal in found] == [("harvests", 0.9), ("other", 0.9)]
    assert [signal["specification"] is None for signal in found] == [False, True]
    assert len(list((cli.home / "dock" / "store" / "tasks").iterdir())) == 1
    cli("quality", "farming", "--feedback", 1)
    shown = cli("quality", "farming", "--feedback", 0).stdout
    assert "feedback in general: 0.5 (user)" in shown
    assert "farming: 3 quality signals, 1 of them new" in shown
    assert "capability harvests acc,none: 0.9" in cli("show", "farming").stdout
    ranked = json.loads(cli("search", cli.home / "medicine.jsonl", "--json").stdout)["ranked"]
    assert ranked[0]["learnware"]["name"] == "medicine"
    expected = {item["learnware"]["name"]: item["expected"] for item in ranked}
    assert expected["farming"] > expected["numbers"]


def test_bad_signals_are_refused(cli: CommandLine) -> None:
    assert "no such file" in cli.fails("quality", "farming", "--lm-eval", "nowhere.json")
    (cli.home / "numbers.json").write_text('{"results": {"sums": {"acc,none": 1}}}')
    assert "of any task" in cli.fails(
        "quality", "numbers", "--lm-eval", "numbers.json", "--texts", cli.home / "base"
    )
    assert "no learnware 'nobody'" in cli.fails("quality", "nobody", "--feedback", 1)
