"""Snapshots, restores and moves, between both engines; and files that were cut, altered, or are of others."""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as configured
from hypothesis import strategies as st
from qdrant_client import QdrantClient

from catalogue import Catalogue, CatalogueSettings, EdgeCatalogue, Entry, Hit, IndexPlan, Row, transfer
from catalogue.ledger import Ledger
from catalogue.server import ServerCatalogue
from catalogue.snapshot_file import SnapshotFile, seal
from specification import FeatureMap, ReducedSet
from specification.errors import CatalogueError, CatalogueFormat, DockError, Incomparable, InvalidInput
from tests.conftest import IDENTITY, make_specification

MakeEntry = Callable[..., Entry]
Restore = Callable[[Path], tuple[transfer.Restored, Catalogue]]
COUNT = 30
REPEATED = configured(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def memory(settings: CatalogueSettings) -> ServerCatalogue:
    return ServerCatalogue(QdrantClient(":memory:"), settings)


def rows_of(catalogue: Catalogue) -> list[Row]:
    return sorted((row for batch in catalogue.rows(7) for row in batch), key=lambda row: row.learnware.id)


def same(first: Iterable[Row], second: Iterable[Row], tolerance: float = 0.0) -> bool:
    return all(
        (one.learnware, one.file) == (other.learnware, other.file)
        and (one.text_vector is None) == (other.text_vector is None)
        and (
            one.text_vector is None
            or other.text_vector is None
            or np.allclose(one.text_vector, other.text_vector, rtol=0, atol=tolerance)
        )
        for one, other in zip(first, second, strict=True)
    )


def fill(catalogue: Catalogue, make_entry: MakeEntry, count: int = COUNT) -> None:
    entries = [make_entry(seed, prompt=seed % 2 == 0, tags=("é", "b")) for seed in range(count)]
    entries[0] = Entry(entries[0].learnware, entries[0].specification)
    catalogue.upsert(entries)
    catalogue.delete([entries[1].learnware.id])


@pytest.fixture
def source(settings: CatalogueSettings, make_entry: MakeEntry) -> Catalogue:
    catalogue = memory(settings)
    fill(catalogue, make_entry)
    return catalogue


@pytest.fixture
def file(source: Catalogue, tmp_path: Path) -> Path:
    transfer.snapshot(source, tmp_path / "snapshot")
    return tmp_path / "snapshot"


def change(file: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement, values)


def test_an_embedded_catalogue_goes_into_a_file_and_comes_out_of_it(
    tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry
) -> None:
    file, seen = tmp_path / "backup" / "snapshot", list[tuple[int, int]]()
    with EdgeCatalogue.open(tmp_path / "one", settings) as source:
        fill(source, make_entry)
        assert transfer.snapshot(source, file, lambda *each: seen.append(each)) == COUNT - 1
        expected = rows_of(source)
    assert seen[-1] == (COUNT - 1, COUNT - 1)
    assert [each.name for each in file.parent.iterdir()] == ["snapshot"]
    with EdgeCatalogue.open(tmp_path / "two", transfer.snapshot_settings(file)) as target:
        report = transfer.restore(file, target)
        assert (report.loaded, report.refused) == (COUNT - 1, 0)
        assert same(rows_of(target), expected)
        assert target.settings == settings
        task = make_specification(5).reduced_set
        assert target.near_task(task, 1)[0].learnware.name == "learnware-5"


def test_a_catalogue_moves_to_a_server_and_back(
    tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry
) -> None:
    server = memory(settings)
    with EdgeCatalogue.open(tmp_path / "one", settings) as source:
        fill(source, make_entry)
        expected = rows_of(source)
        there = transfer.move(source, server)
        assert same(rows_of(source), expected)
    assert there == transfer.Moved(COUNT - 1, COUNT - 1, 20, ())
    assert there.same
    with EdgeCatalogue.open(tmp_path / "two", settings) as target:
        assert transfer.move(server, target).same
        # A server keeps text vectors at length 1, in float32.
        assert same(rows_of(target), expected, tolerance=1e-3)


def test_an_interrupted_restore_or_move_is_run_again(
    source: Catalogue, file: Path, settings: CatalogueSettings
) -> None:
    restored, moved = memory(settings), memory(settings)
    for target in (restored, moved):
        target.load(rows_of(source)[:11])
    assert transfer.restore(file, restored).loaded == COUNT - 1
    assert transfer.move(source, moved).same
    for target in (restored, moved):
        assert same(rows_of(target), rows_of(source), tolerance=1e-3)


def test_a_target_that_holds_something_else_is_refused_and_left_alone(
    source: Catalogue, file: Path, settings: CatalogueSettings, make_entry: MakeEntry
) -> None:
    for entry in (make_entry(99), make_entry(3, description="newer")):
        target = memory(settings)
        target.upsert([entry])
        for deed in (lambda to: transfer.restore(file, to), lambda to: transfer.move(source, to)):
            with pytest.raises(InvalidInput, match=f"not empty: it holds {entry.learnware.name}"):
                deed(target)
        assert target.get([entry.learnware.id]) == [entry.learnware]
        assert target.count() == 1


def test_another_encoder_s_catalogue_is_refused_with_both_names(
    source: Catalogue, file: Path, settings: CatalogueSettings
) -> None:
    other = IDENTITY.model_copy(update={"name": "another", "weights_sha256": "1" * 64})
    target = memory(settings.model_copy(update={"encoder": other}))
    for deed in (lambda: transfer.restore(file, target), lambda: transfer.move(source, target)):
        with pytest.raises(Incomparable, match=r"sixteen \(.*another \("):
            deed()
    assert target.count() == 0


def test_a_target_with_another_feature_map_is_refused(source: Catalogue, settings: CatalogueSettings) -> None:
    plan = IndexPlan(feature_map=FeatureMap(input_dimension=IDENTITY.dimension, dimension=32))
    with pytest.raises(InvalidInput, match=r"dimension=32.*dimension=256.*rebuild"):
        transfer.move(source, memory(settings.planned(plan)))


@pytest.mark.parametrize(
    ("alteration", "complaint"),
    [
        ("record = replace(record, 'learnware-7', 'learnware-X')", "another digest"),
        ("file = file || x'00'", "another digest"),
        ("file = 'text'", "another type"),
        ("file = zeroblob(1000)", "another digest"),
        ("record = cast(x'ff' AS TEXT)", "another type"),
        ("text_vector = x'00'", "another digest"),
        ("name = 'learnware-8'", "another digest"),
    ],
)
def test_an_altered_row_is_named_and_the_others_are_restored(
    file: Path, settings: CatalogueSettings, alteration: str, complaint: str
) -> None:
    change(file, f"UPDATE learnware SET {alteration} WHERE name = 'learnware-7'")
    target = memory(settings)
    report = transfer.restore(file, target)
    assert (report.loaded, report.refused) == (COUNT - 2, 1)
    (reason,) = report.reasons
    assert "learnware-" in reason
    assert complaint in reason
    assert target.named("learnware-7") is None
    assert target.count() == COUNT - 2


def test_a_row_that_was_forged_with_its_digest_is_checked_as_one_that_is_submitted(
    tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry
) -> None:
    good, other = make_entry(1), make_entry(2)
    Ledger.create(tmp_path / "snapshot")
    with closing(Ledger(tmp_path / "snapshot")) as ledger:
        ledger.put([
            Row(good.learnware, good.specification.to_bytes(), good.text_vector),
            Row(other.learnware, good.specification.to_bytes(), other.text_vector),
            Row(make_entry(3).learnware, b"nothing"),
            Row(make_entry(4).learnware, make_entry(4).specification.to_bytes(), np.full(16, np.inf, np.float32)),
            Row(make_entry(5).learnware, make_entry(5).specification.to_bytes(), np.zeros(3, np.float32)),
        ])  # fmt: skip
    seal(tmp_path / "snapshot", settings)
    report = transfer.restore(tmp_path / "snapshot", memory(settings))
    assert (report.loaded, report.refused) == (1, 4)
    for reason, word in zip(report.reasons, ("different digests", "truncated", "NaN, Inf", "shape"), strict=True):
        assert word in reason


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("DELETE FROM learnware WHERE name = 'learnware-7'", "says 29 learnwares but holds 28"),
        ("DELETE FROM snapshot", "description is missing"),
        ("UPDATE snapshot SET version = 99", "format version 99, this program reads"),
        ("UPDATE snapshot SET settings = '{}'", "settings: field 'encoder'"),
        ("CREATE VIEW more AS SELECT 1", "other tables"),
        ("PRAGMA application_id = 7", "is no snapshot"),
    ],
)
def test_a_file_that_is_not_as_it_was_made_is_refused(
    file: Path, settings: CatalogueSettings, statement: str, complaint: str
) -> None:
    change(file, statement)
    with pytest.raises((InvalidInput, CatalogueFormat), match=complaint):
        transfer.restore(file, memory(settings))


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(file: Path, settings: CatalogueSettings, part: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(part * len(data))])
    target = memory(settings)
    with pytest.raises(InvalidInput, match=r"truncated|no snapshot"):
        transfer.restore(file, target)
    assert target.count() == 0


@REPEATED
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_altered_bit_never_loads_a_learnware_that_was_not_there(
    file: Path, source: Catalogue, settings: CatalogueSettings, place: float, bit: int
) -> None:
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    altered = file.with_name("altered")
    altered.write_bytes(data)
    target = memory(settings)
    try:
        report = transfer.restore(altered, target)
    except DockError:
        report = None
    expected = {row.learnware.id: row for row in rows_of(source)}
    found = rows_of(target)
    assert same(found, [expected[row.learnware.id] for row in found], tolerance=1e-3)
    if report is not None:
        assert report.loaded + report.refused == len(expected)
        assert report.loaded == len(found)


@pytest.mark.parametrize("what", ["nothing", "folder", "text"])
def test_what_is_no_snapshot_is_refused(tmp_path: Path, settings: CatalogueSettings, what: str) -> None:
    file = tmp_path / "file"
    if what == "folder":
        file.mkdir()
    if what == "text":
        file.write_text("This is a text and no database. " * 100)
    with pytest.raises(InvalidInput, match=r"no such file|not a regular file|no snapshot"):
        transfer.restore(file, memory(settings))


def test_a_snapshot_replaces_no_file(source: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InvalidInput, match="is there already"):
        transfer.snapshot(source, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_snapshot_that_fails_leaves_no_file_and_one_that_was_killed_is_replaced(
    source: Catalogue, tmp_path: Path
) -> None:
    def fail(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(CatalogueError, match="cannot be written: No space left"):
        transfer.snapshot(source, tmp_path / "snapshot", fail)
    assert list(tmp_path.iterdir()) == []
    for name in (".snapshot.part", ".snapshot.part-wal"):
        (tmp_path / name).write_text("half")
    assert transfer.snapshot(source, tmp_path / "snapshot") == COUNT - 1
    assert [each.name for each in tmp_path.iterdir()] == ["snapshot"]


def test_a_move_whose_target_answers_otherwise_says_so(
    source: Catalogue, settings: CatalogueSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = memory(settings)
    plainly = target.nearest_task

    def otherwise(task: ReducedSet, limit: int, exact: bool) -> list[Hit]:
        return plainly(task, limit + 1, exact=exact)[1:]

    monkeypatch.setattr(target, "nearest_task", otherwise)
    report = transfer.move(source, target)
    assert len(report.differing) == report.asked == 20
    assert not report.same


def test_ties_are_no_difference() -> None:
    first = [Hit("a", 0.1), Hit("b", 0.5)]
    assert transfer._within(first, [Hit("a", 0.1), Hit("c", 0.5)])
    assert not transfer._within([Hit("a", 0.1), Hit("b", 0.4)], [Hit("a", 0.1), Hit("c", 0.5)])
    assert not transfer._within(first, first[:1])
    assert not transfer._within(first, [Hit("a", 0.2), Hit("b", 0.5)])


WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)


@REPEATED
@given(
    records=st.lists(
        st.fixed_dictionaries(
            {"description": WORDS, "domain": WORDS, "licence": WORDS, "rank": st.integers(1, 500),
             "created": st.integers(0, 2**40), "tags": st.lists(WORDS, max_size=3, unique=True).map(tuple),
             "status": st.sampled_from(["published", "retired"]), "whole": st.booleans()}
        ),
        max_size=5,
    )
)  # fmt: skip
def test_any_record_comes_back_from_a_snapshot_as_it_was(
    tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry, records: list[dict[str, object]]
) -> None:
    entries = []
    for seed, fields in enumerate(records):
        whole = {"base_model": "none", "rank": 0} if fields.pop("whole") else {}
        entries.append(make_entry(seed, **{**fields, **whole}))
    file = tmp_path / "snapshot"
    Ledger.create(file)
    with closing(Ledger(file)) as ledger:
        ledger.put([Row(each.learnware, each.specification.to_bytes(), each.text_vector) for each in entries])
    assert seal(file, settings) == len(entries)
    with closing(SnapshotFile(file)) as opened:
        found = [row.entry() for row in opened.rows()]
    assert [each.learnware for each in found] == [each.learnware for each in entries]
    assert [each.specification.digest for each in found] == [each.specification.digest for each in entries]
