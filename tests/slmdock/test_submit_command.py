"""``slmdock submit``: what goes in, what is told of it, and what of the second time."""

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from slmdock.dock import Dock, DockConfig
from specification import EncoderIdentity
from specification.errors import Incomparable
from tests.serving import tiny
from tests.slmdock.test_cli import CommandLine, cli, sentences, write_examples

__all__ = ["cli"]


def test_submit_one_learnware_twice(cli: CommandLine, tmp_path: Path) -> None:
    adapter = tiny.build_adapter(cli.home / "base", tmp_path / "fourth", 4)
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"description": "The fourth", "tags": ["late"], "licence": "mit"}))
    words = ["submit", adapter, "--examples", cli.home / "farming.jsonl", "--card", card, "--json"]
    (adapter / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: en\n---\n# Words\n")
    first = json.loads(cli(*words).stdout)
    assert (first["name"], first["description"], first["version"]) == ("fourth", "The fourth", 1)
    assert (first["licence"], first["languages"]) == ("mit", ["en"])
    assert [(near["reference"], near["by"]) for near in first["near_duplicates"]] == [
        ("farming@1", "specification")
    ]
    assert json.loads(cli(*words).stdout) == first
    ready = cli.home / "ready.safetensors"
    cli("spec", cli.home / "numbers.jsonl", "--out", ready)
    again = json.loads(cli("submit", adapter, "--specification", ready, "--json").stdout)
    assert again["id"] == first["id"]
    assert again["specification_digest"] != first["specification_digest"]
    assert again["licence"] == "apache-2.0"
    words[-1:] = ["--name", "fifth"]
    assert "fifth: the same content is in already as fourth; submit it under that name" in cli.fails(*words)
    said = cli(*words, "--rename").stdout
    assert said.startswith("fifth version 1 was in, published; changed: name, ")
    assert "; it was fourth@1\n" in said
    assert "\nfifth@1 is almost the same as farming@1 by specification (1.0000)\n" in said
    assert "almost the same as farming@1" in cli("history", "fifth").stdout
    assert cli("show", "fifth").stdout.count("farming@1 by specification (1.0000)") == 1
    lines = [{"name": "fifth", "adapter": str(adapter), "specification": str(ready)}]
    (cli.home / "again.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "fifth@1 is almost the same as numbers@1 by" in cli("ingest", cli.home / "again.jsonl").stdout


def test_submit_says_what_changed_and_warns_of_few_examples(cli: CommandLine, tmp_path: Path) -> None:
    adapter = tiny.build_adapter(cli.home / "base", tmp_path / "bins", 6)
    card = tmp_path / "card.json"
    card.write_text('{"description": "Bins"}')
    few = write_examples(tmp_path / "few.jsonl", sentences("farming", "Sort")[:3])
    equal = write_examples(tmp_path / "equal.jsonl", ["Sort this."] * 24)
    words = ["submit", adapter, "--examples"]
    done = cli(*words, cli.home / "farming.jsonl")
    assert done.stdout.startswith("bins version 1 is in, published, as ")
    assert "no description; --card card.json adds one" in done.stdout
    assert done.stderr == ""
    again = cli(*words, cli.home / "farming.jsonl", "--card", card)
    assert again.stdout.splitlines()[0] == "bins version 1 was in, published; changed: description"
    assert "no description" not in again.stdout
    assert cli(*words, cli.home / "farming.jsonl", "--card", card).stdout.startswith(
        "bins version 1 was in, published; nothing"
    )
    done = cli(*words, few, "--card", card)
    assert done.stdout.startswith("bins version 1 was in, published; changed: sample_size 24 → 3, specification")
    assert done.stderr == "warning: 3 texts say little of what it is good at; give 20 or more\n"
    before = cli("show", "bins", "--json").stdout
    assert "equal.jsonl: its 24 texts are all equal" in cli.fails(*words, equal, "--card", card)
    assert cli("show", "bins", "--json").stdout == before
    cli("delete", "bins")


def test_an_adapter_as_peft_saves_it_goes_in(cli: CommandLine, tmp_path: Path) -> None:
    adapter = tiny.build_adapter(cli.home / "base", tmp_path / "saved", 5)
    config = adapter / "adapter_config.json"
    named = json.loads(config.read_text())
    words = ["submit", adapter, "--examples", cli.home / "farming.jsonl"]
    config.write_text(json.dumps(named | {"base_model_name_or_path": "elsewhere/base"}))
    assert f"known: {tiny.BASE_NAME}); 'slmdock base add' it" in cli.fails(*words)
    ids = [json.loads(cli(*words, "--base", tiny.BASE_NAME, "--json").stdout)["id"]]
    for said in (str(cli.home / "base"), tiny.BASE_NAME):
        config.write_text(json.dumps(named | {"base_model_name_or_path": said}))
        ids.append(json.loads(cli(*words, "--json").stdout)["id"])
        (cli.home / "saved.jsonl").write_text(
            json.dumps({"name": "saved", "adapter": str(adapter), "examples": str(cli.home / "farming.jsonl")})
        )
        ids.append(json.loads(cli("ingest", cli.home / "saved.jsonl", "--json").stdout)["accepted"][0]["id"])
    assert len(set(ids)) == 1
    assert "base model 'other' is not known" in cli.fails(*words, "--base", "other")
    cli("delete", ids[0])


def test_another_encoder_is_refused_before_anything_is_taken_in(cli: CommandLine, tmp_path: Path) -> None:
    dock = Dock(DockConfig(cli.home / "dock"))
    other = EncoderIdentity(name="other", dimension=384, weights_sha256="0" * 64, max_tokens=256)
    vars(dock)["encoder"] = SimpleNamespace(identity=other)
    with contextlib.closing(dock):
        assert dock.history()
        with pytest.raises(Incomparable, match=r"made by encoder other \(384-d"):
            assert dock.indexer
