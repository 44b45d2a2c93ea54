"""What only the embedded engine has: a folder, its lock, its format, and kills."""

import json
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from catalogue import CatalogueSettings, EdgeCatalogue, Entry
from catalogue.build import LEDGER
from catalogue.transfer import restore, snapshot
from specification.errors import CatalogueError, CatalogueFormat, CatalogueLocked, Incomparable, NotFound

MakeEntry = Callable[..., Entry]


def test_survives_closing_and_opening(tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry) -> None:
    with EdgeCatalogue.open(tmp_path, settings) as catalogue:
        catalogue.upsert([make_entry(1)])
    with EdgeCatalogue.open(tmp_path) as catalogue:
        assert catalogue.settings == settings
        assert catalogue.count() == 1
        catalogue.close()


def test_a_second_opener_is_told_who_holds_the_folder_and_harms_nothing(
    tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry
) -> None:
    with EdgeCatalogue.open(tmp_path, settings) as catalogue:
        catalogue.upsert([make_entry(1)])
        with pytest.raises(CatalogueLocked, match=f"held by process {os.getpid()}.*--url"):
            EdgeCatalogue.open(tmp_path, settings)
        catalogue.upsert([make_entry(2)])
        assert catalogue.count() == 2
    EdgeCatalogue.open(tmp_path, settings).close()


def test_spellings_are_looked_up_in_an_index_that_no_snapshot_has(
    tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry
) -> None:
    """Also of a ledger that an older program made, which has none."""
    query = "SELECT name COLLATE NOCASE, name FROM learnware WHERE name COLLATE NOCASE IN ('a', 'b')"

    def plans() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "catalogue" / LEDGER)) as ledger:
            return [plan for *_, plan in ledger.execute(f"EXPLAIN QUERY PLAN {query}")]

    with EdgeCatalogue.open(tmp_path / "catalogue", settings) as catalogue:
        catalogue.upsert([make_entry(1, name="Law")])
        assert not any("spellings" in plan for plan in plans())
        for _ in range(2):
            assert catalogue.spellings(["law"]) == {"law": {"Law"}}
            assert [plan.partition("USING ")[2] for plan in plans()] == ["COVERING INDEX spellings (name=?)"]
        snapshot(catalogue, tmp_path / "snapshot")
    with EdgeCatalogue.open(tmp_path / "other", settings) as other:
        assert restore(tmp_path / "snapshot", other).loaded == 1
        assert other.other_spelling("LAW") == "Law"


def test_another_format_version_is_refused_and_left_alone(tmp_path: Path, settings: CatalogueSettings) -> None:
    EdgeCatalogue.open(tmp_path, settings).close()
    file = tmp_path / "catalogue.json"
    document = json.loads(file.read_text())
    document["settings"]["schema_version"] = 99
    for version, text in ((99, json.dumps(document)), (3, json.dumps({"schema_version": 3}))):
        file.write_text(text)
        with pytest.raises(CatalogueFormat, match=f"format version {version}, this program reads 4"):
            EdgeCatalogue.open(tmp_path, settings)
        assert file.read_text() == text


def test_a_damaged_settings_file_is_named(tmp_path: Path, settings: CatalogueSettings) -> None:
    EdgeCatalogue.open(tmp_path, settings).close()
    (tmp_path / "catalogue.json").write_text("{")
    with pytest.raises(CatalogueFormat, match=r"catalogue\.json is damaged"):
        EdgeCatalogue.open(tmp_path, settings)


def test_a_missing_ledger_is_an_error_not_an_empty_start(tmp_path: Path, settings: CatalogueSettings) -> None:
    EdgeCatalogue.open(tmp_path, settings).close()
    (tmp_path / "ledger.sqlite").unlink()
    with pytest.raises(CatalogueError, match="cannot open"):
        EdgeCatalogue.open(tmp_path, settings)


def test_another_encoder_is_refused(tmp_path: Path, settings: CatalogueSettings) -> None:
    EdgeCatalogue.open(tmp_path, settings).close()
    other = settings.encoder.model_copy(update={"weights_sha256": "1" * 64})
    with pytest.raises(Incomparable):
        EdgeCatalogue.open(tmp_path, settings.model_copy(update={"encoder": other}))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, settings: CatalogueSettings) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CatalogueError, match="cannot be written"):
        EdgeCatalogue.open(tmp_path / "file" / "catalogue", settings)


def test_none_there_and_nothing_to_make_it_with(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no catalogue in"):
        EdgeCatalogue.open(tmp_path)


def test_an_interrupted_creation_is_begun_again(tmp_path: Path, settings: CatalogueSettings) -> None:
    (tmp_path / "index-0" / "shard" / "segments").mkdir(parents=True)
    (tmp_path / "index-0" / "shard" / "edge_config.json").write_text("half")
    (tmp_path / "ledger.sqlite").write_text("half")
    with EdgeCatalogue.open(tmp_path, settings) as catalogue:
        assert catalogue.count() == 0


def _write_until_killed(folder: Path, settings: CatalogueSettings, entries: list[Entry]) -> None:
    catalogue = EdgeCatalogue.open(folder, settings)
    for entry in entries:
        catalogue.upsert([entry])
        with (folder / "acknowledged").open("a") as file:
            file.write(entry.learnware.id + "\n")


def test_a_kill_loses_nothing_acknowledged(
    tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry
) -> None:
    context = multiprocessing.get_context("spawn")
    entries = [make_entry(seed) for seed in range(2000)]
    child = context.Process(target=_write_until_killed, args=(tmp_path, settings, entries))
    child.start()
    acknowledged = tmp_path / "acknowledged"
    while not acknowledged.exists() or acknowledged.stat().st_size < 65 * 20:
        assert child.is_alive()
        time.sleep(0.01)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    ids = [line for line in acknowledged.read_text().splitlines() if len(line) == 64]
    with EdgeCatalogue.open(tmp_path, settings) as catalogue:
        found = catalogue.get(ids)
        assert [item.id for item in found] == ids
        assert len(catalogue.reduced_sets(found)) == len(ids)
