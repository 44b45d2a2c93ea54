"""What requests look up again and again, remembered for moments, so that it costs them no thread."""

import time
from typing import Generic, TypeVar

KEEP_SECONDS = 5.0
"""How long a write by another process, to a shared Qdrant server, may go unnoticed."""
MAX_ENTRIES = 10_000

Found = TypeVar("Found")
State = tuple[int, int]
"""Revisions of catalogue and tasks: what was found is forgotten at this process's next write."""


class LookUps(Generic[Found]):
    """Look-ups by name. What is not found is not remembered."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[State, float, Found]] = {}

    def get(self, name: str, state: State) -> Found | None:
        """Returns what was found for a name in this very state and not long ago."""
        kept = self._kept.get(name)
        if kept is None or kept[0] != state or time.monotonic() - kept[1] > KEEP_SECONDS:
            return None
        return kept[2]

    def put(self, name: str, state: State, found: Found) -> None:
        """Remembers; ``state`` is the one from before looking."""
        if len(self._kept) >= MAX_ENTRIES:
            self._kept.clear()
        self._kept[name] = state, time.monotonic(), found
