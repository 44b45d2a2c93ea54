"""What users of other engines complain of, by its number in the list of complaints; each would fail there."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from catalogue import Learnware
from indexer import AdapterStore
from serving import Pool, PoolConfig, create_app
from serving.plan import Shapes, plan_slots, waste
from serving.tasks import Task
from serving.vllm_options import VllmConfig, command
from serving.warming import warm_task
from specification import SentenceEncoder, specify
from specification.errors import CatalogueError
from tests.serving.conftest import Sketch, TinyDock, sentences
from tests.serving.test_pool import BASE, Counting


@pytest.fixture
def engines() -> list[Counting]:
    return [Counting(), Counting()]


@pytest.fixture
async def pool(engines: list[Counting]) -> AsyncIterator[Pool]:
    pool = Pool(engines, PoolConfig(interval=0.01))
    await pool.start()
    await until(lambda: all(replica.up for replica in pool.replicas))
    yield pool
    await pool.stop()


@pytest.fixture
async def gateway(dock: TinyDock, pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(dock.parts(pool)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://dock") as client:
        yield client


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happened():
            await asyncio.sleep(0.005)


async def ask(gateway: httpx.AsyncClient, model: str) -> httpx.Response:
    return await gateway.post("/v1/completions", json={"model": model, "prompt": "a"})


def models(engine: Counting) -> list[object]:
    return [body["model"] for body in engine.bodies]


async def test_complaint_2_one_bad_adapter_blocks_nobody_behind_it(
    gateway: httpx.AsyncClient, engines: list[Counting], learnwares: dict[str, Learnware], pool: Pool
) -> None:
    """vllm#11702 crashed, gateway-api-inference-extension#584 blocked the queue."""
    bad = learnwares["law"].engine_name
    for engine in engines:
        engine.corrupt = bad
    asked = [ask(gateway, name) for name in ["law", "space", BASE, "cooking"] * 8]
    found = await asyncio.gather(*asked)
    assert [response.status_code for response in found] == [503, 200, 200, 200] * 8
    assert all(replica.up for replica in pool.replicas)
    assert all(bad not in replica.residency for replica in pool.replicas)


async def test_complaint_5_a_registered_task_is_loaded_before_its_first_request(
    gateway: httpx.AsyncClient,
    engines: list[Counting],
    sketch: Sketch,
    learnwares: dict[str, Learnware],
    pool: Pool,
) -> None:
    """vllm#8559, #18217: the first request waits for the load."""
    task = (await gateway.post("/v1/tasks", content=sketch("law").to_bytes())).json()
    name = learnwares["law"].engine_name
    await until(lambda: any(name in replica.residency for replica in pool.replicas))
    assert [body for engine in engines for body in engine.bodies] == [
        {"model": name, "prompt": "a", "max_tokens": 1}
    ]
    response = await ask(gateway, f"task:{task['id']}")
    assert response.headers["x-slmdock-model"] == name
    assert sorted(len(engine.bodies) for engine in engines) == [0, 2]


async def test_complaint_5_all_parts_of_a_mixture_are_loaded(
    gateway: httpx.AsyncClient, learnwares: dict[str, Learnware], encoder: SentenceEncoder, pool: Pool
) -> None:
    texts = [*sentences("cooking")[::2], *sentences("law")[::2]]
    await gateway.post("/v1/tasks", content=specify(texts, encoder).to_bytes())
    for name in ("cooking", "law"):
        adapter = learnwares[name].engine_name
        await until(lambda adapter=adapter: any(adapter in replica.residency for replica in pool.replicas))  # type: ignore[misc]


async def test_complaint_5_a_trial_s_winner_is_loaded(
    gateway: httpx.AsyncClient, learnwares: dict[str, Learnware], sketch: Sketch, pool: Pool
) -> None:
    task = (await gateway.post("/v1/tasks", content=sketch("cooking").to_bytes())).json()
    outcome = {
        "winner": learnwares["space"].id, "fit": 0.1, "score": 0.9, "low": 0.8, "high": 1.0, "probability": 0.9,
        "examples": 20,
    }  # fmt: skip
    response = await gateway.post(f"/v1/tasks/{task['id']}/trial/outcome", json=outcome)
    assert response.status_code == 200, response.text
    adapter = learnwares["space"].engine_name
    await until(lambda: any(adapter in replica.residency for replica in pool.replicas))


async def test_complaint_5_loading_ahead_never_fails_a_registration(
    gateway: httpx.AsyncClient, engines: list[Counting], sketch: Sketch, dock: TinyDock,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    for engine in engines:
        engine.mode = "gone"
    response = await gateway.post("/v1/tasks", content=sketch("law").to_bytes())
    assert response.status_code == 200
    task = Task.model_validate(response.json())
    await until(lambda: "was not loaded ahead" in caplog.text)

    def fail(*_: object) -> None:
        raise CatalogueError("gone")

    parts = dock.parts(*engines)
    monkeypatch.setattr(type(parts.catalogue), "get", fail)
    caplog.set_level(logging.WARNING)
    await warm_task(parts, task)
    assert "is not loaded ahead: gone" in caplog.text


def test_complaint_6_slots_come_from_the_catalogue_and_a_budget(dock: TinyDock, tmp_path: object) -> None:
    """vllm#20160, #17003: "users should compute it by themselves"."""
    shapes = Shapes({"q_proj": (4096, 4096), "down_proj": (14336, 4096)})
    plan = plan_slots([4, 8, 8, 16], shapes, budget=6 * shapes.slot_bytes(16))
    assert (plan.max_loras, plan.max_cpu_loras, plan.max_lora_rank) == (6, 6, 16)
    settings = VllmConfig(
        dock.base, BASE, AdapterStore(dock.store).root, dock.folder / "log", max_loras=plan.max_loras,
        max_cpu_loras=plan.max_cpu_loras, max_lora_rank=plan.max_lora_rank,
    )  # fmt: skip
    words = command(settings, dock.folder / "socket")
    assert words[words.index("--max-loras") + 1] == "6"


def test_complaint_6_waste_is_said() -> None:
    """vllm PR 22782: a limit above the real rank wastes memory in silence."""
    shapes = Shapes({"q_proj": (4096, 4096)})
    wasteful = plan_slots([8, 8, 4], shapes, 2**30, max_loras=100, max_lora_rank=64)
    rank, slots = waste(wasteful, [8, 8, 4], shapes)
    assert "max_lora_rank 64 is above the largest rank there is, 8: 8 would do and free" in rank
    assert "max_loras 100 for 3 adapters" in slots


async def test_complaint_7_idle_adapters_stay_visible(
    gateway: httpx.AsyncClient, engines: list[Counting], learnwares: dict[str, Learnware]
) -> None:
    """vllm#45325, llm-d-router#2605: with no request running, nobody knows what is loaded."""
    for name in ("law", "space", "law"):
        assert (await ask(gateway, name)).status_code == 200
    replicas = (await gateway.get("/v1/residency")).json()["replicas"]
    assert [one["in_flight"] for one in replicas] == [0, 0]
    held = {one["model"]: one for replica in replicas for one in replica["adapters"]}
    assert set(held) == {learnwares[name].engine_name for name in ("law", "space")}
    law = held[learnwares["law"].engine_name]
    assert law["loaded"] <= law["used"]
    assert law["uses"] >= 2
    assert not law["pinned"]
    assert all(replica["capacity"] == 8 and replica["up"] for replica in replicas)


async def test_complaint_7_requests_go_to_the_replica_that_holds_the_idle_adapter(
    gateway: httpx.AsyncClient, engines: list[Counting], learnwares: dict[str, Learnware], pool: Pool
) -> None:
    """production-stack#331: a loaded adapter is invisible at the router."""
    home = pool._order(learnwares["law"].engine_name)[0]
    home.up = home.started = False
    await ask(gateway, "law")
    home.up = home.started = True
    await ask(gateway, "law")
    assert sorted(len(engine.bodies) for engine in engines) == [0, 2]
    assert len(home.residency) == 0


async def test_complaint_7_pins(gateway: httpx.AsyncClient, learnwares: dict[str, Learnware], pool: Pool) -> None:
    name = learnwares["law"].engine_name
    pinned = await gateway.put("/v1/residency/pins/law")
    assert pinned.json() == {"base_model": BASE, "pinned": [name]}
    await until(lambda: any(name in replica.residency for replica in pool.replicas))
    replicas = (await gateway.get("/v1/residency")).json()["replicas"]
    assert [one["pinned"] for replica in replicas for one in replica["adapters"]] == [True]
    assert (await gateway.delete(f"/v1/residency/pins/{name}")).status_code == 204
    assert pool.pins == ()
    missing = await gateway.put("/v1/residency/pins/nobody")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
