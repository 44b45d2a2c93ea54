"""The async twin: every endpoint as the sync client has it, over a real socket, many at once."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

import slmdock
from catalogue import Card, parse_filter
from serving import AsyncDockClient, DockClient, GatewayParts
from serving.call import Endpoint
from serving.endpoints import Endpoints
from specification.errors import EngineError, InvalidAdapter, InvalidInput, NotFound
from tests.serving.conftest import Sketch, TinyDock
from tests.serving.doubles import EngineDouble

Serving = Callable[[GatewayParts], AbstractContextManager[str]]


@pytest.fixture
def url(dock: TinyDock, double: EngineDouble, serving: Serving) -> Iterator[str]:
    with serving(dock.parts(double)) as url:
        yield url


@pytest.fixture
def empty_url(empty_dock: TinyDock, double: EngineDouble, serving: Serving) -> Iterator[str]:
    """A dock without learnwares."""
    with serving(empty_dock.parts(double)) as url:
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncDockClient]:
    async with AsyncDockClient(url) as client:
        yield client


async def test_reads_what_the_sync_client_reads(client: AsyncDockClient, dock: TinyDock, sketch: Sketch) -> None:
    catalogue, where = dock.indexer.catalogue, parse_filter("domain=law|space")
    task = await client.register_task(sketch("law"))
    assert await client.task(task.id) == task
    assert await client.health()
    assert await client.learnwares(where, limit=1) == catalogue.scroll(where, limit=1)
    assert await client.find("about space", 2) == dock.retriever.find("about space", 2)
    assert await client.facets("domain") == {"cooking": 1, "law": 1, "space": 1}
    assert await client.specification_file("law") == sketch("law").to_bytes()
    there, here = await client.search(sketch("law"), 2), dock.retriever.search(sketch("law"), 2)
    assert (there.ranked, there.decision) == (here.ranked, here.decision)
    everyone = await client.trial_candidates(sketch("law"), top=2)
    assert everyone.candidates[0].name == "law"
    assert (await client.live()).dock.learnwares == 3


async def test_routes_as_the_sync_client_does(client: AsyncDockClient, sketch: Sketch) -> None:
    task = await client.register_task(sketch("law"))
    by_task = await client.route("Does the contract bind me?", f"task:{task.id}")
    assert (by_task.kind, by_task.learnware) == ("task", task.learnware)
    by_text = await client.route([{"role": "user", "content": "Does the contract bind me?"}])
    assert by_text.kind in ("auto", "none-fits")
    with DockClient(client.url) as sync:
        same = await asyncio.to_thread(sync.route, "Does the contract bind me?", f"task:{task.id}")
        assert await asyncio.to_thread(sync.task, task.id) == task
    assert same.model == by_task.model


async def test_the_map_and_a_task_s_place_on_it(client: AsyncDockClient, sketch: Sketch) -> None:
    for _ in range(3000):
        if (found := await client.map()) is not None:
            break
        await asyncio.sleep(0.02)
    assert found is not None
    own = found.references.index("law@1")
    assert await client.place(sketch("law")) == (found.x[own], found.y[own])


async def test_many_at_once(client: AsyncDockClient) -> None:
    names = ["law", "space", "cooking"] * 8
    assert [one.name for one in await asyncio.gather(*map(client.learnware, names))] == names


async def test_submits(empty_url: str, empty_dock: TinyDock, adapters: dict[str, Path], sketch: Sketch) -> None:
    async with AsyncDockClient(empty_url) as client:
        learnware = await client.submit(adapters["law"], sketch("law"), Card(name="law"), "checked")
        assert learnware.status == "checked"
        assert (await client.move("law", "published")).status == "published"
        assert {change.state for change in await client.history("law")} >= {"submitted", "published"}
        with pytest.raises(InvalidAdapter, match=r"adapter_config\.json"):
            await client.submit(empty_dock.folder, sketch("law"), Card(name="law"))
    assert empty_dock.indexer.catalogue.get([learnware.id])[0].name == "law"


async def test_errors_keep_their_class(client: AsyncDockClient, free_url: str) -> None:
    with pytest.raises(NotFound, match="nobody"):
        await client.learnware("nobody")
    with pytest.raises(NotFound, match="no learnware"):
        await client.learnware("..")
    with pytest.raises(NotFound, match="not registered"):
        await client.task("0" * 16)
    with pytest.raises(InvalidInput, match="query"):
        await client.find("\ud800")
    async with AsyncDockClient(free_url) as silent:
        assert not await silent.health()
        with pytest.raises(EngineError, match=free_url):
            await silent.learnwares()
    stranger = httpx.MockTransport(lambda request: httpx.Response(200, html="<html>A router</html>"))
    async with AsyncDockClient("http://stranger", stranger) as other:
        with pytest.raises(EngineError, match="what answers at http://stranger is no dock"):
            await other.learnwares()
    with pytest.raises(InvalidInput, match="dock URL"):
        AsyncDockClient("http://::1:8000")


def test_every_endpoint_is_there_once() -> None:
    described = {name: kind for name, kind in vars(Endpoints).items() if isinstance(kind, Endpoint)}
    assert {"search", "route", "submit", "register_task", "trial_candidates"} <= described.keys()
    for client in (DockClient, AsyncDockClient):
        assert not described.keys() & vars(client).keys()
    sync, twin = ({name for name in dir(kind) if name[0] != "_"} for kind in (DockClient, AsyncDockClient))
    assert sync == twin


def test_the_clients_are_slmdock_s() -> None:
    assert (slmdock.Client, slmdock.AsyncClient) == (DockClient, AsyncDockClient)
    with pytest.raises(AttributeError, match="Clint"):
        slmdock.Clint  # noqa: B018


def test_help_and_signature_are_those_of_the_endpoint(free_url: str) -> None:
    with DockClient(free_url) as client:
        search: Any = client.search
        assert "Retriever.search" in str(search.__doc__)
        assert list(inspect.signature(search).parameters)[1:] == ["task", "limit", "where"]
