"""Which replica answers, what happens when one fails, and what the pool knows of their memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from serving import Pool, PoolConfig
from serving.engine import AdapterUnavailable, EngineAnswer, EnginesDown, EngineUnreachable, Route
from specification.errors import EngineError, InvalidInput
from tests.serving.doubles import EVENTS, EngineDouble

BASE = "tiny-base"
QUICK = PoolConfig(interval=0.01)


class Counting(EngineDouble):
    """A double with a memory of ``max_cpu_loras`` adapters; ``mode`` may also be gone, refuse, sick."""

    def __init__(self, max_cpu_loras: int = 8) -> None:
        super().__init__(BASE)
        self.max_cpu_loras = max_cpu_loras
        self.corrupt = ""
        self.started = self.stopped = 0

    async def start(self) -> None:
        self.started += 1
        self.starts += 1
        await super().start()

    async def stop(self) -> None:
        self.stopped += 1

    async def healthy(self) -> bool:
        return self.mode not in ("dead", "gone", "sick")

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        if self.mode == "gone":
            raise EngineUnreachable("nobody listens")
        if self.mode == "refuse" or body["model"] == self.corrupt:
            self.bodies.append(body)
            raise AdapterUnavailable("its weights are broken")
        if self.mode == "sick":
            return EngineAnswer(500, "application/json", _nothing())
        return await super().post(route, body)

    @property
    def asked(self) -> list[object]:
        return [body["model"] for body in self.bodies]


async def _nothing() -> AsyncIterator[bytes]:
    yield b"{}"


@asynccontextmanager
async def started(*engines: EngineDouble, config: PoolConfig = QUICK) -> AsyncIterator[Pool]:
    pool = Pool(engines, config)
    await pool.start()
    await until(
        lambda: all(replica.up for replica in pool.replicas) or any(one.mode != "answer" for one in engines)
    )
    try:
        yield pool
    finally:
        await pool.stop()


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happened():
            await asyncio.sleep(0.005)


def adapter(number: int) -> str:
    return f"one@{number:016x}"


async def ask(pool: Pool, model: str, **fields: object) -> EngineAnswer:
    return await pool.post("completions", {"model": model, "prompt": "a", **fields})


async def asked(pool: Pool, model: str) -> None:
    await (await ask(pool, model)).read()


async def test_an_adapter_stays_where_it_is_and_adapters_spread() -> None:
    engines = [Counting(64) for _ in range(3)]
    async with started(*engines) as pool:
        for _ in range(3):
            for number in range(60):
                await asked(pool, adapter(number))
    where = [set(engine.asked) for engine in engines]
    assert not where[0] & where[1]
    assert not where[1] & where[2]
    assert all(10 <= len(one) <= 30 for one in where)


async def test_a_replica_that_leaves_moves_only_its_own_adapters() -> None:
    engines = [Counting(64) for _ in range(3)]
    async with started(*engines) as pool:
        for number in range(60):
            await asked(pool, adapter(number))
        before = [set(engine.asked) for engine in engines]
        engines[0].mode = "gone"
        for number in range(60):
            await asked(pool, adapter(number))
    after = [set(engine.asked) for engine in engines]
    assert before[1] <= after[1]
    assert before[2] <= after[2]
    assert (after[1] | after[2]) - before[1] - before[2] == before[0]
    assert before[0] & after[1]
    assert before[0] & after[2]


async def test_the_base_model_goes_where_least_is_in_flight() -> None:
    engines = [Counting() for _ in range(2)]
    async with started(*engines) as pool:
        held = [await ask(pool, BASE) for _ in range(10)]
        assert [len(engine.bodies) for engine in engines] == [5, 5]
        for answer in held:
            await answer.close()
        assert [replica.in_flight for replica in pool.replicas] == [0, 0]


async def test_a_replica_above_the_bound_is_passed_over() -> None:
    engines = [Counting() for _ in range(4)]
    config = PoolConfig(interval=0.01, floor=4, bound=1.25)
    async with started(*engines, config=config) as pool:
        held = [await ask(pool, adapter(1)) for _ in range(80)]
        loads = [replica.in_flight for replica in pool.replicas]
        assert sum(loads) == 80
        assert max(loads) <= 1.25 * 80 / 4 + 1
        for answer in held:
            await answer.close()
            await answer.close()
        assert [replica.in_flight for replica in pool.replicas] == [0] * 4


async def test_few_requests_do_not_spread_an_adapter() -> None:
    engines = [Counting() for _ in range(4)]
    async with started(*engines) as pool:
        held = [await ask(pool, adapter(1)) for _ in range(8)]
        assert sorted(len(engine.bodies) for engine in engines) == [0, 0, 0, 8]
        for answer in held:
            await answer.close()


@pytest.mark.parametrize("mode", ["gone", "dead", "sick"])
async def test_a_failing_replica_s_requests_go_to_another(mode: str) -> None:
    engines = [Counting() for _ in range(2)]
    async with started(*engines) as pool:
        engines[0].mode = mode
        for number in range(20):
            await asked(pool, adapter(number))
        await until(lambda: not pool.replicas[0].up)
        assert await pool.healthy()
        engines[0].mode = "answer"
        await until(lambda: pool.replicas[0].up)
        assert [replica.in_flight for replica in pool.replicas] == [0, 0]
    assert len(set(engines[1].asked)) == 20


async def test_a_stream_that_breaks_before_its_first_byte_is_sent_elsewhere() -> None:
    class Silent(Counting):
        async def _events(self) -> AsyncIterator[bytes]:
            if self.mode == "silent":
                raise EngineError("died before a byte")
            async for event in super()._events():
                yield event

    engines = [Silent(), Silent()]
    async with started(*engines) as pool:
        engines[0].mode = "silent"
        for _ in range(4):
            assert await (await ask(pool, BASE, stream=True)).read() == b"".join(EVENTS)
        assert engines[0].closed >= 1
        assert [replica.in_flight for replica in pool.replicas] == [0, 0]


async def test_a_stream_that_breaks_later_is_an_error_and_others_go_on() -> None:
    engines = [Counting(), Counting()]
    async with started(*engines) as pool:
        first, second = await ask(pool, BASE, stream=True), await ask(pool, BASE, stream=True)
        engines[0].mode = "break"
        outcomes = await asyncio.gather(first.read(), second.read(), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [EngineError, bytes]
        assert [len(engine.bodies) for engine in engines] == [1, 1]


async def test_a_corrupt_adapter_fails_alone() -> None:
    engines = [Counting(), Counting()]
    async with started(*engines) as pool:
        await asked(pool, adapter(2))
        for engine in engines:
            engine.mode = "refuse"
        for _ in range(10):
            with pytest.raises(AdapterUnavailable):
                await ask(pool, adapter(1))
        assert len([one for engine in engines for one in engine.asked if one == adapter(1)]) == 10
        assert all(replica.up for replica in pool.replicas)
        for engine in engines:
            engine.mode = "answer"
        await asked(pool, adapter(2))
        assert not any(adapter(1) in replica.residency for replica in pool.replicas)


async def test_a_request_that_breaks_engines_off_does_not_reach_all() -> None:
    engines = [Counting() for _ in range(4)]
    async with started(*engines) as pool:
        for engine in engines:
            engine.mode = "dead"
        with pytest.raises(EnginesDown):
            await ask(pool, BASE)
        assert sum(len(engine.bodies) for engine in engines) == 2


async def test_all_down_and_back() -> None:
    engines = [Counting(), Counting()]
    async with started(*engines) as pool:
        for engine in engines:
            engine.mode = "gone"
        with pytest.raises(EnginesDown, match="nobody listens") as caught:
            await ask(pool, BASE)
        assert (caught.value.status, caught.value.retry_after) == (503, 5)
        await until(lambda: not any(replica.up for replica in pool.replicas))
        assert not await pool.healthy()
        engines[1].mode = "answer"
        await asked(pool, BASE)
        await until(lambda: pool.replicas[1].up)


async def test_one_replica_is_enough_to_start() -> None:
    late, quick = Counting(), Counting()
    late.mode = "dead"
    pool = Pool([late, quick], QUICK)
    await pool.start()
    await asked(pool, BASE)
    late.mode = "answer"
    await until(lambda: pool.replicas[0].up)
    assert late.started == 2
    await pool.stop()
    await pool.stop()
    assert not await pool.healthy()
    with pytest.raises(EnginesDown, match="none has started"):
        await ask(pool, BASE)


async def test_no_replica_starts() -> None:
    engines = [Counting(), Counting()]
    for engine in engines:
        engine.mode = "dead"
    with pytest.raises(EngineError, match="told not to start"):
        await Pool(engines, QUICK).start()
    assert [engine.stopped for engine in engines] == [1, 1]


async def test_what_nobody_foresaw_at_the_start_is_an_error_and_no_silence() -> None:
    class Odd(Counting):
        async def start(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(EngineError, match="ZeroDivisionError"):
        await Pool([Odd()], QUICK).start()


async def test_a_stop_while_starting() -> None:
    class Slow(Counting):
        async def start(self) -> None:
            await asyncio.sleep(3600)

    pool = Pool([Slow(), Slow()], QUICK)
    starting = asyncio.create_task(pool.start())
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await pool.stop()


@pytest.mark.parametrize("engines", [[], [EngineDouble("a"), EngineDouble("b")]])
def test_a_pool_has_one_base_model(engines: list[EngineDouble]) -> None:
    with pytest.raises(InvalidInput, match="one base model"):
        Pool(engines)


def test_limits_are_the_smallest_replica_s() -> None:
    engines = [Counting(8), Counting(4)]
    engines[0].max_lora_rank = 16
    pool = Pool(engines)
    assert (pool.max_cpu_loras, pool.max_lora_rank) == (4, 16)


async def test_a_restart_empties_the_account() -> None:
    engine = Counting()
    async with started(engine) as pool:
        await asked(pool, adapter(1))
        assert adapter(1) in pool.replicas[0].residency
        engine.starts += 1
        await until(lambda: len(pool.replicas[0].residency) == 0)


async def test_a_cancelled_request_is_not_in_flight() -> None:
    engine = Counting()
    async with started(engine) as pool:
        engine.mode = "hang"
        waiting = asyncio.create_task(asked(pool, BASE))
        await until(lambda: pool.replicas[0].in_flight == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert pool.replicas[0].in_flight == 0


async def test_warming_loads_once_and_only_what_is_not_there() -> None:
    engines = [Counting(), Counting()]
    async with started(*engines) as pool:
        pool.warm(adapter(1))
        pool.warm(adapter(1))
        await until(lambda: any(adapter(1) in replica.residency for replica in pool.replicas))
        pool.warm(adapter(1))
        await asyncio.sleep(0.02)
        bodies = [body for engine in engines for body in engine.bodies]
        assert bodies == [{"model": adapter(1), "prompt": "a", "max_tokens": 1}]


async def test_warming_never_fails_and_is_bounded() -> None:
    engine = Counting(4)
    async with started(engine) as pool:
        engine.mode = "refuse"
        for number in range(100):
            pool.warm(adapter(number))
        await until(lambda: not pool._loading)
        assert len(engine.bodies) == 4


async def test_a_pinned_adapter_outlives_a_flood_and_a_restart() -> None:
    engine = Counting(8)
    async with started(engine) as pool:
        pool.pin(adapter(0))
        await until(lambda: adapter(0) in pool.replicas[0].residency)
        for number in range(1, 60):
            await asked(pool, adapter(number))
            await asyncio.sleep(0)
            await until(lambda: not pool._loading)
            assert adapter(0) in pool.replicas[0].residency
        # It is touched as often as it comes near the end, not with each load.
        assert Counter(engine.asked)[adapter(0)] < 20
        engine.starts += 1
        await until(lambda: [one.adapter for one in pool.replicas[0].residency.residents()] == [adapter(0)])
        pool.unpin(adapter(0))
        for number in range(1, 10):
            await asked(pool, adapter(number))
        assert adapter(0) not in pool.replicas[0].residency


async def test_half_of_the_memory_can_be_pinned() -> None:
    async with started(Counting(4)) as pool:
        for number in (1, 2, 2):
            pool.pin(adapter(number))
        with pytest.raises(InvalidInput, match="2 adapters are pinned of 4"):
            pool.pin(adapter(3))
        assert pool.pins == (adapter(1), adapter(2))
