"""Another index takes the old one's place while searches and writes go on: the same tests for both engines."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from catalogue import Catalogue, CatalogueSettings, EdgeCatalogue, Entry, IndexPlan
from catalogue.server import ServerCatalogue
from catalogue.server_collection import Collections, InUse
from specification import FeatureMap
from specification.errors import CatalogueError, InvalidInput
from tests.conftest import DIMENSION, make_specification

MakeEntry = Callable[..., Entry]
PLAN = IndexPlan.of("speed", FeatureMap(input_dimension=DIMENSION, dimension=64, seed=9))
COUNT = 40


@pytest.fixture
def client() -> QdrantClient:
    return QdrantClient(":memory:")


@pytest.fixture(params=["edge", "memory"])
def catalogue(
    request: pytest.FixtureRequest, tmp_path: Path, settings: CatalogueSettings, client: QdrantClient
) -> Iterator[Catalogue]:
    opened: Catalogue = (
        EdgeCatalogue.open(tmp_path / "catalogue", settings)
        if request.param == "edge"
        else ServerCatalogue(client, settings)
    )
    with opened:
        yield opened


@pytest.fixture
def server(client: QdrantClient, settings: CatalogueSettings, make_entry: MakeEntry) -> ServerCatalogue:
    opened = ServerCatalogue(client, settings)
    opened.upsert([make_entry(seed) for seed in range(COUNT)])
    return opened


def first(catalogue: Catalogue, seed: int) -> str:
    """The name of the learnware nearest to the task that one was made for."""
    return catalogue.near_task(make_specification(seed).reduced_set, 1)[0].learnware.name


def collections(client: QdrantClient) -> list[str]:
    return [item.name for item in client.get_collections().collections]


def test_searches_never_fail_nor_miss_while_another_index_takes_the_old_one_s_place(
    catalogue: Catalogue, make_entry: MakeEntry
) -> None:
    catalogue.upsert([make_entry(seed) for seed in range(COUNT)])
    found: list[object] = []
    over = threading.Event()

    def search() -> None:
        while not over.is_set():
            try:
                found.append((first(catalogue, 7), catalogue.count()))
            except Exception as error:
                found.append(error)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        catalogue.rebuild(PLAN)
        after = len(found)
        while len(found) < after + 3:
            assert thread.is_alive()
    finally:
        over.set()
        thread.join()
    assert set(found) == {("learnware-7", COUNT)}
    assert catalogue.settings.plan == PLAN


def test_what_is_written_meanwhile_is_in_the_new_index(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    catalogue.upsert([make_entry(seed, parameters=True, prompt=True) for seed in range(COUNT)])
    before = catalogue.settings.plan
    seen: list[tuple[int, int]] = []

    def write(done: int, total: int) -> None:
        if not seen:
            catalogue.upsert([make_entry(500), make_entry(3, description="anew")])
            catalogue.delete([make_entry(8).learnware.id])
            assert catalogue.settings.plan == before
        seen.append((done, total))

    revision = catalogue.revision
    catalogue.rebuild(PLAN, write)
    assert seen[-1][0] == seen[-1][1]
    assert catalogue.revision > revision + 2
    assert catalogue.count() == COUNT
    assert [first(catalogue, seed) for seed in (500, 3)] == ["learnware-500", "learnware-3"]
    assert first(catalogue, 8) != "learnware-8"
    assert catalogue.named("learnware-3").description == "anew"  # type: ignore[union-attr]
    catalogue.upsert([make_entry(600)])
    assert first(catalogue, 600) == "learnware-600"
    rows = [row for batch in catalogue.rows(7) for row in batch]
    assert len(rows) == len({row.learnware.id for row in rows}) == COUNT + 1


def test_a_plan_for_another_encoder_is_refused(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    before = catalogue.settings
    with pytest.raises(InvalidInput, match=f"takes 3-d points, the encoder makes {DIMENSION}-d"):
        catalogue.rebuild(IndexPlan(feature_map=FeatureMap(input_dimension=3)))
    assert catalogue.settings == before


def test_a_public_name_is_an_alias_and_the_plan_comes_back_with_it(
    server: ServerCatalogue, client: QdrantClient
) -> None:
    assert collections(client) == ["learnwares-00000000"]
    server.rebuild(PLAN)
    (name,) = collections(client)
    assert name != "learnwares-00000000"
    again = ServerCatalogue(client, None)
    assert again.settings.plan == PLAN
    assert (again.count(), first(again, 5)) == (COUNT, "learnware-5")


def test_another_gateway_goes_on_with_the_new_index_and_its_own_map(
    server: ServerCatalogue, client: QdrantClient, make_entry: MakeEntry
) -> None:
    other = ServerCatalogue(client, None)
    revision = other.revision
    server.rebuild(PLAN)
    assert first(other, 5) == "learnware-5"
    assert other.settings.plan == PLAN
    assert other.revision > revision
    late = ServerCatalogue(client, None)
    server.rebuild(PLAN.model_copy(update={"feature_map": FeatureMap(input_dimension=DIMENSION, dimension=32)}))
    late.upsert([make_entry(77)])
    assert first(server, 77) == "learnware-77"
    # One that was left behind rebuilds what is in use, and not what it knew.
    other.rebuild(PLAN)
    assert other.count() == COUNT + 1


def test_a_failed_rebuild_leaves_the_old_index_in_use_and_nothing_behind(
    server: ServerCatalogue, client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = server.settings

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    for name in ("_put", "_switch"):
        with monkeypatch.context() as patch:
            patch.setattr(server, name, fail)
            with pytest.raises(CatalogueError, match="cannot make an index: the disk is full"):
                server.rebuild(PLAN)
        assert collections(client) == ["learnwares-00000000"]
        assert (server.settings, first(server, 5)) == (before, "learnware-5")


def test_a_switch_whose_answer_is_lost_removes_nothing_in_use(
    server: ServerCatalogue, client: QdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = Collections.use

    def lost(self: Collections, collection: str) -> None:
        use(self, collection)
        raise OSError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Collections, "use", lost)
        with pytest.raises(CatalogueError, match="no answer"):
            server.rebuild(PLAN)
    assert ServerCatalogue(client, None).settings.plan == PLAN
    assert ServerCatalogue(client, None).count() == COUNT
    assert server.count() == COUNT
    server.rebuild(PLAN)
    assert len(collections(client)) == 1


def test_what_an_interrupted_rebuild_left_is_removed_by_the_next_and_nothing_else(
    server: ServerCatalogue, client: QdrantClient, settings: CatalogueSettings
) -> None:
    left = server._collections.create(settings, server._in_use.collection)
    foreign = ServerCatalogue(client, settings, "learnwares-0badcafe")
    client.create_collection("learnwares-1badcafe", vectors_config={})
    server.rebuild(PLAN)
    found = set(collections(client))
    assert left.collection not in found
    assert {"learnwares-0badcafe-00000000", "learnwares-1badcafe"} < found
    assert len(found) == 3
    assert foreign.count() == 0


def test_many_writes_meanwhile_are_repeated_and_the_last_ones_before_the_switch(
    server: ServerCatalogue, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalogue.server.BATCH", 4)
    repeat = ServerCatalogue._repeat
    late = [make_entry(seed) for seed in range(300, 303)]

    def busy(self: ServerCatalogue, new: InUse) -> None:
        if late:
            self.upsert([late.pop()])
        repeat(self, new)

    def write(done: int, total: int) -> None:
        server.upsert([make_entry(seed) for seed in range(200, 220)])
        server.delete([make_entry(seed).learnware.id for seed in range(10)])

    monkeypatch.setattr(ServerCatalogue, "_repeat", busy)
    server.rebuild(PLAN, write)
    expected = [*range(10, COUNT), *range(200, 220), 302, 301]
    assert sorted(item.name for item in server.everything()) == sorted(f"learnware-{seed}" for seed in expected)
    assert first(server, 302) == "learnware-302"


def test_a_collection_that_is_no_alias_is_not_rebuilt(
    client: QdrantClient, settings: CatalogueSettings, server: ServerCatalogue
) -> None:
    plain = Collections(client, "plain", server._collections._sharding)
    plain._create("plain", settings, plain._sharding)
    with pytest.raises(CatalogueError, match="collection plain is no alias"):
        ServerCatalogue(client, settings, "plain").rebuild(PLAN)
