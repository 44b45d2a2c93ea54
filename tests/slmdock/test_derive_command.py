"""The command ``derive``, from an adapter's folder to a learnware whose specification is known to be derived."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from specification import SentenceEncoder, Specification
from tests.serving import tiny
from tests.slmdock.test_cli import CommandLine

FAST = ("--texts", 8, "--rounds", 1, "--samples", 24, "--text-tokens", 8)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory, encoder: SentenceEncoder) -> Iterator[CommandLine]:
    """A dock that knows the tiny base model, and an adapter beside it."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("context", "dock"):
            patch.setattr(f"slmdock.{module}.SentenceEncoder", lambda name: encoder)
        run = CommandLine(tmp_path_factory.mktemp("home"))
        run("base", "add", tiny.BASE_NAME, tiny.build_base(run.home / "base"))
        tiny.build_adapter(run.home / "base", run.home / "my.adapter", seed=1)
        yield run


def test_a_derived_learnware_is_shown_as_one_everywhere(cli: CommandLine) -> None:
    (cli.home / "my.adapter" / "README.md").write_text("---\nwidget: [{text: the quick brown fox}]\n---\n")
    done = cli("derive", "my.adapter", *FAST)
    file = cli.home / "my.adapter.specification.safetensors"
    assert done.stdout.startswith(f"{file}: ")
    assert "points for 8 texts that the model wrote (derived)" in done.stdout
    assert "kept of 24 texts written in 1 rounds" in done.stdout
    made = Specification.load(file)
    assert (made.origin, made.sample_size, made.section.calibration) == ("derived", 8, None)
    assert made.prompt is not None
    cli("submit", "my.adapter", "--specification", file, "--name", "guess")
    assert json.loads(cli("show", "guess", "--json").stdout)["origin"] == "derived"
    found = cli("search", file)
    assert "guess (derived)" in found.stdout
    assert "a rough share, since guess's specification is derived" in found.stdout
    listed = json.loads(cli("list", "--where", "origin=derived", "--json").stdout)["learnwares"]
    assert [one["name"] for one in listed] == ["guess"]


def test_json_tells_what_it_cost_and_the_same_seed_gives_the_same(cli: CommandLine, tmp_path: Path) -> None:
    said = [
        json.loads(cli("derive", "my.adapter", *FAST, "--to", tmp_path / f"{run}", "--json").stdout)
        for run in range(2)
    ]
    assert said[0].pop("file") != said[1].pop("file")
    assert said[0] == said[1]
    assert said[0]["origin"] == "derived"
    assert (said[0]["written"], said[0]["rounds"], said[0]["calibrated"]) == (24, 1, False)
    assert said[0]["tokens"] > 24


def test_what_cannot_be_derived_is_said_in_a_line(cli: CommandLine, tmp_path: Path) -> None:
    assert "a whole model has no base model to depart from" in cli.fails("derive", "base")
    assert "no such folder" in cli.fails("derive", "nowhere")
    assert "--to" in cli.fails("derive", "my.adapter", *FAST, "--to", tmp_path)
    assert "do not fit" in cli.fails("derive", "my.adapter", "--samples", 8, "--text-tokens", 1000)
    assert "not --url" in cli.fails("--url", "http://127.0.0.1:1", "derive", "my.adapter")
    other = shutil.copytree(cli.home / "my.adapter", tmp_path / "other")
    config = other / "adapter_config.json"
    config.write_text(config.read_text().replace(tiny.BASE_NAME, "unknown"))
    assert "base model 'unknown' is not known" in cli.fails("derive", other)
