"""The dock's own account of the adapters in an engine's memory, idle ones too.

vLLM tells of adapters only while requests run on them (vllm#45325), and lists as models all it ever loaded,
also those it has dropped since. So the account is kept here: vLLM's worker holds ``max_cpu_loras`` adapters and
drops the least recently used one, and so does the account. It can err where vLLM orders two uses otherwise
than their answers came back; then a request finds its adapter a little colder or warmer than was thought.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass

# Taken where an engine does not say how many adapters it keeps.
USUAL_CAPACITY = 64


@dataclass
class Resident:
    """An adapter in memory: its engine name, when it was loaded and last used (Unix seconds), how often."""

    adapter: str
    loaded: float
    used: float
    uses: int = 0


class Residency:
    """What one engine holds, least recently used first; never more than ``capacity`` adapters.

    ``loads`` counts the adapters that were read into memory since the dock was started.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity or USUAL_CAPACITY
        self.loads = 0
        self._held: OrderedDict[str, Resident] = OrderedDict()

    def __contains__(self, adapter: str) -> bool:
        return adapter in self._held

    def __len__(self) -> int:
        return len(self._held)

    def residents(self) -> list[Resident]:
        """Returns what is held, least recently used first."""
        return list(self._held.values())

    def touch(self, adapter: str, now: float | None = None) -> bool:
        """Notes a use; returns whether that loaded the adapter, which may have dropped another."""
        now = time.time() if now is None else now
        new = adapter not in self._held
        self.loads += new
        one = self._held.setdefault(adapter, Resident(adapter, loaded=now, used=now))
        one.used, one.uses = now, one.uses + 1
        self._held.move_to_end(adapter)
        if len(self._held) > self.capacity:
            self._held.popitem(last=False)
        return new

    def drop(self, adapter: str) -> None:
        """Notes that the engine does not hold the adapter."""
        self._held.pop(adapter, None)

    def clear(self) -> None:
        """Notes that the engine started anew."""
        self._held.clear()

    def endangered(self, adapter: str) -> bool:
        """Tells whether an adapter is not held, or is among those that are dropped next."""
        room = self.capacity - len(self._held)
        next_out = max(1, self.capacity // 4) - room
        return adapter not in self._held or adapter in list(self._held)[: max(0, next_out)]
