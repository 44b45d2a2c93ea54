"""Slots for requests, and a short queue before them."""

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from serving.limits import Limits
from serving.requests import ClientGone
from specification.errors import RateLimitExceeded

LONGEST_RETRY_SECONDS = 60

UntilGone = Callable[[], Coroutine[Any, Any, None]]


@dataclass
class Gate:
    """Slots for requests. Those who wait take turns by key, so that one key's crowd holds up nobody else.

    ``key`` is None where the dock has none; the bounds for one key do not apply then. While somebody waits, either
    all slots are taken or that key's are: whoever finds a slot takes it at once.
    """

    limits: Limits
    running: Counter[str | None] = field(default_factory=Counter)
    _queues: OrderedDict[str | None, deque[asyncio.Future[None]]] = field(default_factory=OrderedDict)
    _mean_seconds: float = 1.0

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return sum(map(len, self._queues.values()))

    @asynccontextmanager
    async def slot(self, key: str | None, until_gone: UntilGone) -> AsyncIterator[None]:
        """Holds a slot for the length of a with statement. ``until_gone`` returns when the client has left.

        Raises:
            RateLimitExceeded: too many wait already, or none came free in time. ClientGone: while it waited.
        """
        if not self._take(key):
            await self._wait(key, until_gone)
        started = time.monotonic()
        try:
            yield
        finally:
            self._mean_seconds += 0.1 * (time.monotonic() - started - self._mean_seconds)
            self._give_back(key)

    def _take(self, key: str | None) -> bool:
        limits = self.limits
        within = key is None or self.running[key] < limits.parallel_per_key
        if not within or self.running.total() >= limits.parallel:
            return False
        self.running[key] += 1
        return True

    def _give_back(self, key: str | None) -> None:
        self.running[key] -= 1
        self.running += Counter()  # drops keys that have nothing running
        for waiter in list(self._queues):
            if self._take(waiter):
                self._next(waiter).set_result(None)
                return

    def _next(self, key: str | None) -> asyncio.Future[None]:
        """Returns who has waited longest of a key, which then goes to the end of the line of keys."""
        self._queues.move_to_end(key)
        first = self._queues[key].popleft()
        self._forget_empty(key)
        return first

    async def _wait(self, key: str | None, until_gone: UntilGone) -> None:
        limits, mine = self.limits, len(self._queues.get(key, ()))
        if self.waiting >= limits.waiting or (key is not None and mine >= limits.waiting_per_key):
            raise self._refusal(f"{self.running.total()} requests run and {self.waiting} wait")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        leaving = asyncio.ensure_future(until_gone())
        self._queues.setdefault(key, deque()).append(turn)
        try:
            await asyncio.wait({turn, leaving}, timeout=limits.wait_seconds, return_when=asyncio.FIRST_COMPLETED)
            gone = leaving.done()
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            if gone:
                raise ClientGone
            if not turn.done():
                raise self._refusal(f"no slot came free within {limits.wait_seconds:g} s")
        except BaseException:
            leaving.cancel()
            self._leave(key, turn)
            raise

    def _leave(self, key: str | None, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self._give_back(key)  # the slot came in the same moment
        else:
            self._queues[key].remove(turn)
            self._forget_empty(key)

    def _forget_empty(self, key: str | None) -> None:
        if not self._queues[key]:
            del self._queues[key]

    def _refusal(self, reason: str) -> RateLimitExceeded:
        per_slot = self._mean_seconds / self.limits.parallel
        error = RateLimitExceeded(f"too many requests at once: {reason}; try again later")
        error.retry_after = max(1, min(LONGEST_RETRY_SECONDS, math.ceil(per_slot * (self.waiting + 1))))
        return error


@dataclass(frozen=True)
class Gates:
    """One gate for requests that generate, one for all others, so that neither keeps the other out."""

    generating: Gate
    others: Gate

    @classmethod
    def of(cls, limits: Limits) -> "Gates":
        return cls(Gate(limits), Gate(limits))
