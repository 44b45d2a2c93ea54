"""The life cycle over every engine: which states follow which, who is found in which, and removal."""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from qdrant_client import QdrantClient

from catalogue import (
    PUBLISHED,
    Catalogue,
    CatalogueSettings,
    EdgeCatalogue,
    Entry,
    State,
    find_learnware,
    parse_filter,
    versions_of,
)
from catalogue.server import ServerCatalogue
from indexer import AdapterStore, LifeCycle
from indexer.life_cycle import MOVES, require_move
from specification.errors import Conflict, InvalidInput, NotFound
from tests.conftest import make_specification, unit_vectors

MakeEntry = Callable[..., Entry]
STATES: tuple[State, ...] = get_args(State)


@pytest.fixture(params=["edge", "memory"])
def catalogue(request: pytest.FixtureRequest, tmp_path: Path, settings: CatalogueSettings) -> Iterator[Catalogue]:
    opened: Catalogue = (
        EdgeCatalogue.open(tmp_path / "catalogue", settings)
        if request.param == "edge"
        else ServerCatalogue(QdrantClient(":memory:"), settings)
    )
    with opened:
        yield opened


@pytest.fixture
def life(catalogue: Catalogue, tmp_path: Path) -> LifeCycle:
    (tmp_path / "store").mkdir()
    return LifeCycle(catalogue, AdapterStore(tmp_path / "store"))


def test_every_state_is_in_the_table_and_can_be_left() -> None:
    assert set(MOVES) == set(STATES)
    assert all(MOVES[state] and state not in MOVES[state] for state in STATES)
    assert all("submitted" not in following for following in MOVES.values())


def test_records_of_every_state_come_back_and_only_published_ones_are_found(
    catalogue: Catalogue, make_entry: MakeEntry
) -> None:
    for state in STATES:
        entry = make_entry(1, prompt=True, parameters=True, status=state)
        catalogue.upsert([entry])
        assert catalogue.get([entry.learnware.id]) == [entry.learnware]
        assert catalogue.facets("status") == {state: 1}
        assert catalogue.count(parse_filter(f"status={state}")) == 1
        found = int(state == "published")
        task = make_specification(1).reduced_set
        assert len(catalogue.nearest_task(task, 5, PUBLISHED)) == found
        assert len(catalogue.matching_text("learnware", unit_vectors(1, 1)[0], 5, PUBLISHED)) == found
        assert (catalogue.named("learnware-1") is not None) == bool(found)


def test_moves_in_the_table_are_made_and_recorded_and_no_others(life: LifeCycle, make_entry: MakeEntry) -> None:
    for state, wanted in product(STATES, STATES):
        entry = make_entry(1, prompt=True, status=state)
        life.catalogue.upsert([entry])
        if wanted not in MOVES[state]:
            with pytest.raises(Conflict, match=f"learnware-1@1 is {state} and cannot become {wanted}, only "):
                life.move(entry.learnware, wanted, "somebody")
            assert life.catalogue.get([entry.learnware.id]) == [entry.learnware]
            continue
        moved = life.move(entry.learnware, wanted, "somebody", "so it is")
        assert moved == entry.learnware.model_copy(update={"status": wanted})
        (row,) = life.catalogue.fetch([moved.id])
        assert (row.learnware, row.file) == (moved, entry.specification.to_bytes())
        assert row.text_vector is not None
        last = life.history.changes(limit=1)[0]
        assert (last.learnware, last.name, last.version) == (moved.id, "learnware-1", 1)
        assert (last.state, last.who, last.why) == (wanted, "somebody", "so it is")
    assert len(life.history.changes()) == sum(map(len, MOVES.values()))


def test_a_move_goes_by_the_state_that_the_catalogue_holds(life: LifeCycle, make_entry: MakeEntry) -> None:
    entry = make_entry(1)
    with pytest.raises(NotFound, match="learnware-1@1 was removed meanwhile"):
        life.move(entry.learnware, "retired", "somebody")
    life.catalogue.upsert([entry])
    life.move(entry.learnware, "quarantined", "somebody")
    with pytest.raises(Conflict, match="is quarantined and cannot become quarantined"):
        life.move(entry.learnware, "quarantined", "somebody")
    with pytest.raises(InvalidInput, match="why: "):
        life.move(entry.learnware, "published", "somebody", "\x1b")
    assert life.catalogue.get([entry.learnware.id])[0].status == "quarantined"
    require_move(entry.learnware, "retired")


def test_deleting_removes_point_and_artefact_and_is_recorded(life: LifeCycle, make_entry: MakeEntry) -> None:
    gone, stays, elsewhere = (make_entry(seed) for seed in range(3))
    life.catalogue.upsert([gone, stays, elsewhere])
    for entry in (gone, stays):
        life.store.put(entry.learnware.id, {"file": b"x"})
    life.delete(gone.learnware, "somebody", "a wish")
    life.delete(elsewhere.learnware, "somebody")
    assert life.catalogue.count() == 1
    assert list(life.store.ids()) == [stays.learnware.id]
    assert [path.name for path in life.store.root.iterdir() if path.name.startswith(".")] == []
    assert [(one.name, one.state, one.why) for one in life.history.changes()] == [
        ("learnware-2", "deleted", ""),
        ("learnware-0", "deleted", "a wish"),
    ]
    with pytest.raises(NotFound, match="removed meanwhile"):
        life.delete(gone.learnware, "somebody")


def test_references(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    old, new, held = (
        make_entry(1, name="x", version=1),
        make_entry(2, name="x", version=2),
        make_entry(3, name="x", version=3, status="checked"),
    )
    lost = make_entry(4, name="y", version=7, status="retired")
    catalogue.upsert([old, new, held, lost])
    wanted = {"x": new, "x@1": old, "x@2": new, "x@3": held, "y": lost, "y@7": lost}
    for entry in (old, held, lost):
        wanted |= {entry.learnware.id: entry, entry.learnware.engine_name: entry}
    for reference, entry in wanted.items():
        assert find_learnware(catalogue, reference) == entry.learnware, reference
    for nothing in ("", "z", "x@", "x@4", "x@01", "x@1@1", "y@1", "f" * 64, "x\n", "\ud800", "x@\ud800", "../x"):
        assert find_learnware(catalogue, nothing) is None
    assert versions_of(catalogue, "x") == [new.learnware, old.learnware, held.learnware]
