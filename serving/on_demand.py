"""Engines that run only while they are used: for whole models, of which a dock may know more than fit in memory.

``OnDemand`` is an engine around a factory; its first request starts it, and it is stopped once idle. ``Memory`` is
shared by several of them: before one starts, the least recently used idle ones are stopped until it fits.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from serving.engine import Engine, EngineAnswer, EnginesDown, Route
from specification.errors import InvalidInput

log = logging.getLogger(__name__)


class NoMemoryNow(EnginesDown):
    """An engine cannot start since others, all of them busy, take the memory."""

    retry_after = 10


class Memory:
    """A budget in bytes, and the engines that share it."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.members: list[OnDemand] = []
        self.lock = asyncio.Lock()

    @property
    def used(self) -> int:
        """The bytes of the engines that run."""
        return sum(one.size for one in self.members if one.running)

    async def make_room(self, size: int) -> None:
        """Stops idle engines, least recently used first, until ``size`` bytes are free; needs the lock.

        Raises:
            NoMemoryNow: those that are busy leave too little.
        """
        idle = sorted((one for one in self.members if one.running and one.idle), key=lambda one: one.used_at)
        enough = self.used - sum(one.size for one in idle) + size <= self.budget
        for one in idle if enough else ():
            # While another was stopped, this one may have been asked.
            if self.used + size > self.budget and one.idle:
                await one.shut()
        if self.used + size > self.budget:
            raise NoMemoryNow(
                f"{size} bytes of memory are needed and {self.budget - self.used} of {self.budget} are free while "
                "other models answer; try again soon"
            )


class OnDemand(Engine):
    """Starts its engine on the first request, stops it after ``idle_seconds`` without one."""

    def __init__(
        self,
        factory: Callable[[], Engine],
        base_model: str,
        size: int,
        memory: Memory,
        idle_seconds: float = 600.0,
    ) -> None:
        """``size`` is what the engine takes in bytes while it runs.

        Raises:
            InvalidInput: it would never fit the budget.
        """
        if size > memory.budget:
            raise InvalidInput(
                f"{base_model!r} takes {size} bytes, the budget is {memory.budget}; raise the budget"
            )
        self.base_model = base_model
        self.size = size
        self.idle_seconds = idle_seconds
        self.in_flight = 0
        self.used_at = time.monotonic()
        self._factory = factory
        self._memory = memory
        self._engine: Engine | None = None
        self._sweeper: asyncio.Task[None] | None = None
        memory.members.append(self)

    @property
    def running(self) -> bool:
        """Whether it takes memory."""
        return self._engine is not None

    @property
    def idle(self) -> bool:
        """Whether it may be stopped."""
        return self.in_flight == 0

    async def start(self) -> None:
        """Gets ready to start the engine when it is asked for."""
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Stops the engine if it runs."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        async with self._memory.lock:
            await self.shut()

    async def healthy(self) -> bool:
        """Tells whether a request would be answered, by an engine that still has to start if need be."""
        return self._engine is None or await self._engine.healthy()

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        """Sends the request, to an engine that is started first if it does not run; see ``Engine.post``.

        Raises:
            NoMemoryNow: it does not fit beside those that are busy.
        """
        self.in_flight += 1
        try:
            answer = await (await self._ready()).post(route, body)
        except BaseException:
            self._done()
            raise
        open_ = True

        async def close() -> None:
            nonlocal open_
            if open_:
                open_ = False
                self._done()
            await answer.close()

        return EngineAnswer(answer.status, answer.media_type, answer.chunks, close)

    async def shut(self) -> None:
        """Stops the engine now; to be called with the memory's lock."""
        engine, self._engine = self._engine, None
        if engine is not None:
            log.info("%s is stopped", self.base_model)
            await engine.stop()

    async def _ready(self) -> Engine:
        if self._engine is not None:
            return self._engine
        async with self._memory.lock:
            if self._engine is None:
                await self._memory.make_room(self.size)
                engine = self._factory()
                try:
                    await engine.start()
                except BaseException:
                    await engine.stop()
                    raise
                self._engine = engine
            return self._engine

    def _done(self) -> None:
        self.in_flight -= 1
        self.used_at = time.monotonic()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.idle_seconds / 4)
            async with self._memory.lock:
                if self.running and self.idle and time.monotonic() - self.used_at >= self.idle_seconds:
                    await self.shut()
