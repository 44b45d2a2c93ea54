"""Bulk ingest of ready learnwares: what goes in, what is refused, and what a kill leaves."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.manifests import write_lines, write_parquet
from catalogue import CatalogueSettings, EdgeCatalogue, Learnware, Signal
from catalogue.row import Row
from indexer import AdapterStore, ReadyCheck, ReadyIngest, ReadyReport, manifest, ready
from specification import differential_privacy, mark_derived, private_point
from specification.errors import CatalogueError, InvalidInput
from tests.conftest import IDENTITY, make_specification, unit_vectors

BASE = "some-base"


def id_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def row(number: int, **changes: object) -> dict[str, Any]:
    specification = make_specification(number, prompt=number % 2 == 0, parameters=number % 3 == 0)
    return {
        "id": id_of(number), "name": f"learnware-{number}", "base_model": BASE, "rank": 8,
        "adapter_bytes": 1000 + number, "description": f"Number {number}.", "languages": ["en"],
        "specification": specification.to_bytes(), **changes,
    }  # fmt: skip


def without(number: int, field: str) -> dict[str, Any]:
    return {name: value for name, value in row(number).items() if name != field}


CHECK = ReadyCheck(IDENTITY, frozenset({BASE}), None)


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[EdgeCatalogue]:
    with open_in(tmp_path) as opened:
        yield opened


def open_in(folder: Path) -> EdgeCatalogue:
    return EdgeCatalogue.open(folder / "catalogue", CatalogueSettings.of(IDENTITY))


def row_of(catalogue: EdgeCatalogue, number: int) -> Row:
    [found] = catalogue.fetch([id_of(number)])
    return found


def record_of(catalogue: EdgeCatalogue, number: int) -> Learnware:
    return row_of(catalogue, number).learnware


def count_in(catalogue: EdgeCatalogue) -> int:
    catalogue.settle()
    return catalogue.count()


@pytest.fixture
def take(tmp_path: Path, catalogue: EdgeCatalogue) -> Callable[..., ReadyReport]:
    """Takes rows in, by a manifest of lines with files beside it."""

    def taking(*rows: dict[str, Any], check: ReadyCheck = CHECK) -> ReadyReport:
        for number, each in enumerate(rows):
            (tmp_path / f"{number}").write_bytes(each["specification"])
        write_lines(
            tmp_path / "rows.jsonl", [{**each, "specification": str(number)} for number, each in enumerate(rows)]
        )
        return ReadyIngest(catalogue, check).run(tmp_path / "rows.jsonl")

    return taking


def counts(report: ReadyReport) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.unchanged, report.refused


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of ten rows, checked by real processes."""
    monkeypatch.setattr(manifest, "BATCH_ROWS", 10)
    monkeypatch.setattr(ready, "BATCH_ROWS", 10)


def test_a_row_whose_name_differs_in_case_alone_is_refused(
    take: Callable[..., ReadyReport], catalogue: EdgeCatalogue
) -> None:
    first = take(row(0) | {"name": "Law"})
    assert counts(first) == (1, 0, 0, 0)
    rows = [row(0) | {"name": "Law"}, row(1) | {"name": "LAW"}, row(2) | {"name": "tax"}, row(3) | {"name": "Tax"}]
    report = take(*rows, row(4) | {"name": "tax"}, row(5) | {"name": BASE.upper()})
    assert counts(report) == (2, 0, 1, 3)
    assert [reason for _, reason in report.reasons] == [
        f"learnware record: field 'name': {name!r} differs from {there!r}, which is there, in case alone; "
        "use that, or another name"
        for name, there in (("LAW", "Law"), ("Tax", "tax"))
    ] + [f"learnware record: field 'name': {BASE.upper()!r} is the name of a base model"]
    assert [record_of(catalogue, number).reference for number in (0, 2, 4)] == ["Law@1", "tax@1", "tax@2"]


@pytest.mark.usefixtures("small_batches")
def test_a_manifest_goes_in_through_processes_in_its_order(tmp_path: Path, catalogue: EdgeCatalogue) -> None:
    rows = [row(number) for number in range(45)]
    rows[7]["specification"] = rows[7]["specification"][:-1]
    rows[31]["name"] = BASE
    write_parquet(tmp_path / "rows.parquet", rows)
    seen: list[tuple[int, int]] = []
    refused: list[tuple[str, int, str]] = []
    ingest = ReadyIngest(catalogue, CHECK, lambda *what: refused.append(what))
    before = int(time.time())
    report = ingest.run(tmp_path / "rows.parquet", lambda *at: seen.append(at))
    assert counts(report) == (43, 0, 0, 2)
    assert report.rate > 0
    assert seen == [(10, 45), (20, 45), (30, 45), (40, 45), (45, 45), (45, 45)]
    assert [(name, number) for name, number, _ in refused] == [("rows.parquet", 8), ("rows.parquet", 32)]
    assert [label for label, _ in report.reasons] == ["rows.parquet, row 8", "rows.parquet, row 32"]
    assert count_in(catalogue) == 43
    found, specification = row_of(catalogue, 6), make_specification(6, prompt=True, parameters=True)
    assert found.file == specification.to_bytes()
    assert found.text_vector is None
    made = found.learnware
    assert before <= made.created <= time.time()
    assert made == Learnware(
        id=id_of(6), name="learnware-6", version=1, base_model=BASE, rank=8, adapter_bytes=1006,
        description="Number 6.", languages=("en",), sample_size=100, created=made.created,
        specification_digest=specification.digest,
    )  # fmt: skip


BAD = [
    (row(1, specification=b"no file"), "truncated, or not a specification"),
    (row(1, specification=make_specification(1).to_bytes()[:-2] + b"xx"), "field 'digest'"),
    (row(1, id="abc"), "field 'id'"),
    (row(1, id=id_of(1).upper()), "field 'id'"),
    (row(1, id=["x"]), "field 'id'"),
    (row(1, id=7), "field 'id'"),
    (without(1, "id"), "field 'id': Field required"),
    (without(1, "base_model"), "field 'base_model': Field required"),
    (row(1, name="no spaces please"), "field 'name'"),
    (row(1, name="auto"), "is reserved"),
    (row(1, name=BASE), "'some-base' is the name of a base model"),
    (row(1, rank=0), "rank 0 on base model 'some-base'"),
    (row(1, rank="eight"), "field 'rank'"),
    (row(1, adapter_bytes=-1), "field 'adapter_bytes'"),
    (row(1, version=0), "field 'version'"),
    (row(1, tags="one"), "field 'tags'"),
    (row(1, description="bell \a"), "control characters"),
    (row(1, domain=manifest.NOT_TEXT), "field 'domain'"),
    (row(1, status="retired"), "field 'status' is not one of"),
    (row(1, quality=[]), "field 'quality' is not one of"),
    (row(1, sample_size=9), "field 'sample_size' is not one of"),
    (row(1, adapter="folder"), "field 'adapter' is not one of"),
]
"""Rows that are refused, and what the reason says."""


def test_bad_rows_are_reported_and_the_others_go_in(
    take: Callable[..., ReadyReport], catalogue: EdgeCatalogue
) -> None:
    report = take(row(0), *(bad for bad, _ in BAD), row(2))
    assert counts(report) == (2, 0, 0, len(BAD))
    assert len(catalogue.fetch([id_of(0), id_of(1), id_of(2)])) == 2
    for number, ((_, message), (label, reason)) in enumerate(zip(BAD, report.reasons, strict=True), 2):
        assert label == f"rows.jsonl, line {number}"
        assert message in reason
        assert "\n" not in reason


def test_another_encoder_s_specification_is_refused(take: Callable[..., ReadyReport]) -> None:
    other = replace(CHECK, encoder=IDENTITY.model_copy(update={"weights_sha256": "1" * 64}))
    report = take(row(0), check=other)
    assert "made by encoder sixteen" in report.reasons[0][1]


def test_adapters_must_be_in_the_store_unless_entries_are_enough(
    tmp_path: Path, take: Callable[..., ReadyReport]
) -> None:
    store = AdapterStore(tmp_path / "store")
    store.put(id_of(0), {"adapter_config.json": b"{}"})
    report = take(row(0), row(1), check=replace(CHECK, store=store))
    assert counts(report) == (1, 0, 0, 1)
    assert (
        "is not in the store; submit it first, or take entries alone (--without-artefacts)" in report.reasons[0][1]
    )
    assert counts(take(row(0), row(1))) == (1, 0, 1, 0)


def test_what_a_private_specification_promises_is_in_the_record(
    take: Callable[..., ReadyReport], catalogue: EdgeCatalogue
) -> None:
    plain, privacy = make_specification(0), differential_privacy(8.0)
    section = plain.section.model_copy(update={"compression_error": None})
    private = replace(
        plain, reduced_set=private_point(unit_vectors(100, 0), privacy), section=section, privacy=privacy
    )
    assert counts(take(row(0, specification=private.to_bytes()))) == (1, 0, 0, 0)
    assert record_of(catalogue, 0).privacy == "(8, 1e-05)-differentially private"


def test_the_second_run_checks_nothing_and_writes_nothing(
    take: Callable[..., ReadyReport], catalogue: EdgeCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(number) for number in range(5)]
    take(*rows)
    monkeypatch.setattr(ReadyCheck, "__call__", None)
    monkeypatch.setattr(catalogue, "load", None)
    assert counts(take(*rows)) == (0, 0, 5, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "Other words."},
        {"tags": ["new"]},
        {"languages": []},
        {"rank": 16},
        {"adapter_bytes": 1},
        {"version": 3},
        {"specification": make_specification(77).to_bytes()},
    ],
)
def test_a_changed_row_replaces_the_record_and_keeps_what_was_learnt(
    take: Callable[..., ReadyReport], catalogue: EdgeCatalogue, changes: dict[str, Any]
) -> None:
    take(row(0), row(1))
    signal = Signal(kind="capability", task="mmlu", value=0.5, source="test")
    learnt = record_of(catalogue, 0).model_copy(
        update={"quality": (signal,), "created": 5, "status": "retired", "version": 2}
    )
    catalogue.load([Row(learnt, row_of(catalogue, 0).file, np.ones(16, dtype=np.float32))])
    assert counts(take(row(0), row(1))) == (0, 0, 2, 0)
    assert counts(take(row(0, **changes), row(1))) == (0, 1, 1, 0)
    found = row_of(catalogue, 0)
    made = found.learnware
    assert (made.quality, made.created, made.status) == ((signal,), 5, "retired")
    assert made.version == changes.get("version", 2)
    assert (found.text_vector is None) == bool({"description", "tags"} & changes.keys())
    for name in changes.keys() - {"specification", "version"}:
        value = changes[name]
        assert getattr(made, name) == (tuple(value) if isinstance(value, list) else value)
    assert found.file == changes.get("specification", row(0)["specification"])
    assert counts(take(row(0, **changes), row(1))) == (0, 0, 2, 0)


def test_an_incomplete_row_is_refused_though_the_learnware_is_in(take: Callable[..., ReadyReport]) -> None:
    take(row(0))
    assert counts(take(without(0, "base_model"))) == (0, 0, 0, 1)
    assert counts(take(row(0, status="published"))) == (0, 0, 0, 1)


def test_the_same_in_other_types_is_no_change(
    take: Callable[..., ReadyReport], catalogue: EdgeCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(row(0))
    monkeypatch.setattr(catalogue, "load", None)
    assert counts(take(row(0, rank="8"))) == (0, 0, 1, 0)


def test_versions_go_on_from_the_catalogue_s(take: Callable[..., ReadyReport], catalogue: EdgeCatalogue) -> None:
    take(row(0, name="wheat"), row(1, name="wheat", version=7), row(2, name="wheat"), row(3, name="rye"))
    assert [record_of(catalogue, number).version for number in range(4)] == [1, 7, 8, 1]
    take(row(4, name="wheat"), row(5, name="rye", rank=0), row(6, name="rye"), row(0, name="rye"))
    assert [record_of(catalogue, number).version for number in (4, 6, 0)] == [9, 2, 3]
    take(row(8, name="last", version=2**53), row(9, name="last"))
    assert record_of(catalogue, 9).version == 2**53


def test_of_rows_with_one_id_the_last_counts(take: Callable[..., ReadyReport], catalogue: EdgeCatalogue) -> None:
    report = take(row(0), row(0, description="Second."), row(0, description="Third."), row(1), row(1))
    assert counts(report) == (2, 2, 1, 0)
    assert record_of(catalogue, 0).description == "Third."
    assert record_of(catalogue, 0).version == 1
    assert count_in(catalogue) == 2


@pytest.mark.usefixtures("small_batches")
def test_rows_with_one_id_in_batches_that_are_under_way_together(tmp_path: Path, catalogue: EdgeCatalogue) -> None:
    rows = [row(number % 10, description=f"Round {number // 10}.") for number in range(50)]
    write_parquet(tmp_path / "rows.parquet", rows)
    report = ReadyIngest(catalogue, CHECK).run(tmp_path / "rows.parquet")
    assert counts(report) == (10, 40, 0, 0)
    assert [
        (record_of(catalogue, each).description, record_of(catalogue, each).version) for each in range(10)
    ] == [("Round 4.", 1)] * 10


def test_all_refusals_are_handed_on_and_the_first_are_kept(
    tmp_path: Path, catalogue: EdgeCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "KEPT_REASONS", 3)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "x"}) + "\nno\n" * 4)
    refused: list[int] = []
    ingest = ReadyIngest(catalogue, CHECK, lambda _, number, __: refused.append(number))
    report = ingest.run(tmp_path / "rows.jsonl")
    assert (report.refused, len(report.reasons)) == (5, 3)
    assert refused == [1, 2, 4, 6, 8]


@pytest.mark.usefixtures("small_batches")
def test_an_interrupted_run_is_resumed(tmp_path: Path, catalogue: EdgeCatalogue) -> None:
    write_parquet(tmp_path / "rows.parquet", [row(number) for number in range(45)])

    def stop(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ReadyIngest(catalogue, CHECK).run(tmp_path / "rows.parquet", stop)
    assert count_in(catalogue) == 20
    assert counts(ReadyIngest(catalogue, CHECK).run(tmp_path / "rows.parquet")) == (25, 0, 20, 0)


def test_a_failing_catalogue_stops_the_run(
    take: Callable[..., ReadyReport], catalogue: EdgeCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(rows: Sequence[Row]) -> None:
        raise CatalogueError("gone")

    monkeypatch.setattr(catalogue, "load", fail)
    with pytest.raises(CatalogueError, match="gone"):
        take(row(0))


def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path, catalogue: EdgeCatalogue) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        ReadyIngest(catalogue, CHECK).run(tmp_path / "none.jsonl")


class DeadlyCheck(ReadyCheck):
    """Stands for a process that the system kills for want of memory."""

    def __call__(self, rows: Sequence[tuple[str, bytes]]) -> list[dict[str, Any] | str]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []


@pytest.mark.usefixtures("small_batches")
def test_a_killed_process_ends_the_run_with_the_cure(tmp_path: Path, catalogue: EdgeCatalogue) -> None:
    write_parquet(tmp_path / "rows.parquet", [row(number) for number in range(25)])
    check = DeadlyCheck(IDENTITY, frozenset(), None)
    with pytest.raises(CatalogueError, match=r"was killed.*run the same command again"):
        ReadyIngest(catalogue, check).run(tmp_path / "rows.parquet")


def _ingest_and_tell(folder: str) -> None:
    """What the process does that is killed: prints where each acknowledged batch ended."""
    with open_in(Path(folder)) as catalogue, pytest.MonkeyPatch.context() as patch:
        for module in (manifest, ready):
            patch.setattr(module, "BATCH_ROWS", 10)
        ReadyIngest(catalogue, CHECK).run(Path(folder, "rows.parquet"), lambda done, _: print(done, flush=True))


def _children(process: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _lives(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_a_kill_loses_nothing_acknowledged_and_leaves_no_process(tmp_path: Path) -> None:
    count = 300
    write_parquet(tmp_path / "rows.parquet", [row(number) for number in range(count)])
    code = "import sys; from tests.indexer import test_ready; test_ready._ingest_and_tell(sys.argv[1])"
    done = 0
    for acknowledged in (1, 12):
        with subprocess.Popen(
            [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(acknowledged):
                done = int(process.stdout.readline())
            children = _children(process.pid)
            process.kill()
        with open_in(tmp_path) as catalogue:
            assert len(catalogue.fetch([id_of(number) for number in range(done)])) == done
        deadline = time.monotonic() + 20
        while any(map(_lives, children)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert children
        assert not any(map(_lives, children))
    with open_in(tmp_path) as catalogue:
        report = ReadyIngest(catalogue, CHECK).run(tmp_path / "rows.parquet")
        assert report.unchanged >= done
        assert report.added + report.unchanged == count == count_in(catalogue)


def test_a_derived_specification_is_derived_in_the_record(
    take: Callable[..., ReadyReport], catalogue: EdgeCatalogue
) -> None:
    derived = mark_derived(make_specification(0))
    assert counts(take(row(0, specification=derived.to_bytes()), row(1))) == (2, 0, 0, 0)
    assert [record_of(catalogue, number).origin for number in range(2)] == ["derived", "examples"]
    assert counts(take({**row(0), "origin": "examples"})) == (0, 0, 0, 1)
