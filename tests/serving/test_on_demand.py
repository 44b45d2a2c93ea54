"""Engines that run only while they are used, within a budget."""

import asyncio
import time
from collections.abc import Callable

import pytest

from serving import TransformersConfig, TransformersEngine
from serving.engine import LearnwareUnavailable, NoMemoryNow
from serving.on_demand import Memory, OnDemand
from specification.errors import InvalidInput
from tests.serving.conftest import TinyDock
from tests.serving.doubles import EngineDouble
from tests.serving.tiny import BASE_NAME


class SlowDouble(EngineDouble):
    """Takes ``pause`` seconds to start."""

    def __init__(self, name: str, pause: float) -> None:
        super().__init__(name)
        self.pause = pause

    async def start(self) -> None:
        await asyncio.sleep(self.pause)
        await super().start()


class Shop:
    """Makes doubles for one model and counts them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mode = "answer"
        self.pause = 0.0
        self.made: list[EngineDouble] = []

    def __call__(self) -> EngineDouble:
        engine = SlowDouble(self.name, self.pause)
        engine.mode = self.mode
        self.made.append(engine)
        return engine


def models(memory: Memory, *names: str, idle: float = 600.0) -> list[tuple[Shop, OnDemand]]:
    return [(shop, OnDemand(shop, shop.name, 4, memory, idle)) for shop in map(Shop, names)]


async def ask(engine: OnDemand) -> bytes:
    return await (await engine.post("completions", {"model": engine.base_model, "prompt": "a"})).read()


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happened():
            await asyncio.sleep(0.005)


async def test_starts_once_on_the_first_requests() -> None:
    ((shop, engine),) = models(Memory(8), "a")
    await engine.start()
    assert shop.made == []
    assert await engine.healthy()
    await asyncio.gather(*(ask(engine) for _ in range(10)))
    assert len(shop.made) == 1
    await engine.stop()
    assert not engine.running


async def test_the_least_recently_used_idle_one_makes_room() -> None:
    memory = Memory(8)
    (_, first), (_, second), (_, third) = models(memory, "a", "b", "c")
    for engine in (first, second, first, third):
        await ask(engine)
        assert memory.used <= memory.budget
    assert [engine.running for engine in (first, second, third)] == [True, False, True]
    await ask(second)
    assert [engine.running for engine in (first, second, third)] == [False, True, True]


async def test_a_busy_one_is_not_stopped() -> None:
    memory = Memory(8)
    (_, first), (_, second), (_, third) = models(memory, "a", "b", "c")
    held = [await engine.post("completions", {"model": engine.base_model}) for engine in (first, second)]
    with pytest.raises(NoMemoryNow, match="4 bytes of memory are needed and 0 of 8") as caught:
        await ask(third)
    assert (caught.value.status, caught.value.retry_after) == (503, 10)
    await held[0].close()
    await held[0].close()
    await ask(third)
    assert [engine.running for engine in (first, second, third)] == [False, True, True]


async def test_stops_when_idle() -> None:
    ((shop, engine),) = models(Memory(8), "a", idle=0.02)
    await engine.start()
    await ask(engine)
    await until(lambda: not engine.running)
    await ask(engine)
    assert len(shop.made) == 2
    await engine.stop()


async def test_one_that_does_not_start_takes_no_memory_and_is_not_tried_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory(4)
    (shop, broken), (_, other) = models(memory, "a", "b")
    shop.mode = "dead"
    for _ in range(2):
        with pytest.raises(LearnwareUnavailable, match="a did not start; the dock's log says why") as caught:
            await ask(broken)
        assert (caught.value.status, caught.value.retry_after) == (503, 1)
    assert "told not to start" in caplog.text
    assert len(shop.made) == 1
    assert (memory.used, broken.idle) == (0, True)
    await ask(other)
    shop.mode = "answer"
    monkeypatch.setattr("serving.on_demand.time.monotonic", lambda now=time.monotonic: now() + 5)
    await ask(broken)


async def test_a_start_outlives_the_request_that_caused_it() -> None:
    ((shop, engine),) = models(Memory(4), "a")
    shop.pause = 0.05
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(engine), 0.01)
    assert (engine.running, engine.starting, engine.idle) == (False, True, True)
    await until(lambda: engine.running)
    await ask(engine)
    assert len(shop.made) == 1
    await engine.stop()


async def test_stops_while_it_starts() -> None:
    ((shop, engine),) = models(Memory(4), "a")
    shop.pause = 60
    asked = asyncio.create_task(ask(engine))
    await until(lambda: bool(shop.made))
    await engine.stop()
    with pytest.raises(LearnwareUnavailable, match="stopped while it started"):
        await asked
    assert not engine.running
    assert not engine.starting


async def test_warming_takes_free_memory_only() -> None:
    (_, first), (_, second), (_, third) = models(Memory(8), "a", "b", "c")
    for engine in (first, second, third):
        engine.warm(engine.base_model)
    await until(lambda: first.running and second.running)
    third.warm("c")
    assert not third.starting
    assert not third.running


def test_one_that_can_never_fit() -> None:
    with pytest.raises(InvalidInput, match="takes 4 bytes, the budget is 3"):
        models(Memory(3), "a")


async def test_with_a_real_model(dock: TinyDock) -> None:
    config = TransformersConfig(dock.base, BASE_NAME, dock.store)
    engine = OnDemand(lambda: TransformersEngine(config), BASE_NAME, 1, Memory(1))
    answer = await engine.post("completions", {"model": BASE_NAME, "prompt": "the", "max_tokens": 2})
    assert b"text_completion" in await answer.read()
    await engine.stop()
