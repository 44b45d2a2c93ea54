"""How much a gateway takes on at once, and for how long."""

import math
from dataclasses import dataclass

from specification.errors import InvalidInput


@dataclass(frozen=True)
class Limits:
    """What a gateway takes on. Each bound holds for requests that generate, and again for all others together.

    ``parallel`` requests run at once, ``parallel_per_key`` of one key; ``waiting`` more may wait for
    ``wait_seconds``, of one key a quarter of them. A request that generates has ``deadline_seconds`` from its
    arrival to its last token; the header ``x-slmdock-deadline`` can ask for less.
    """

    parallel: int = 256
    parallel_per_key: int = 64
    waiting: int = 1024
    wait_seconds: float = 60.0
    deadline_seconds: float = 1800.0

    def __post_init__(self) -> None:
        """Raises InvalidInput for bounds that would let nobody in."""
        for name, least in (("parallel", 1), ("parallel_per_key", 1), ("waiting", 0)):
            if getattr(self, name) < least:
                raise InvalidInput(f"limit {name} is {getattr(self, name)}, at least {least} is needed")
        for name in ("wait_seconds", "deadline_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidInput(f"limit {name} is {getattr(self, name)}, a positive number is needed")

    @property
    def waiting_per_key(self) -> int:
        return math.ceil(self.waiting / 4)

    def deadline(self, asked: str | None) -> float:
        """Returns the seconds a request has; ``asked`` is its header.

        Raises:
            InvalidInput: no number, or not within what this dock allows.
        """
        if asked is None:
            return self.deadline_seconds
        try:
            seconds = float(asked)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= self.deadline_seconds:
            bounds = f"above 0 and at most {self.deadline_seconds:g}"
            raise InvalidInput(f"x-slmdock-deadline {asked[:50]!r}: not a number of seconds {bounds}")
        return seconds
