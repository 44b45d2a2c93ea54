"""``slmdock ingest`` with manifests of ready learnwares, as a stranger uses it."""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from benchmarks.manifests import write_lines, write_parquet
from indexer import AdapterStore
from slmdock import output
from slmdock.dock import announce
from specification import ReducedSet, Section, SentenceEncoder, Specification
from specification.kernel import Floats
from tests.slmdock.test_cli import CommandLine


@pytest.fixture
def cli(tmp_path: Path, encoder: SentenceEncoder) -> Iterator[CommandLine]:
    """A dock without learnwares."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("context", "dock"):
            patch.setattr(f"slmdock.{module}.SentenceEncoder", lambda name: encoder)
        yield CommandLine(tmp_path)


@pytest.fixture
def rows(encoder: SentenceEncoder) -> list[dict[str, Any]]:
    """Five ready learnwares."""
    made = []
    for number in range(5):
        point = np.random.default_rng(number).normal(size=(1, encoder.identity.dimension))
        unit: Floats = (point / np.linalg.norm(point)).astype(np.float16).astype(np.float32)
        section = Section(encoder=encoder.identity, sample_size=50, compression_error=0.1, gamma=2.0)
        specification = Specification(ReducedSet(unit, np.ones(1, dtype=np.float32)), section)
        made.append(
            {
                "id": hashlib.sha256(str(number).encode()).hexdigest(), "name": f"ready-{number}",
                "base_model": "some-base", "rank": 8, "adapter_bytes": 1000, "domain": f"domain {number}",
                "specification": specification.to_bytes(),
            }
        )  # fmt: skip
    return made


def test_a_parquet_manifest_goes_in_and_is_found(cli: CommandLine, rows: list[dict[str, Any]]) -> None:
    write_parquet(cli.home / "rows.parquet", rows)
    done = cli("ingest", "rows.parquet", "--without-artefacts")
    said = r"5 new, 0 changed, 0 unchanged, 0 refused; [\d.]+ s, [\d,]+ a second, and [\d.]+ s for the index\n"
    assert re.fullmatch(said, done.stdout)
    listed = json.loads(cli("list", "--json").stdout)["learnwares"]
    assert {item["name"] for item in listed} == {each["name"] for each in rows}
    (cli.home / "task.safetensors").write_bytes(rows[3]["specification"])
    found = json.loads(cli("search", "task.safetensors", "--json").stdout)
    assert found["ranked"][0]["learnware"]["name"] == "ready-3"
    again = json.loads(cli("ingest", "rows.parquet", "--without-artefacts", "--json").stdout)
    assert (again["added"], again["unchanged"], again["refused"], again["first_refused"]) == (0, 5, 0, [])
    assert again["seconds"] > 0
    assert again["per_second"] > 0
    assert again["indexing_seconds"] >= 0


def test_only_what_is_in_the_store_goes_in_and_the_rest_is_written_down(
    cli: CommandLine, rows: list[dict[str, Any]]
) -> None:
    store = cli.home / "dock" / "store"
    store.mkdir(parents=True)
    AdapterStore(store).put(rows[1]["id"], {"adapter_config.json": b"{}"})
    for number, each in enumerate(rows):
        (cli.home / f"{number}.safetensors").write_bytes(each["specification"])
    lines = [{**each, "specification": f"{number}.safetensors"} for number, each in enumerate(rows)]
    write_lines(cli.home / "rows.jsonl", lines)
    done = cli("ingest", "rows.jsonl", "--refused", "refused.jsonl", code=2)
    assert done.stdout.count("is not in the store; submit it first") == 4
    assert "1 new, 0 changed, 0 unchanged, 4 refused" in done.stdout
    written = [json.loads(line) for line in (cli.home / "refused.jsonl").read_text().splitlines()]
    assert [(each["manifest"], each["number"]) for each in written] == [("rows.jsonl", at) for at in (1, 3, 4, 5)]
    assert "--without-artefacts" in written[0]["reason"]
    cli("ingest", "rows.jsonl", "--refused", "refused.jsonl", "--without-artefacts")
    assert (cli.home / "refused.jsonl").read_text() == ""


def test_of_many_refusals_the_first_are_shown(cli: CommandLine, rows: list[dict[str, Any]]) -> None:
    (cli.home / "rows.jsonl").write_text(json.dumps({"id": "\x1b[31m"}) + "\nno" * 30)
    done = cli("ingest", "rows.jsonl", code=2)
    assert done.stdout.count("refused: rows.jsonl, line") == output.SHOWN_REFUSALS
    assert "and 21 more; --refused FILE writes them all" in done.stdout
    assert "\x1b" not in done.stdout
    document = json.loads(cli("ingest", "rows.jsonl", "--json", code=2).stdout)
    assert document["refused"] == len(document["first_refused"]) == 31


def test_options_of_ready_manifests_are_refused_elsewhere(cli: CommandLine) -> None:
    (cli.home / "adapters.jsonl").write_text('{"name": "a", "adapter": "b"}')
    for option in (("--without-artefacts",), ("--refused", "x")):
        assert "are for manifests of ready learnwares" in cli.fails("ingest", "adapters.jsonl", *option)
    assert not (cli.home / "x").exists()


def test_files_that_cannot_be_used_are_named(cli: CommandLine, rows: list[dict[str, Any]]) -> None:
    write_parquet(cli.home / "rows.parquet", rows)
    before = (cli.home / "rows.parquet").read_bytes()
    assert "is the manifest itself" in cli.fails("ingest", "rows.parquet", "--refused", "rows.parquet")
    assert (cli.home / "rows.parquet").read_bytes() == before
    assert "cannot be written" in cli.fails("ingest", "rows.parquet", "--refused", "no/such/folder")
    assert "cannot be read" in cli.fails("ingest", "none.parquet")
    (cli.home / "bad.parquet").write_text("bad")
    assert "not a Parquet file" in cli.fails("ingest", "bad.parquet")


def test_a_dock_elsewhere_or_one_that_serves_is_refused_with_the_cure(
    cli: CommandLine, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(cli.home / "rows.parquet", rows)
    said = cli.fails("--url", "http://127.0.0.1:9", "ingest", "rows.parquet")
    assert "on the dock's own machine" in said
    (cli.home / "dock").mkdir()
    announce(cli.home / "dock", "http://127.0.0.1:9")
    monkeypatch.setattr("serving.DockClient.health", lambda self: True)
    assert "stop 'slmdock serve' there" in cli.fails("ingest", "rows.parquet")


def test_progress_shows_count_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, clock = io.StringIO(), iter(range(1000))
    terminal = Console(file=seen, force_terminal=True, width=120, get_time=lambda: float(next(clock)))
    monkeypatch.setattr(output, "Console", lambda stderr: terminal)
    with output.progress_bar("ingesting", "learnwares") as progress:
        for done in (0, 100_000, 200_000):
            progress(done, 1_000_000)
    frame = Text.from_ansi(seen.getvalue()).plain.splitlines()[-1]
    assert "ingesting" in frame
    assert "200000/1000000 learnwares" in frame
    assert re.search(r"[1-9][0-9,]+/s \d:\d\d:\d\d", frame)
