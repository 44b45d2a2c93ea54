"""Learnwares that are whole models, through the gateway: found, started on demand, refused, stopped."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from catalogue import Card, Learnware
from serving import DockClient, GatewayParts, Pool, TransformersConfig, TransformersEngine, create_app
from serving.whole_models import WholeModels
from specification import SentenceEncoder
from specification.errors import InvalidInput, NotFound
from tests.serving import tiny
from tests.serving.conftest import Sketch, TinyDock, open_dock, running, sentences
from tests.serving.doubles import EngineDouble

BUSY = {"prompt": "x", "stream": True}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny.build_base(root / name, seed) for seed, name in enumerate(("law", "space"), 20)}


@pytest.fixture(scope="module")
def mixed(
    tmp_path_factory: pytest.TempPathFactory,
    base: Path,
    encoder: SentenceEncoder,
    adapters: dict[str, Path],
    folders: dict[str, Path],
    sketch: Sketch,
) -> Iterator[TinyDock]:
    """A dock with one adapter, ``cooking``, and two whole models, ``law`` and ``space``."""
    with open_dock(tmp_path_factory.mktemp("mixed"), base, encoder) as dock:
        for topic, folder in {"cooking": adapters["cooking"], **folders}.items():
            dock.indexer.submit(folder, sketch(topic), Card(name=topic, domain=topic))
        yield dock


@pytest.fixture
def found(mixed: TinyDock) -> dict[str, Learnware]:
    return {one.name: one for one in mixed.indexer.catalogue.scroll().learnwares}


class Shop:
    """A gateway over doubles, with memory for so many whole models."""

    def __init__(self, dock: TinyDock, room: float = 2) -> None:
        self.mode = "answer"
        self.base = EngineDouble(tiny.BASE_NAME)
        self.made: dict[str, list[EngineDouble]] = {}
        largest = max(one.adapter_bytes for one in dock.indexer.catalogue.scroll().learnwares)
        self.whole = WholeModels(dock.indexer.store, self.make, int(room * largest), idle_seconds=600)
        self.parts = replace(dock.parts(self.base), whole=self.whole)

    def make(self, name: str, folder: Path) -> EngineDouble:
        assert (folder / "model.safetensors").is_file()
        engine = EngineDouble(name)
        engine.mode = self.mode
        self.made.setdefault(name, []).append(engine)
        return engine


@asynccontextmanager
async def client(parts: GatewayParts) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(parts), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://dock") as opened:
        yield opened
    if parts.whole is not None:
        await parts.whole.stop()


async def ask(gateway: httpx.AsyncClient, model: str, prompt: str = "x") -> httpx.Response:
    return await gateway.post("/v1/completions", json={"model": model, "prompt": prompt})


async def test_started_by_the_first_request_under_any_of_its_names(
    mixed: TinyDock, found: dict[str, Learnware]
) -> None:
    shop, law = Shop(mixed), found["law"]
    async with client(shop.parts) as gateway:
        assert (await gateway.get("/ready")).json()["ready"]
        assert shop.made == {}
        for name in ("law", law.id, law.engine_name):
            answer = await ask(gateway, name)
            assert (answer.status_code, answer.json()["model"]) == (200, law.engine_name)
            assert answer.headers["x-slmdock-learnware"] == law.id
        assert [len(engines) for engines in shop.made.values()] == [1]
        assert shop.base.bodies == []
        assert law.engine_name in {one["id"] for one in (await gateway.get("/v1/models")).json()["data"]}
        (one,) = (await gateway.get("/v1/residency")).json()["whole"]["models"]
        assert (one["model"], one["up"], one["bytes"], one["in_flight"]) == (
            law.engine_name, True, law.adapter_bytes, 0,
        )  # fmt: skip
        assert (await gateway.get("/v1/live")).json()["dock"]["whole"]["used"] == law.adapter_bytes
        scraped = (await gateway.get("/metrics")).text
        assert "slmdock_whole_models_running 1.0" in scraped
        assert law.engine_name not in scraped
        refused = await gateway.put("/v1/residency/pins/law")
        assert (refused.status_code, "only adapters are pinned" in refused.text) == (400, True)


async def test_a_prompt_and_a_task_choose_a_whole_model(
    mixed: TinyDock, found: dict[str, Learnware], sketch: Sketch
) -> None:
    shop = Shop(mixed)
    async with client(shop.parts) as gateway:
        prompt = sentences("law")[3]
        decided = (await gateway.post("/v1/route", json={"input": prompt})).json()
        assert (decided["learnware"], decided["base_model"]) == (found["law"].id, "none")
        answer = await ask(gateway, "auto", prompt)
        assert answer.headers["x-slmdock-model"] == found["law"].engine_name
        task = (await gateway.post("/v1/tasks", content=sketch("space").to_bytes())).json()
        # Registering it has begun the start.
        assert shop.whole.engine_of(found["space"].engine_name).starting
        answer = await ask(gateway, f"task:{task['id']}")
        assert (answer.json()["model"], answer.headers["x-slmdock-decision"]) == (
            found["space"].engine_name, "task",
        )  # fmt: skip
        assert (await ask(gateway, "auto", sentences("cooking")[1])).json()["model"] == found[
            "cooking"
        ].engine_name
        assert [body["model"] for body in shop.base.bodies] == [found["cooking"].engine_name]


async def test_without_a_budget_a_name_is_refused_with_the_cure_and_a_prompt_goes_elsewhere(
    mixed: TinyDock,
) -> None:
    parts = mixed.parts(EngineDouble(tiny.BASE_NAME))
    async with client(parts) as gateway:
        answer = await ask(gateway, "law")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert "restart 'slmdock serve' with --model-gib" in answer.json()["error"]["message"]
        assert "law@" not in (await gateway.get("/v1/models")).text
        answer = await ask(gateway, "auto", sentences("law")[3])
        assert (answer.json()["model"], answer.headers["x-slmdock-decision"]) == (tiny.BASE_NAME, "none-fits")
        assert (await gateway.get("/v1/residency")).json()["whole"] is None


async def test_one_beyond_the_budget(mixed: TinyDock) -> None:
    shop = Shop(mixed, room=0.5)
    async with client(shop.parts) as gateway:
        answer = await ask(gateway, "law")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "learnware_unavailable")
        assert "larger --model-gib" in answer.json()["error"]["message"]
        answer = await ask(gateway, "auto", sentences("law")[3])
        assert (answer.json()["model"], answer.headers["x-slmdock-cause"]) == (tiny.BASE_NAME, "adapter")
        assert shop.made == {}


async def test_no_memory_while_others_answer(mixed: TinyDock, found: dict[str, Learnware]) -> None:
    shop = Shop(mixed, room=1)
    shop.mode = "pause"
    async with client(shop.parts) as gateway:
        busy = asyncio.create_task(gateway.post("/v1/completions", json={"model": "law", **BUSY}))
        law = shop.whole.engine_of(found["law"].engine_name)
        while not law.running:
            await asyncio.sleep(0.005)
        answer = await ask(gateway, "space")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert answer.json()["error"]["code"] == "no_memory_now"
        answer = await ask(gateway, "auto", sentences("space")[3])
        assert (answer.json()["model"], answer.headers["x-slmdock-decision"]) == (tiny.BASE_NAME, "fallback")
        assert "bytes of memory are needed" in answer.headers["x-slmdock-reason"]
        assert (await busy).status_code == 200
        answer = await ask(gateway, "space")
        assert answer.status_code == 200
        assert not law.running


async def test_one_that_does_not_start(mixed: TinyDock) -> None:
    shop = Shop(mixed)
    shop.mode = "dead"
    async with client(shop.parts) as gateway:
        answer = await ask(gateway, "law")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "told not to start" not in answer.text
        answer = await ask(gateway, "auto", sentences("law")[3])
        assert (answer.status_code, answer.json()["model"]) == (200, tiny.BASE_NAME)
        assert (await gateway.get("/ready")).status_code == 200


async def test_one_that_died(mixed: TinyDock, found: dict[str, Learnware]) -> None:
    shop = Shop(mixed)
    async with client(shop.parts) as gateway:
        assert (await ask(gateway, "law")).status_code == 200
        (engine,) = shop.made[found["law"].engine_name]
        engine.mode = "dead"
        answer = await ask(gateway, "law")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        answer = await ask(gateway, "auto", sentences("law")[3])
        assert (answer.status_code, answer.json()["model"]) == (200, tiny.BASE_NAME)
        assert answer.headers["x-slmdock-cause"] == "adapter"
        engine.mode = "answer"
        assert (await ask(gateway, "law")).status_code == 200


async def test_one_that_was_lost_from_the_store(mixed: TinyDock, found: dict[str, Learnware]) -> None:
    shop = Shop(mixed)
    store = mixed.indexer.store
    place = store.path_of(found["law"].id)
    aside = place.rename(store.root / "aside")
    async with client(shop.parts) as gateway:
        try:
            answer = await ask(gateway, "law")
            assert (answer.status_code, "submit it again" in answer.text) == (503, True)
            assert (await ask(gateway, "auto", sentences("law")[3])).json()["model"] == tiny.BASE_NAME
        finally:
            aside.rename(place)
        assert (await ask(gateway, "law")).status_code == 200


@pytest.mark.parametrize("choices", [None, ["yes", "no"]])
async def test_a_trial_with_real_models_of_which_one_fits_at_a_time(
    mixed: TinyDock, found: dict[str, Learnware], sketch: Sketch, choices: list[str] | None
) -> None:
    base = TransformersEngine(TransformersConfig(mixed.base, tiny.BASE_NAME, mixed.store))

    def make(name: str, folder: Path) -> Pool:
        return Pool([TransformersEngine(TransformersConfig(folder, name, mixed.store, dtype="auto"))])

    largest = max(one.adapter_bytes for one in found.values())
    whole = WholeModels(mixed.indexer.store, make, largest)
    parts = replace(mixed.parts(base), whole=whole)
    await base.start()
    try:
        async with client(parts) as gateway:
            task = (await gateway.post("/v1/tasks", content=sketch("cooking").to_bytes())).json()["id"]
            field = await gateway.post(f"/v1/tasks/{task}/trial/candidates", content=sketch("cooking").to_bytes())
            names = [one["model"] for one in field.json()["candidates"]]
            assert {one.engine_name for one in found.values()} == set(names[:-1])
            asked = {"models": names, "prompts": ["the fox", "a dog"], "max_tokens": 4, "choices": choices}
            answer = await gateway.post(f"/v1/tasks/{task}/trial", json=asked)
            assert answer.status_code == 200, answer.text
            results = answer.json()["answers"]
            assert [one["model"] for one in results] == names
            assert [one["error"] for one in results] == [""] * 4
            said = [json.dumps(one["likelihoods"] if choices else one["texts"]) for one in results]
            assert len(set(said)) == 4
            assert whole.memory.used <= whole.memory.budget
            alone = await gateway.post(
                "/v1/completions",
                json={"model": "law", "prompt": "the fox", "max_tokens": 4, "temperature": 0},
            )
            if choices is None:
                assert (
                    alone.json()["choices"][0]["text"]
                    == results[names.index(found["law"].engine_name)]["texts"][0]
                )
    finally:
        await base.stop()


def test_submitted_through_the_gateway_by_whoever_holds_the_store(
    empty_dock: TinyDock, folders: dict[str, Path], sketch: Sketch
) -> None:
    specification, card = sketch("law"), Card(name="law")
    with running(empty_dock.parts(EngineDouble(tiny.BASE_NAME))) as url:
        with DockClient(url) as stranger, pytest.raises(InvalidInput, match="on the dock's own machine"):
            stranger.submit(folders["law"], specification, card)
        with DockClient(url, store=empty_dock.indexer.store) as neighbour:
            learnware = neighbour.submit(folders["law"], specification, card)
            assert learnware.whole
            assert neighbour.learnware("law") == learnware
        form = {"card": card.model_dump_json().encode(), "specification": specification.to_bytes()}
        for id, status in (("ab" * 32, 404), ("../../x", 400), ("x" * 65, 413)):
            answer = httpx.post(f"{url}/learnwares", files=form | {"whole_model": id.encode()}, trust_env=False)
            assert answer.status_code == status
    assert empty_dock.indexer.catalogue.count() == 1
    with pytest.raises(NotFound):
        empty_dock.indexer.store.path_of("ab" * 32)


async def test_a_whole_model_that_is_quarantined_stops(
    empty_dock: TinyDock, folders: dict[str, Path], sketch: Sketch
) -> None:
    law = empty_dock.indexer.submit(folders["law"], sketch("law"), Card(name="law"))
    shop = Shop(empty_dock)
    async with client(shop.parts) as gateway:
        assert (await ask(gateway, "law")).status_code == 200
        assert shop.whole.memory.used == law.adapter_bytes
        moved = await gateway.post("/learnwares/law/state", json={"state": "quarantined"})
        assert moved.json()["status"] == "quarantined"
        assert (shop.whole.memory.used, shop.whole.memory.members) == (0, [])
        assert (await ask(gateway, "law")).status_code == 404
        assert (await gateway.delete("/learnwares/law")).json()["id"] == law.id
    assert list(empty_dock.indexer.store.ids()) == []
