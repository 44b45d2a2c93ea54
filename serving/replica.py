"""One engine of a pool: whether it is up, how much it does, and what it holds in memory."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from serving.backoff import Backoff
from serving.engine import EVENT_STREAM, AdapterUnavailable, Engine, EngineAnswer, EngineUnreachable, Route
from serving.residency import Residency
from specification.errors import DockError, EngineError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PoolConfig:
    """How a pool treats its replicas. Times are in seconds.

    A replica is asked for its health every ``interval`` and taken out after ``failures`` in a row, or at once
    when it cannot be reached; its next success takes it in again. ``bound`` is c of "Consistent hashing with
    bounded loads" (Mirrokni, Thorup, Zadimoghaddam, 2018, arXiv 1608.01350): a replica with more than c times
    the mean of requests in flight is passed over. Below ``floor`` requests it never is, since an engine answers
    a batch that small about as fast as one request, and another replica would have to load the adapter first.
    ``warming`` adapters are loaded ahead at the same time.
    """

    interval: float = 2.0
    failures: int = 3
    bound: float = 1.25
    floor: int = 8
    warming: int = 2


class Replica:
    """Starts its engine, again and again until it starts, then watches it; counts what passes through."""

    def __init__(self, name: str, engine: Engine, config: PoolConfig) -> None:
        self.name = name
        self.engine = engine
        self.up = False
        self.started = False
        self.in_flight = 0
        self.last_asked = 0.0
        self.residency = Residency(engine.max_cpu_loras)
        self._config = config
        self._failures = 0
        self._starts = engine.starts

    async def keep(self, tried: "asyncio.Future[DockError | None]", checked: Callable[[], None]) -> None:
        """Runs until it is cancelled. ``tried`` gets the first start's outcome, ``checked`` is called often."""
        backoff = Backoff()
        while not self.started:
            error = await self._start()
            if not tried.done():
                tried.set_result(error)
            if error is not None:
                log.error("replica %s did not start, next try in %.0f s: %s", self.name, backoff.pause, error)
                await asyncio.sleep(backoff.pause)
                backoff.failed()
        while True:
            checked()
            await asyncio.sleep(self._config.interval)
            await self._check()

    async def post(self, route: Route, body: dict[str, object], adapter: str | None) -> EngineAnswer:
        """Sends a request; see ``Engine.post``. Counts as in flight until the answer is closed.

        A stream comes back with its first event in hand, so that until then it could be sent elsewhere.
        """
        self.in_flight += 1
        self.last_asked = time.monotonic()
        try:
            answer = await self.engine.post(route, body)
            first = await self._begin(answer)
        except BaseException as error:
            self.in_flight -= 1
            self._note(error, adapter)
            raise
        self._succeeded()
        if adapter is not None and answer.status < 400:
            self.residency.touch(adapter)
        return self._tracked(answer, first, adapter)

    def failed(self, reason: str, gone: bool = False) -> None:
        """Notes a failure; enough of them in a row, or one that says it is gone, take the replica out."""
        self._failures += 1
        if self.up and (gone or self._failures >= self._config.failures):
            self.up = False
            log.error("replica %s is taken out: %s", self.name, reason)

    def settle(self) -> None:
        """Forgets what an engine held before it was started anew."""
        if self.engine.starts != self._starts:
            self._starts = self.engine.starts
            self.residency.clear()

    async def _start(self) -> DockError | None:
        try:
            await self.engine.start()
        except DockError as error:
            return error
        except Exception as error:
            # Whatever it is, whoever waits for the first try must hear of it.
            log.exception("replica %s failed to start", self.name)
            return EngineError(f"replica {self.name} failed to start: {error!r}")
        self.started = True
        self._succeeded()
        return None

    async def _check(self) -> None:
        try:
            healthy = await self.engine.healthy()
        except Exception:
            log.exception("replica %s cannot be asked for its health", self.name)
            healthy = False
        if healthy:
            self._succeeded()
        else:
            self.failed("its health check fails")

    def _succeeded(self) -> None:
        self.settle()
        self._failures = 0
        if not self.up:
            self.up = True
            log.info("replica %s is up", self.name)

    def _note(self, error: BaseException, adapter: str | None) -> None:
        if isinstance(error, AdapterUnavailable):
            if adapter is not None:
                self.residency.drop(adapter)
        elif isinstance(error, EngineError):
            self.failed(str(error), gone=isinstance(error, EngineUnreachable))

    async def _begin(self, answer: EngineAnswer) -> bytes:
        """Returns a stream's first bytes; an answer that is the engine's last words is an error."""
        begun = False
        try:
            if answer.status >= 500 and not await self.engine.healthy():
                raise EngineError(f"replica {self.name} failed with status {answer.status}")
            first = await anext(answer.chunks, b"") if answer.media_type == EVENT_STREAM else b""
            begun = True
            return first
        finally:
            if not begun:
                await answer.close()

    def _tracked(self, answer: EngineAnswer, first: bytes, adapter: str | None) -> EngineAnswer:
        open_ = True

        async def chunks() -> AsyncIterator[bytes]:
            if first:
                yield first
            try:
                async for chunk in answer.chunks:
                    yield chunk
            except EngineError as error:
                self._note(error, adapter)
                raise

        async def close() -> None:
            nonlocal open_
            if open_:
                open_ = False
                self.in_flight -= 1
                # Each step of a generation is a use; the last of them orders the engine's memory.
                if adapter is not None and adapter in self.residency:
                    self.residency.touch(adapter)
            await answer.close()

        return EngineAnswer(answer.status, answer.media_type, chunks(), close)
