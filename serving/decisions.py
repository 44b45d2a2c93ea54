"""Rankings of prompts, kept: a repeated prompt costs a look-up, equal ones at the same time one computation."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from catalogue import Filter
from retriever import Ranking, Retriever

TOP = 5

Key = tuple[bytes, Filter, str, tuple[int, int]]
"""Hash of the text, filter, learnware beside, and state of the retriever."""


@dataclass(frozen=True)
class DecisionLimits:
    """How long a decision may take, how many are kept, and for how long, in seconds.

    Writes to the catalogue through this process make kept decisions void at once. ``keep_seconds`` is how long a
    learnware that another process published or retired, on a shared Qdrant server, may go unnoticed.
    """

    seconds: float = 3.0
    entries: int = 1024
    keep_seconds: float = 30.0


@dataclass(eq=False)
class _Work:
    """A computation, how many wait for it, and whether it has the encoder."""

    task: "asyncio.Task[Ranking] | None" = None
    waiting: int = 0
    begun: bool = False


class Decisions:
    """Ranks prompts by the retriever, one at a time. No text is kept, only its hash."""

    def __init__(self, retriever: Retriever, encoding: asyncio.Lock, limits: DecisionLimits) -> None:
        self.limits = limits
        self._retriever = retriever
        self._encoding = encoding
        self._kept: OrderedDict[Key, tuple[float, Ranking]] = OrderedDict()
        self._running: dict[Key, _Work] = {}

    async def rank(self, text: str, where: Filter, beside: str = "") -> Ranking:
        """Returns the best TOP learnwares for a text, see ``Retriever.route``, and its errors.

        Whoever waits may leave: a computation nobody waits for any more is not begun.
        """
        key = (hashlib.sha256(text.encode()).digest(), where, beside, self._retriever.state)
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() - kept[0] < self.limits.keep_seconds:
            self._kept.move_to_end(key)
            return kept[1]
        work = self._running.get(key) or self._begin(key, text)
        assert work.task is not None
        work.waiting += 1
        try:
            return await asyncio.shield(work.task)
        finally:
            work.waiting -= 1
            if not work.waiting and not work.begun:
                work.task.cancel()
                self._forget(key, work)

    def _begin(self, key: Key, text: str) -> _Work:
        work = self._running[key] = _Work()
        work.task = asyncio.create_task(self._compute(key, text, work))
        work.task.add_done_callback(lambda task: self._done(key, work, task))
        return work

    async def _compute(self, key: Key, text: str, work: _Work) -> Ranking:
        _, where, beside, _ = key
        async with self._encoding:
            work.begun = True
            return await run_in_threadpool(self._retriever.route, text, TOP, where, beside)

    def _forget(self, key: Key, work: _Work) -> None:
        if self._running.get(key) is work:
            del self._running[key]

    def _done(self, key: Key, work: _Work, task: "asyncio.Task[Ranking]") -> None:
        self._forget(key, work)
        # Asking for the exception also keeps asyncio from reporting one that nobody waited for.
        if task.cancelled() or task.exception() is not None:
            return
        self._kept[key] = (time.monotonic(), task.result())
        self._kept.move_to_end(key)
        while len(self._kept) > self.limits.entries:
            self._kept.popitem(last=False)
