"""``slmdock export``, and what another dock makes of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from indexer import BaseModels, read_adapter
from slmdock.dock import announce
from specification import SentenceEncoder
from tests.serving import tiny
from tests.slmdock.test_cli import CommandLine, sentences, write_examples

Docks = tuple[CommandLine, CommandLine]
CARD = {
    "description": "Knows <all> of it, \u00e4nd more.", "domain": "farming", "task_type": "qa", "licence": "MIT",
    "languages": ["en", "de"], "tags": ["a", "b"], "owner": "somebody",
}  # fmt: skip


@pytest.fixture(scope="module")
def docks(tmp_path_factory: pytest.TempPathFactory, encoder: SentenceEncoder) -> Iterator[Docks]:
    """A dock with two versions of one name and a whole model, and one that knows the same base model alone."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("context", "dock"):
            patch.setattr(f"slmdock.{module}.SentenceEncoder", lambda name: encoder)
        homes = [tmp_path_factory.mktemp(name) for name in ("full", "empty")]
        base = tiny.build_base(homes[0] / "base")
        full, empty = map(CommandLine, homes)
        for dock in (full, empty):
            dock("base", "add", tiny.BASE_NAME, base)
        _fill(full, base)
        yield full, empty


def _fill(dock: CommandLine, base: Path) -> None:
    bases = BaseModels(dock.home / "dock" / "bases.json")
    adapters = [tiny.build_adapter(base, dock.home / f"adapter-{seed}", seed) for seed in range(2)]
    # The first version has the higher id, so that order of id is not order of versions.
    adapters.sort(key=lambda adapter: read_adapter(adapter, bases).id, reverse=True)
    (dock.home / "card.json").write_text(json.dumps(CARD))
    for adapter, verb in zip(adapters, ("Tell me about", "Explain"), strict=True):
        examples = write_examples(dock.home / "farming.jsonl", sentences("farming", verb))
        dock("submit", adapter, "--examples", examples, "--name", "farming", "--card", "card.json")
    whole = tiny.build_base(dock.home / "whole", seed=3)
    examples = write_examples(dock.home / "medicine.jsonl", sentences("medicine", "Tell me about"))
    dock("submit", whole, "--examples", examples, "--name", "medicine")


def records(dock: CommandLine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(dock("list", "--json").stdout)["learnwares"]
    return [_timeless(each) for each in found]


def answer(dock: CommandLine, task: Path) -> object:
    """What a search says, but for times."""
    return json.loads(dock("search", task, "--json").stdout, object_hook=_timeless)


def _timeless(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in ("created", "seconds")}


def test_another_dock_takes_in_the_same(docks: Docks) -> None:
    full, empty = docks
    out = full.home / "out"
    done = full("export", "--to", out)
    assert done.stdout.startswith("3 written, 0 there already, 0 refused\ntake them in elsewhere with")
    taken = json.loads(empty("ingest", out, "--json").stdout)
    assert (len(taken["accepted"]), taken["refused"]) == (3, [])
    assert records(empty) == records(full)
    assert {each["version"] for each in records(empty) if each["name"] == "farming"} == {1, 2}
    task = write_examples(full.home / "task.jsonl", sentences("medicine", "What do I do with"))
    assert answer(empty, task) == answer(full, task)
    # And out again, from there.
    again = json.loads(empty("export", "--to", out, "--json").stdout)
    assert (again["written"], len(again["unchanged"]), again["refused"]) == ([], 3, [])


def test_one_by_name_or_id_is_written_once(docks: Docks) -> None:
    full, _ = docks
    (medicine,) = (each for each in records(full) if each["name"] == "medicine")
    out = full.home / "one"
    written = json.loads(full("export", "medicine", medicine["id"], "--to", out, "--json").stdout)["written"]
    assert written == [f"medicine@{medicine['id'][:16]}"]
    record = json.loads((out / written[0] / "record.json").read_text())
    assert record.items() >= json.loads(json.dumps(medicine)).items()
    (out / written[0] / "learnware.json").write_text("{}")
    assert "there already, and different" in full("export", "medicine", "--to", out, code=2).stdout


def test_what_cannot_be_exported_is_refused_with_the_cure(docks: Docks, monkeypatch: pytest.MonkeyPatch) -> None:
    full, _ = docks
    assert "no learnware 'nobody'" in full.fails("export", "nobody", "--to", "out")
    assert "--dock, not --url" in full.fails("--url", "http://127.0.0.1:9", "export", "--to", "out")
    (full.home / "file").write_text("")
    assert "file/out: cannot be made" in full.fails("export", "--to", "file/out")
    with monkeypatch.context() as patch:
        announce(full.home / "dock", "http://127.0.0.1:9")
        patch.setattr("serving.DockClient.health", lambda self: True)
        assert "stop 'slmdock serve' there" in full.fails("export", "--to", "out")
    (full.home / "dock" / "serving.json").unlink()
