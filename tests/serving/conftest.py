"""Fixtures for serving: a tiny base model, adapters on it, a dock that knows them, and live gateways."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from catalogue import Card, CatalogueSettings, IndexPlan, Learnware, open_catalogue
from indexer import AdapterStore, BaseModels, Indexer
from retriever import Retriever
from serving import Engine, GatewayParts, TaskStore, create_app, serve
from serving.telemetry import Telemetry
from specification import FeatureMap, SentenceEncoder, Specification, specify
from tests.serving import tiny
from tests.serving.doubles import EngineDouble

TOPICS = {
    "cooking": "How long do I {} the {} so that the sauce thickens and the soup stays warm?",
    "law": "Does the contract allow the tenant to {} the {} before the court has ruled on the lease?",
    "space": "Which orbit lets the rocket {} the {} while the satellite passes behind the planet?",
}
# A fourth topic, for what must not be near the others.
OTHER_TOPICS = {"harmed": "Will the goalkeeper {} the {} when the striker takes the penalty in extra time?"}
VERBS = ("turn", "keep", "move", "leave", "cover", "split", "weigh", "reach")
NOUNS = ("part", "rest", "first half", "left side", "whole thing", "second one")

Sketch = Callable[[str], Specification]


def sentences(topic: str) -> list[str]:
    """48 prompts of one topic."""
    return [(TOPICS | OTHER_TOPICS)[topic].format(verb, noun) for verb in VERBS for noun in NOUNS]


@dataclass(frozen=True)
class TinyDock:
    """Everything a gateway needs but an engine, in one folder."""

    folder: Path
    base: Path
    retriever: Retriever
    indexer: Indexer

    @property
    def store(self) -> Path:
        return self.indexer.store.root

    def parts(self, *engines: Engine, telemetry: Telemetry | None = None) -> GatewayParts:
        tasks = TaskStore(self.folder / "tasks")
        telemetry = telemetry or Telemetry()
        return GatewayParts(
            self.indexer.catalogue, self.retriever, self.indexer, engines, tasks, telemetry=telemetry
        )


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny base model."""
    return tiny.build_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One adapter's folder a topic."""
    root = tmp_path_factory.mktemp("adapters")
    return {topic: tiny.build_adapter(base, root / topic, seed) for seed, topic in enumerate(TOPICS)}


@pytest.fixture(scope="session")
def sketch(encoder: SentenceEncoder) -> Sketch:
    """Makes a topic's specification."""

    def make(topic: str) -> Specification:
        return specify(sentences(topic), encoder)

    return make


@contextmanager
def open_dock(folder: Path, base: Path, encoder: SentenceEncoder) -> Iterator[TinyDock]:
    """A new dock in ``folder``."""
    identity = encoder.identity
    settings = CatalogueSettings(
        encoder=identity,
        plan=IndexPlan(feature_map=FeatureMap(input_dimension=identity.dimension)),
        text_dimension=identity.dimension,
    )
    bases = BaseModels(folder / "bases.json")
    bases.add(tiny.BASE_NAME, base)
    (folder / "store").mkdir()
    with open_catalogue(folder / "catalogue", settings) as catalogue:
        indexer = Indexer(catalogue, AdapterStore(folder / "store"), bases, encoder)
        yield TinyDock(folder, base, Retriever(catalogue, encoder), indexer)


@pytest.fixture
def empty_dock(tmp_path: Path, base: Path, encoder: SentenceEncoder) -> Iterator[TinyDock]:
    """A dock without learnwares, to write to."""
    with open_dock(tmp_path, base, encoder) as dock:
        yield dock


@pytest.fixture(scope="session")
def dock(
    tmp_path_factory: pytest.TempPathFactory,
    base: Path,
    encoder: SentenceEncoder,
    adapters: dict[str, Path],
    sketch: Sketch,
) -> Iterator[TinyDock]:
    """A dock with one learnware a topic, named like it. Only to be read."""
    with open_dock(tmp_path_factory.mktemp("dock"), base, encoder) as dock:
        for topic, folder in adapters.items():
            card = Card(name=topic, domain=topic, description=f"about {topic}")
            dock.indexer.submit(folder, sketch(topic), card)
        yield dock


@pytest.fixture(scope="session")
def learnwares(dock: TinyDock) -> dict[str, Learnware]:
    """The dock's learnwares by name."""
    return {one.name: one for one in dock.indexer.catalogue.scroll().learnwares}


@pytest.fixture
def double() -> EngineDouble:
    return EngineDouble(tiny.BASE_NAME)


@pytest.fixture
async def gateway(dock: TinyDock, double: EngineDouble) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway whose engine is the double, without a network."""
    transport = httpx.ASGITransport(create_app(dock.parts(double)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://dock") as client:
        yield client


@asynccontextmanager
async def engine_server(complete: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """A server with completions and nothing else, for what an engine's requests carry; gives its URL."""
    app = web.Application()
    app.router.add_post("/v1/completions", complete)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@contextmanager
def running(parts: GatewayParts) -> Iterator[str]:
    """Serves the parts in a thread and gives the URL."""
    loop = asyncio.new_event_loop()
    up, urls = threading.Event(), list[str]()

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        finally:
            up.set()

    def ready(url: str) -> None:
        urls.append(url)
        up.set()

    task = loop.create_task(serve(parts, port=0, ready=ready))
    thread = threading.Thread(target=run)
    thread.start()
    try:
        up.wait()
        if task.done():
            task.result()
        yield urls[0]
    finally:
        if not task.done():
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture(scope="session")
def serving() -> Callable[[GatewayParts], AbstractContextManager[str]]:
    """Serves parts over a real socket for the length of a with statement."""
    return running


@pytest.fixture
def free_url() -> str:
    """A URL that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"
