"""Engines that run only while they are used: for whole models, of which a dock may know more than fit in memory.

``OnDemand`` is an engine around a factory; its first request starts it, and it is stopped once idle. ``Memory`` is
shared by several of them: before one starts, the least recently used idle ones are stopped until it fits. They
start one after another.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from math import ceil

from serving.backoff import Backoff
from serving.engine import Engine, EngineAnswer, EnginesDown, LearnwareUnavailable, NoMemoryNow, Route
from specification.errors import EngineError, InvalidInput

log = logging.getLogger(__name__)


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

    def has_room(self, size: int) -> bool:
        """Tells whether ``size`` bytes are free, also after those that are starting have started."""
        return sum(one.size for one in self.members if one.running or one.starting) + size <= self.budget

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
    """Starts its engine on the first request, stops it after ``idle_seconds`` without one.

    A start goes on when the request that caused it is gone, so that short deadlines meet a running engine later.
    """

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
        self._starting: asyncio.Task[Engine] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._retry_at = 0.0
        memory.members.append(self)

    @property
    def running(self) -> bool:
        """Whether it takes memory."""
        return self._engine is not None

    @property
    def starting(self) -> bool:
        """Whether it was asked for and does not run yet."""
        return self._starting is not None

    @property
    def idle(self) -> bool:
        """Whether it may be stopped."""
        return self.in_flight == 0

    async def start(self) -> None:
        """Does nothing: a request starts it."""

    async def stop(self) -> None:
        """Stops the engine if it runs or is starting."""
        for task in (self._starting, self._sweeper):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        async with self._memory.lock:
            await self.shut()

    async def healthy(self) -> bool:
        """Tells whether a request would be answered, by an engine that still has to start if need be."""
        return self._engine is None or await self._engine.healthy()

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        """Sends the request, to an engine that is started first if it does not run; see ``Engine.post``.

        Raises:
            NoMemoryNow: it does not fit beside those that are busy.
            LearnwareUnavailable: it did not start, died, or does not answer; the log says why.
        """
        self.in_flight += 1
        try:
            answer = await (await self._ready()).post(route, body)
        except BaseException as error:
            self._done()
            if isinstance(error, EngineError) and not isinstance(error, LearnwareUnavailable):
                raise _unavailable(str(error), EnginesDown.retry_after) from error
            raise
        open_ = True

        async def close() -> None:
            nonlocal open_
            if open_:
                open_ = False
                self._done()
            await answer.close()

        return EngineAnswer(answer.status, answer.media_type, answer.chunks, close)

    def warm(self, adapter: str) -> None:
        """Starts the engine if there is room for it, without stopping another."""
        if not self.running and not self.starting and not self._paused and self._memory.has_room(self.size):
            self._begin()

    async def shut(self) -> None:
        """Stops the engine now; to be called with the memory's lock."""
        engine, self._engine = self._engine, None
        if engine is not None:
            log.info("%s is stopped", self.base_model)
            await engine.stop()

    @property
    def _paused(self) -> float:
        """Seconds until it is started again after it did not start, 0 if it may be."""
        return max(0.0, self._retry_at - time.monotonic())

    async def _ready(self) -> Engine:
        if self._engine is not None:
            return self._engine
        starting = self._begin()
        # Waiting does not tie the start to this request, as awaiting it would.
        await asyncio.wait({starting})
        if starting.cancelled():
            raise EngineError(f"{self.base_model} was stopped while it started")
        return starting.result()

    def _begin(self) -> "asyncio.Task[Engine]":
        if self._starting is None:
            if self._paused:
                raise self._failure()
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._begun)
        return self._starting

    def _begun(self, starting: "asyncio.Task[Engine]") -> None:
        self._starting = None
        if not starting.cancelled():
            starting.exception()

    async def _start(self) -> Engine:
        async with self._memory.lock:
            await self._memory.make_room(self.size)
            engine = self._factory()
            log.info("%s is started", self.base_model)
            try:
                await engine.start()
            except BaseException as error:
                await engine.stop()
                if not isinstance(error, Exception):
                    raise
                log.error("%s did not start: %s", self.base_model, error)
                self._retry_at = time.monotonic() + self._backoff.pause
                self._backoff.failed()
                raise self._failure() from error
            self._backoff.reset()
            self.used_at = time.monotonic()
            self._engine = engine
            self._sweeper = asyncio.create_task(self._sweep(engine))
        return engine

    def _failure(self) -> LearnwareUnavailable:
        return _unavailable(f"{self.base_model} did not start; the dock's log says why", ceil(self._paused))

    def _done(self) -> None:
        self.in_flight -= 1
        self.used_at = time.monotonic()

    async def _sweep(self, engine: Engine) -> None:
        while self._engine is engine:
            await asyncio.sleep(max(0.0, self.used_at + self.idle_seconds - time.monotonic()) or self.idle_seconds)
            async with self._memory.lock:
                overdue = time.monotonic() - self.used_at >= self.idle_seconds
                if self._engine is engine and self.idle and overdue:
                    await self.shut()


def _unavailable(words: str, retry_after: int) -> LearnwareUnavailable:
    error = LearnwareUnavailable(words)
    error.retry_after = retry_after
    return error
