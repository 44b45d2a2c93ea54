"""Works off what is to be verified, each learnware in an engine that is thrown away, beside whatever else runs.

An engine serves the jobs of one base model after each other and ends when none is left. One that died, held too
much memory or took too long ends at once, and the next job gets another. The learnware under way is blamed if its
engine dies a second time, or at once where memory or time was exceeded.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from catalogue import Catalogue, Learnware, State
from indexer import KnownBase, LifeCycle
from indexer.history import as_reason
from indexer.life_cycle import HELD, MOVES, change_of
from serving.engine import Engine
from serving.examination import Verdict, examine, rendered
from serving.verification_queue import Job, VerificationQueue
from specification import Example
from specification.errors import DockError, EngineError, InvalidInput

ATTEMPTS = 2
BROKEN_OFF = 4
"""Attempts after which one is left alone whose verification ended each time with the process that did it."""
HOUR = 3600.0
POLL_SECONDS = 2.0
WATCH_SECONDS = 0.5

T = TypeVar("T")
Deliver = Callable[[Job, Learnware, Verdict], Awaitable[object]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VerifierLimits:
    """What one learnware may take, its engine's memory in GiB; at most ``per_hour`` are begun in an hour."""

    seconds: float = 1800.0
    memory_gib: float = 16.0
    per_hour: int | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "memory_gib", "per_hour"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidInput(f"verification: {name} is {value}; it must be above 0")


class OutOfBounds(EngineError):
    """A learnware took more memory or time than it may."""


class Verifier:
    """Verifies one learnware after the other.

    ``make`` gives an engine, not started, for a base model and adapters up to a rank; ``deliver`` hands a verdict
    to the dock.
    """

    def __init__(
        self,
        queue: VerificationQueue,
        catalogue: Catalogue,
        base_of: Callable[[str], KnownBase],
        make: Callable[[KnownBase, int], Engine],
        deliver: Deliver,
        limits: VerifierLimits = VerifierLimits(),
    ) -> None:
        self.queue = queue
        self.limits = limits
        self._catalogue = catalogue
        self._base_of = base_of
        self._make = make
        self._deliver = deliver
        self._engine: Engine | None = None

    async def work_off(self, told: Callable[[Job], None] = lambda job: None) -> None:
        """Verifies until nothing waits; ``told`` hears of each step of a job.

        Raises:
            EngineError: no engine could be started. What waited waits on.
        """
        try:
            while await self._next(told):
                pass
        finally:
            await self._throw_away()

    async def run(self) -> None:
        """Verifies whatever comes, until it is cancelled."""
        while True:
            try:
                await self.work_off()
            except Exception as error:
                log.error("verification has to wait: %s", error, exc_info=not isinstance(error, DockError))
                await asyncio.sleep(60 * POLL_SECONDS)
            await asyncio.sleep(POLL_SECONDS)

    async def _next(self, told: Callable[[Job], None]) -> bool:
        """Verifies the next one; tells whether there was one."""
        await self._pause()
        taken = await asyncio.to_thread(self.queue.take)
        if taken is None:
            return False
        job, examples = taken
        told(job)
        try:
            await self._verify(job, examples, told)
        except BaseException:
            # Stopped, or no engine could be started: not the learnware's doing.
            self.queue.give_back(job, tried=False)
            raise
        return True

    async def _verify(self, job: Job, examples: list[Example], told: Callable[[Job], None]) -> None:
        if job.attempts > BROKEN_OFF:
            await self._finish(job, None, f"it was broken off {BROKEN_OFF} times; is memory short?", told)
            return
        learnware = next(iter(await asyncio.to_thread(self._catalogue.get, [job.learnware])), None)
        if learnware is None:
            await self._finish(job, None, "it was removed meanwhile", told)
            return
        try:
            base = await asyncio.to_thread(self._base_of, learnware.base_model)
        except InvalidInput as error:
            await self._finish(job, None, str(error), told)
            return
        engine = await self._ready(base, learnware.rank)

        def advance(done: int, total: int) -> None:
            self.queue.advance(job, done, total)
            told(job.model_copy(update={"done": done, "total": total}))

        started = time.monotonic()
        try:
            asked = await asyncio.to_thread(rendered, Path(base.folder), examples, job.chat)
            verdict = await self._bounded(engine, examine(engine, learnware, asked, advance))
        except InvalidInput as error:
            await self._finish(job, None, str(error), told)
            return
        except EngineError as error:
            await self._throw_away()
            if not isinstance(error, OutOfBounds) and job.attempts < ATTEMPTS:
                log.warning("%s: its engine failed and it is tried again: %s", job.reference, error)
                self.queue.give_back(job, tried=True)
                return
            verdict = Verdict(complaints=(f"it cannot be run: {error}",), broken=True, examples=len(examples))
        verdict = verdict.model_copy(update={"seconds": round(time.monotonic() - started, 1)})
        try:
            await self._deliver(job, learnware, verdict)
        except DockError as error:
            await self._finish(job, None, f"its verdict could not be kept: {error}", told)
        else:
            await self._finish(job, verdict, "", told)

    async def _finish(self, job: Job, verdict: Verdict | None, error: str, told: Callable[[Job], None]) -> None:
        await asyncio.to_thread(self.queue.finish, job, verdict, error)
        found = await asyncio.to_thread(self.queue.jobs, job.learnware, 1)
        told(found[0])

    async def _ready(self, base: KnownBase, rank: int) -> Engine:
        engine = self._engine
        if engine is not None:
            able = engine.base_model == base.name and (engine.max_lora_rank or rank) >= rank
            if not able or not await engine.healthy():
                await self._throw_away()
        if self._engine is None:
            engine = self._make(base, rank)
            try:
                await engine.start()
                self._require_memory(engine, "before a learnware is loaded")
            except BaseException:
                await engine.stop()
                raise
            self._engine = engine
        return self._engine

    async def _throw_away(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()

    async def _bounded(self, engine: Engine, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        deadline = time.monotonic() + self.limits.seconds
        try:
            while not (await asyncio.wait({task}, timeout=WATCH_SECONDS))[0]:
                if time.monotonic() > deadline:
                    raise OutOfBounds(f"it took longer than {self.limits.seconds:g} s")
                await asyncio.to_thread(self._require_memory, engine, "with it")
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _require_memory(self, engine: Engine, when: str) -> None:
        held = engine.resident / 2**30
        if held > self.limits.memory_gib:
            raise OutOfBounds(
                f"the engine held {held:.1f} GiB of memory {when}, the limit is {self.limits.memory_gib:g}"
            )

    async def _pause(self) -> None:
        """Waits until another one may be started within the hour."""
        while self.limits.per_hour is not None:
            now = time.time()
            started = await asyncio.to_thread(self.queue.started_since, now - HOUR)
            if len(started) < self.limits.per_hour:
                return
            await self._throw_away()
            await asyncio.sleep(min(max(started[-self.limits.per_hour] + HOUR - now, 0.1), 60.0))


def deliver_to(dock: LifeCycle, job: Job, learnware: Learnware, verdict: Verdict) -> Learnware:
    """Gives a learnware what a verdict makes of it, and returns its record as it is then.

    The measured gain becomes a quality signal. One that was held back becomes ``verified``, and ``published`` if
    the job says so, or ``quarantined``. A published one stays unless it is broken. No verdict ends a quarantine.
    """
    signal = verdict.signal()
    learnware = dock.attach(learnware, [signal] if signal else [])
    words = as_reason(f"verification: {verdict}")
    state: State = "verified" if verdict.passed else "quarantined"
    held = learnware.status in HELD
    if state in MOVES[learnware.status] and (held or verdict.broken):
        learnware = dock.move(learnware, state, job.who, words)
    else:
        dock.history.note([change_of(learnware, "updated" if verdict.passed else "refused", job.who, words)])
    if verdict.passed and held and job.publish:
        learnware = dock.move(learnware, "published", job.who, words)
    return learnware
