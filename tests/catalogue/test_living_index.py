"""Writes, searches and the making of the next index at the same time, on the embedded engine."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catalogue import CatalogueSettings, EdgeCatalogue, Entry, IndexPlan, build, edge
from specification import FeatureMap
from specification.errors import CatalogueError
from tests.conftest import DIMENSION, make_specification

MakeEntry = Callable[..., Entry]
WAIT_SECONDS = 60


@pytest.fixture
def catalogue(tmp_path: Path, settings: CatalogueSettings) -> Iterator[EdgeCatalogue]:
    with EdgeCatalogue.open(tmp_path / "catalogue", settings) as opened:
        yield opened


def other_plan(seed: int = 9) -> IndexPlan:
    return IndexPlan(feature_map=FeatureMap(input_dimension=DIMENSION, dimension=64, seed=seed))


def first(catalogue: EdgeCatalogue, seed: int) -> str:
    """The name of the learnware nearest to the task that one was made for."""
    row = catalogue.near_task(make_specification(seed).reduced_set, 1)[0]
    return row.learnware.name


class Searching:
    """Searches without a pause until the end of a with statement; raises what went wrong there."""

    def __init__(self, catalogue: EdgeCatalogue, seed: int) -> None:
        self.count, self.wrong = 0, list[object]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._search, args=(catalogue, seed))

    def _search(self, catalogue: EdgeCatalogue, seed: int) -> None:
        while not self._over.is_set():
            try:
                found = first(catalogue, seed)
            except Exception as error:
                found = repr(error)
            self.count += 1
            if found != f"learnware-{seed}":
                self.wrong.append(found)

    def __enter__(self) -> "Searching":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        assert self.wrong == []
        assert self.count > 0


def test_another_feature_map_takes_the_old_one_s_place_while_searches_and_writes_go_on(
    catalogue: EdgeCatalogue, make_entry: MakeEntry
) -> None:
    catalogue.upsert([make_entry(seed) for seed in range(300)])
    before, revision = catalogue.settings, catalogue.revision
    with Searching(catalogue, 7) as searching:
        making = threading.Thread(target=catalogue.rebuild, args=(other_plan(),))
        making.start()
        catalogue.upsert([make_entry(400)])
        catalogue.delete([make_entry(8).learnware.id])
        assert first(catalogue, 400) == "learnware-400"
        making.join()
        # What was written while the index was made is in it, and what was deleted is not.
        assert first(catalogue, 400) == "learnware-400"
        assert first(catalogue, 8) != "learnware-8"
        count = searching.count
        while searching.count < count + 3:
            time.sleep(0.001)
    assert catalogue.settings == before.model_copy(update={"plan": other_plan()})
    assert catalogue.count() == 300
    assert catalogue.revision > revision + 2
    assert len(list(catalogue.folder.glob("index-*"))) == 1


def test_the_new_index_is_the_one_that_is_opened_next(
    catalogue: EdgeCatalogue, make_entry: MakeEntry, tmp_path: Path
) -> None:
    catalogue.upsert([make_entry(seed) for seed in range(30)])
    catalogue.rebuild(other_plan())
    catalogue.close()
    with EdgeCatalogue.open(tmp_path / "catalogue") as again:
        assert again.settings.plan == other_plan()
        assert first(again, 5) == "learnware-5"
        assert [each.score for each in again.nearest_task(make_specification(5).reduced_set, 1, exact=True)] == [
            pytest.approx(0, abs=1e-2)
        ]


def test_graphs_are_built_by_another_process_when_much_is_fresh(
    catalogue: EdgeCatalogue, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "FRESH", 100)
    index = catalogue._index
    for start in range(0, 120, 40):
        catalogue.upsert([make_entry(seed) for seed in range(start, start + 40)])
        assert first(catalogue, start) == f"learnware-{start}"
    deadline = time.monotonic() + WAIT_SECONDS
    while catalogue._index is index:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert catalogue._index is not None
    assert catalogue._index.made == 120
    assert {first(catalogue, seed) for seed in (0, 60, 119)} == {"learnware-0", "learnware-60", "learnware-119"}


def test_what_was_loaded_and_not_indexed_is_found_after_settling_or_opening(
    catalogue: EdgeCatalogue, make_entry: MakeEntry, tmp_path: Path, settings: CatalogueSettings
) -> None:
    with EdgeCatalogue.open(tmp_path / "other", settings) as other:
        other.upsert([make_entry(seed) for seed in range(40)])
        rows = other.fetch([make_entry(seed).learnware.id for seed in range(40)])
    catalogue.load(rows)
    assert catalogue.nearest_task(make_specification(5).reduced_set, 1) == []
    catalogue.close()
    with EdgeCatalogue.open(tmp_path / "catalogue") as again:
        assert first(again, 5) == "learnware-5"
        again.load([rows[3]])
        again.settle()
        assert again.count() == 40
        assert again.fetch([rows[3].learnware.id])[0].file == rows[3].file


def test_an_index_that_was_lost_or_damaged_is_made_anew(
    catalogue: EdgeCatalogue, make_entry: MakeEntry, tmp_path: Path
) -> None:
    catalogue.upsert([make_entry(seed) for seed in range(40)])
    catalogue.close()
    for harm in ("lose", "truncate", "empty note"):
        (index,) = (tmp_path / "catalogue").glob("index-*")
        if harm == "empty note":
            (index / "numbers").write_text("")
        for file in [each for each in index.rglob("*") if each.is_file()] if harm != "empty note" else []:
            if harm == "lose":
                file.unlink()
            else:
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with EdgeCatalogue.open(tmp_path / "catalogue") as again:
            assert again.count() == 40
            assert first(again, 11) == "learnware-11"


def test_a_build_that_fails_leaves_the_old_index_in_use(
    catalogue: EdgeCatalogue, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.upsert([make_entry(seed) for seed in range(40)])
    started = build.Build.__init__

    def killed(self: build.Build, *words: object) -> None:
        started(self, *words)  # type: ignore[arg-type]
        self._process.kill()

    monkeypatch.setattr(build.Build, "__init__", killed)
    with pytest.raises(CatalogueError, match="the index was not made: exit status -9"):
        catalogue.rebuild(other_plan())
    assert first(catalogue, 5) == "learnware-5"
    assert len(list(catalogue.folder.glob("index-*"))) == 1
    monkeypatch.undo()
    catalogue.rebuild(other_plan())
    assert catalogue.settings.plan == other_plan()


def test_closing_ends_a_build(catalogue: EdgeCatalogue, make_entry: MakeEntry) -> None:
    catalogue.upsert([make_entry(seed) for seed in range(40)])
    ended = list[str]()

    def rebuild() -> None:
        try:
            catalogue.rebuild(other_plan())
        except CatalogueError as error:
            ended.append(str(error))

    making = threading.Thread(target=rebuild)
    making.start()
    while catalogue._build is None:
        time.sleep(0.001)
    catalogue.close()
    making.join()
    assert len(ended) == 1
    with EdgeCatalogue.open(catalogue.folder) as again:
        assert again.count() == 40
