"""A pool: one or more replicas of one base model behind the engine's contract.

A request for an adapter goes to a replica that holds it, and among these, or where none does, to the first by
rendezvous hashing (Thaler and Ravishankar, 1998): each replica draws a number from its name and the adapter's,
and the highest wins. So every gateway sends an adapter the same way, and a replica that leaves moves only its own
adapters. Replicas under too much load come last, see ``PoolConfig``. Requests for the base model go where the
fewest are in flight.
"""

import asyncio
import logging
from collections.abc import Sequence
from hashlib import blake2b
from math import ceil

from serving.engine import AdapterUnavailable, Engine, EngineAnswer, EnginesDown, EngineUnreachable, Route
from serving.replica import PoolConfig, Replica
from specification.errors import DockError, EngineError, InvalidInput

# A request that broke one replica off may have been the cause, so it gets one more and not all of them.
BROKEN_OFF = 2

log = logging.getLogger(__name__)


class Pool(Engine):
    """Up as long as one replica is; the others are started again or watched until they return."""

    max_cpu_loras: int

    def __init__(self, engines: Sequence[Engine], config: PoolConfig | None = None) -> None:
        """Takes engines of one base model, not started yet.

        Raises:
            InvalidInput: there is none, or they serve different base models.
        """
        bases = sorted({engine.base_model for engine in engines})
        if len(bases) != 1:
            raise InvalidInput(
                f"a pool serves one base model, not {len(bases)} ({', '.join(bases) or 'no engine'})"
            )
        self.config = config or PoolConfig()
        self.base_model = bases[0]
        self.replicas = tuple(
            Replica(f"{self.base_model}/{place}", engine, self.config) for place, engine in enumerate(engines)
        )
        limits = [engine.max_lora_rank for engine in engines if engine.max_lora_rank is not None]
        self.max_lora_rank = min(limits, default=None)
        self.max_cpu_loras = min(replica.residency.capacity for replica in self.replicas)
        self._pins: dict[str, None] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._gate = asyncio.Semaphore(self.config.warming)

    async def start(self) -> None:
        """Returns when the first replica is up.

        Raises:
            InvalidInput: a replica can never start. EngineError: no replica came up at its first try.
        """
        loop = asyncio.get_running_loop()
        tries: list[asyncio.Future[DockError | None]] = [loop.create_future() for _ in self.replicas]
        self._keepers = [
            asyncio.create_task(replica.keep(tried, self._uphold))
            for replica, tried in zip(self.replicas, tries, strict=True)
        ]
        errors: list[DockError] = []
        for one in asyncio.as_completed(tries):
            error = await one
            if error is None:
                return
            errors.append(error)
            if isinstance(error, InvalidInput):
                break
        await self.stop()
        raise errors[-1]

    async def stop(self) -> None:
        """Stops all replicas and what is being loaded."""
        tasks = [*self._keepers, *self._loading.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(replica.engine.stop() for replica in self.replicas))
        for replica in self.replicas:
            replica.up = replica.started = False

    @property
    def max_model_len(self) -> int | None:  # type: ignore[override]
        """The shortest context of the replicas that have told theirs, in tokens."""
        known = [replica.engine.max_model_len for replica in self.replicas]
        return min((one for one in known if one is not None), default=None)

    async def healthy(self) -> bool:
        """Tells whether a replica was up when it was last asked."""
        return any(replica.up for replica in self.replicas)

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        """Sends the request to a replica, and to another one if that fails before its first byte.

        Raises:
            EnginesDown: no replica answers. Otherwise see ``Engine.post``.
        """
        model = str(body.get("model"))
        adapter = None if model == self.base_model else model
        error: EngineError | None = None
        broken = 0
        for replica in self._order(adapter):
            new = adapter is not None and adapter not in replica.residency
            try:
                answer = await replica.post(route, body, adapter)
            except AdapterUnavailable:
                raise
            except EngineError as failure:
                error = failure
                broken += not isinstance(failure, EngineUnreachable)
                if broken == BROKEN_OFF:
                    break
                continue
            if new:
                self._uphold()
            return answer
        reason = error or "none has started yet"
        raise EnginesDown(f"no engine of {self.base_model!r} answered; try again soon ({reason})") from error

    def warm(self, adapter: str) -> None:
        """Loads an adapter in the background unless a replica that is up holds it."""
        if not any(replica.up and adapter in replica.residency for replica in self.replicas):
            self._load(adapter)

    @property
    def pins(self) -> tuple[str, ...]:
        """The pinned adapters."""
        return tuple(self._pins)

    def pin(self, adapter: str) -> None:
        """Keeps an adapter in the memory of the replica that its requests go to.

        vLLM itself can pin, but offers that to programs it is part of and not over HTTP. So a pinned adapter is
        used, by one token, whenever it comes near the end of its replica's account, and loaded again where a burst
        of others or a new start was faster.

        Raises:
            InvalidInput: half of what the smallest replica holds is pinned already.
        """
        if adapter not in self._pins and len(self._pins) >= self.max_cpu_loras // 2:
            raise InvalidInput(
                f"{len(self._pins)} adapters are pinned of {self.max_cpu_loras} that stay in memory, and half may "
                "be; unpin one, or raise the engine's max_cpu_loras"
            )
        self._pins[adapter] = None
        self._uphold()

    def unpin(self, adapter: str) -> None:
        """Lets an adapter go the way of the others."""
        self._pins.pop(adapter, None)

    def forget(self, adapter: str) -> None:
        """Lets an adapter go that is not to be asked for again.

        It leaves the account at once, and an engine's memory when another takes its place.
        """
        self.unpin(adapter)
        for replica in self.replicas:
            replica.residency.drop(adapter)

    def _order(self, adapter: str | None) -> list[Replica]:
        """Returns the replicas to try, best first. Where none is up, all that ever were may be back already."""
        started = [replica for replica in self.replicas if replica.started]
        able = [replica for replica in started if replica.up] or started
        for replica in able:
            replica.settle()
        if adapter is None:
            return sorted(able, key=lambda replica: (replica.in_flight, replica.last_asked))
        total = sum(replica.in_flight for replica in able) + 1
        limit = max(self.config.floor, ceil(self.config.bound * total / max(1, len(able))))

        def rank(replica: Replica) -> tuple[bool, bool, int]:
            return replica.in_flight >= limit, adapter not in replica.residency, -_draw(replica.name, adapter)

        return sorted(able, key=rank)

    def _uphold(self) -> None:
        for adapter in self._pins:
            order = self._order(adapter)
            if order and order[0].up and order[0].residency.endangered(adapter):
                self._load(adapter)

    def _load(self, adapter: str) -> None:
        # More than a replica holds would only push each other out.
        if adapter in self._loading or len(self._loading) >= self.max_cpu_loras:
            return
        task = asyncio.create_task(self._use(adapter))
        self._loading[adapter] = task
        task.add_done_callback(lambda _: self._loading.pop(adapter, None))

    async def _use(self, adapter: str) -> None:
        """Generates one token, which every engine can and which loads the adapter as a request would.

        vLLM's own load endpoint would not do: it takes a path, and refuses an adapter that it once loaded and has
        dropped from memory since.
        """
        async with self._gate:
            try:
                answer = await self.post("completions", {"model": adapter, "prompt": "a", "max_tokens": 1})
                await answer.read()
            except DockError as error:
                log.warning("adapter %s was not loaded ahead: %s", ascii(adapter[:200]), error)


def _draw(replica: str, adapter: str) -> int:
    return int.from_bytes(blake2b(f"{replica}\0{adapter}".encode(), digest_size=8).digest(), "big")
