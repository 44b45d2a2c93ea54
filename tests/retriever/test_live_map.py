import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from catalogue import Catalogue, CatalogueSettings, EdgeCatalogue, Entry
from catalogue.server import ServerCatalogue
from retriever import live_map
from retriever.live_map import SIDE, CatalogueMap, LiveMap
from specification.errors import CatalogueError, Conflict

MakeEntry = Callable[..., Entry]


@pytest.fixture(params=["edge", "memory"])
def catalogue(
    request: pytest.FixtureRequest, tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry
) -> Iterator[Catalogue]:
    opened: Catalogue = (
        EdgeCatalogue.open(tmp_path / "catalogue", settings)
        if request.param == "edge"
        else ServerCatalogue(QdrantClient(":memory:"), settings)
    )
    with opened:
        opened.upsert([make_entry(seed) for seed in range(40)])
        yield opened


def made(live: LiveMap, learnwares: int) -> CatalogueMap:
    """Waits until the map shows so many learnwares."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        live._not_before = 0
        found = live.current()
        if found is not None and len(found.columns.references) == learnwares:
            return found
        time.sleep(0.02)
    raise AssertionError(f"no map of {learnwares} learnwares")


def places(found: CatalogueMap) -> dict[str, tuple[int, int]]:
    columns = found.columns
    return dict(zip(columns.references, zip(columns.x, columns.y, strict=True), strict=True))


def test_every_published_learnware_has_a_place_and_a_task_has_its_own(
    catalogue: Catalogue, make_entry: MakeEntry
) -> None:
    live = LiveMap(catalogue)
    task = make_entry(7).specification
    with pytest.raises(Conflict, match="being made"):
        live.place(task)
    columns = made(live, 40).columns
    shown = {each.reference: each.domain for each in catalogue.everything()}
    assert shown == {
        reference: columns.domains[domain]
        for reference, domain in zip(columns.references, columns.domain, strict=True)
    }
    assert columns.published == 40
    assert all(0 <= number <= SIDE for number in (*columns.x, *columns.y))
    own = places(made(live, 40))["learnware-7@1"]
    assert max(abs(a - b) for a, b in zip(live.place(task), own, strict=True)) < SIDE / 100


def test_newcomers_join_without_moving_the_others_until_many_have_come(
    catalogue: Catalogue, make_entry: MakeEntry
) -> None:
    live = LiveMap(catalogue)
    before = places(made(live, 40))
    catalogue.upsert([make_entry(100)])
    after = places(made(live, 41))
    assert before.items() < after.items()
    catalogue.upsert([make_entry(seed) for seed in range(101, 120)])
    assert not before.items() < places(made(live, 60)).items()
    catalogue.delete([each.id for each in list(catalogue.everything())[5:]])
    assert len(places(made(live, 5))) == 5


def test_of_too_many_a_sample_is_shown(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_map, "MOST", 20)
    monkeypatch.setattr(live_map, "PAGE", 10)
    columns = made(LiveMap(catalogue), 20).columns
    assert columns.published == 40
    assert columns.references == [each.reference for each in catalogue.everything()][:20]


def test_a_map_rests_before_it_is_made_again(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    live = LiveMap(catalogue)
    first = made(live, 40)
    live._not_before = time.monotonic() + 60
    catalogue.upsert([make_entry(100)])
    assert live.current() is first
    assert not live._making.locked()


def test_a_catalogue_that_cannot_be_read_is_told_and_asked_again(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveMap(catalogue)

    for problem, words in ((CatalogueError("the disk is gone"), "is gone"), (MemoryError(), "log says why")):

        def fail(*_: object, problem: Exception = problem) -> None:
            raise problem

        with monkeypatch.context() as patch:
            patch.setattr(catalogue, "scroll", fail)
            live.refresh()
            with pytest.raises(CatalogueError, match=words):
                live.current()
    assert made(live, 40)
