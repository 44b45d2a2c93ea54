"""The whole models of a dock: one engine on demand for each, within one budget of memory."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from catalogue import Learnware
from indexer import AdapterStore
from indexer.whole_model import is_whole_model
from serving.engine import Engine, LearnwareUnavailable, adapter_prefix
from serving.live import WholeModelsState, WholeModelState
from serving.on_demand import Memory, OnDemand

GIB = 2**30


class WholeModels:
    """Finds the engine of a whole model by its engine name; see ``OnDemand`` for when it runs."""

    def __init__(
        self,
        store: AdapterStore,
        make: Callable[[str, Path], Engine],
        budget: int,
        overhead: int = 0,
        idle_seconds: float = 600.0,
    ) -> None:
        """``make`` returns the engine that serves a folder under an engine name, not started yet.

        A model is charged the bytes of its files, which is what its weights take, and ``overhead`` bytes, its
        engine's KV cache. What the process itself takes is not counted.
        """
        self.memory = Memory(budget)
        self._store = store
        self._make = make
        self._overhead = overhead
        self._idle_seconds = idle_seconds
        self._engines: dict[str, OnDemand] = {}

    def obstacle(self, learnware: Learnware) -> LearnwareUnavailable | None:
        """Returns why a whole model can never run here, None if it can."""
        needed = learnware.adapter_bytes + self._overhead
        if needed <= self.memory.budget:
            return None
        return LearnwareUnavailable(
            f"learnware {learnware.engine_name} takes {needed / GIB:.2f} GiB with its KV cache, and whole models "
            f"may take {self.memory.budget / GIB:.2f} GiB here; restart 'slmdock serve' with a larger --model-gib"
        )

    def engine_of(self, name: str) -> OnDemand:
        """Returns the engine of the whole model with that engine name, which need not run.

        Raises:
            LearnwareUnavailable: it is not in the store. InvalidInput: it can never run, see ``obstacle``.
        """
        if name not in self._engines:
            folder = self._store.by_prefix(adapter_prefix(name) or "0" * 16)
            if folder is None or not is_whole_model(folder):
                raise LearnwareUnavailable(f"the model {name[:200]} is not in the dock's store; submit it again")
            size = sum(file.stat().st_size for file in folder.iterdir()) + self._overhead
            self._engines[name] = OnDemand(
                lambda: self._make(name, folder), name, size, self.memory, self._idle_seconds
            )
        return self._engines[name]

    async def forget(self, name: str) -> None:
        """Stops a whole model that is not to be asked for again, by its engine name."""
        engine = self._engines.pop(name, None)
        if engine is not None:
            await engine.stop()
            self.memory.members.remove(engine)

    def state(self) -> WholeModelsState:
        """Returns which models run or start, and what they take."""
        models = tuple(
            WholeModelState(
                model=one.base_model, up=one.running, bytes=one.size, in_flight=one.in_flight,
                idle_seconds=time.monotonic() - one.used_at if one.idle else 0.0,
            )
            for one in self.memory.members
            if one.running or one.starting
        )  # fmt: skip
        return WholeModelsState(budget=self.memory.budget, used=self.memory.used, models=models)

    async def stop(self) -> None:
        """Stops all of them."""
        await asyncio.gather(*(one.stop() for one in self.memory.members))
