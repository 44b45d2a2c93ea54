"""An index in a process of its own answers as one in this process does, and outlives the death of its process."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qdrant_edge import SparseVector

from catalogue import CatalogueSettings, EdgeCatalogue, Entry, index_process, parse_filter
from catalogue.edge_index import EdgeIndex
from catalogue.filters import EVERYTHING
from catalogue.index_process import IndexLost, IndexProcess
from catalogue.keywords import query_keywords
from catalogue.schema import KEYWORD_VECTOR, PARAMETER_VECTOR, SPECIFICATION_VECTOR
from specification.errors import CatalogueError, CatalogueLocked
from tests.conftest import make_specification

MakeEntry = Callable[..., Entry]
COUNT = 30


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every index gets a process of its own."""
    monkeypatch.setattr(index_process, "LARGE", 0)


@pytest.fixture
def catalogue(
    tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry, apart: None
) -> Iterator[EdgeCatalogue]:
    with EdgeCatalogue.open(tmp_path / "catalogue", settings) as opened:
        opened.upsert(
            [
                make_entry(seed, parameters=seed % 2 == 0, domain=f"d{seed % 3}", rank=seed + 1)
                for seed in range(COUNT)
            ]
        )
        yield opened


def process_of(catalogue: EdgeCatalogue) -> IndexProcess:
    assert isinstance(catalogue._index, IndexProcess)
    return catalogue._index


def first(catalogue: EdgeCatalogue, seed: int) -> str:
    return catalogue.near_task(make_specification(seed).reduced_set, 1)[0].learnware.name


def test_answers_are_those_of_an_index_in_this_process(catalogue: EdgeCatalogue) -> None:
    apart = process_of(catalogue)
    specification = make_specification(3, parameters=True)
    task = apart.plan.feature_map.embed([specification.reduced_set])[0].tolist()
    vector = specification.parameters.projection.tolist()  # type: ignore[union-attr]
    words = query_keywords("learnware-7 d1")
    where = parse_filter("domain=d1|d2,rank>=4")
    asked: list[Callable[[IndexProcess | EdgeIndex], object]] = [
        lambda index: index.query(SPECIFICATION_VECTOR, task, 12, EVERYTHING),
        lambda index: index.query(SPECIFICATION_VECTOR, task, 12, where, exact=True),
        lambda index: index.query(PARAMETER_VECTOR, vector, 5, where),
        lambda index: index.query(KEYWORD_VECTOR, SparseVector(words.indices, words.values), 5, EVERYTHING),
        lambda index: index.scroll(where, 5, None),
        lambda index: index.scroll(EVERYTHING, 5, index.scroll(EVERYTHING, 3, None)[-1]),
        lambda index: (index.count(where), index.count(EVERYTHING), index.made, index.applied),
        lambda index: index.facets("domain", where, 10),
    ]
    found = [ask(apart) for ask in asked]
    folder, plan = apart.folder, apart.plan
    apart.close()
    here = EdgeIndex(folder, plan)
    assert [ask(here) for ask in asked] == found
    assert all(found)
    here.close()


def test_searches_and_writes_go_on_when_the_process_is_killed(
    catalogue: EdgeCatalogue, make_entry: MakeEntry
) -> None:
    index = process_of(catalogue)
    for seed in (COUNT, COUNT + 1):
        index._process.kill()
        assert first(catalogue, 5) == "learnware-5"
        assert process_of(catalogue) is not index
        index = process_of(catalogue)
        index._process.kill()
        catalogue.upsert([make_entry(seed)])
        assert first(catalogue, seed) == f"learnware-{seed}"
        assert catalogue.count() == seed + 1


def test_an_index_that_is_replaced_serves_who_still_holds_it_and_is_removed_then(
    catalogue: EdgeCatalogue, make_entry: MakeEntry
) -> None:
    held = process_of(catalogue)
    catalogue.rebuild(catalogue.settings.plan)
    assert process_of(catalogue) is not held
    assert held.count(EVERYTHING) == COUNT
    folder, process = held.folder, held._process
    del held
    deadline = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.poll() is not None
    assert first(catalogue, 5) == "learnware-5"


def test_searches_are_answered_between_slices_of_changes(catalogue: EdgeCatalogue, make_entry: MakeEntry) -> None:
    entries = [make_entry(seed) for seed in range(COUNT, COUNT + 1000)]
    writing = threading.Thread(target=catalogue.upsert, args=(entries,))
    writing.start()
    answered = 0
    while writing.is_alive():
        assert first(catalogue, 5) == "learnware-5"
        answered += 1
    writing.join()
    assert answered > 5
    assert catalogue.count() == COUNT + 1000


def test_the_engine_s_complaint_is_passed_on_and_the_next_call_is_answered(catalogue: EdgeCatalogue) -> None:
    index = process_of(catalogue)
    with pytest.raises(CatalogueError, match="cannot query: the engine says"):
        index.query(SPECIFICATION_VECTOR, [0.5], 3, EVERYTHING)
    assert index.count(EVERYTHING) == COUNT
    with pytest.raises(CatalogueError, match="cannot open"):
        IndexProcess(catalogue.folder / "nowhere", index.plan, catalogue.folder / "ledger.sqlite", 0)


def test_a_closed_process_says_so(catalogue: EdgeCatalogue) -> None:
    index = process_of(catalogue)
    index.close()
    with pytest.raises(IndexLost, match="has ended"):
        index.count(EVERYTHING)
    # The catalogue opens it again.
    assert catalogue.count() == COUNT


def _hold(folder: Path, ready: Path) -> None:
    index_process.LARGE = 0
    catalogue = EdgeCatalogue.open(folder)
    # The process of the index is stopped, so it cannot end at once when this one does.
    os.kill(process_of(catalogue)._process.pid, signal.SIGSTOP)
    ready.write_text(str(process_of(catalogue)._process.pid))
    time.sleep(60)


def test_after_a_kill_the_next_opener_waits_for_the_index_s_process_to_end(
    catalogue: EdgeCatalogue, tmp_path: Path
) -> None:
    catalogue.close()
    ready = tmp_path / "ready"
    child = multiprocessing.get_context("spawn").Process(target=_hold, args=(catalogue.folder, ready))
    child.start()
    while not (ready.exists() and ready.read_text()):
        assert child.is_alive()
        time.sleep(0.02)
    with pytest.raises(CatalogueLocked, match=f"held by process {child.pid}"):
        EdgeCatalogue.open(catalogue.folder)
    child.kill()
    child.join()
    threading.Timer(0.5, os.kill, (int(ready.read_text()), signal.SIGCONT)).start()
    began = time.monotonic()
    with EdgeCatalogue.open(catalogue.folder) as again:
        assert time.monotonic() - began > 0.4
        assert again.count() == COUNT
