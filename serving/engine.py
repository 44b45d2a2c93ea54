"""The engine's contract: one base model, any number of adapters, tokens out in OpenAI's wire format.

An engine knows names only. ``model`` in a request is the base model's name or an adapter's engine name
(``name@sha256-prefix``); how the adapter's files are found is the variant's own affair.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from specification.errors import EngineError

ENGINE_NAME_PATTERN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}@([0-9a-f]{16})\Z")
EVENT_STREAM = "text/event-stream"

Route = Literal["completions", "chat/completions"]


class LearnwareUnavailable(EngineError):
    """This one learnware cannot answer now; others can, and so can the base model."""

    kind = "learnware_unavailable"


class AdapterUnavailable(LearnwareUnavailable):
    """The engine runs, but cannot load this one adapter."""

    kind = "adapter_unavailable"


class NoMemoryNow(LearnwareUnavailable):
    """An engine cannot start since others, all of them busy, take the memory."""

    retry_after = 10


class EngineUnreachable(EngineError):
    """Nobody took the request, so nothing of it was done and it can be sent elsewhere."""


class EnginesDown(EngineError):
    """None of a base model's replicas answers. They are started again, or watched until they return."""

    retry_after = 5


async def _nothing() -> None:
    """What is left to do for an answer that holds no connection."""


@dataclass(frozen=True)
class EngineAnswer:
    """An engine's answer: HTTP status, media type, and the body's bytes as they come.

    Whoever gets an answer must await ``close()``, also after reading it to its end; closing early makes the
    engine stop generating. Reading ``chunks`` raises EngineError if the engine dies meanwhile.
    """

    status: int
    media_type: str
    chunks: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]] = _nothing

    async def read(self) -> bytes:
        """Returns the whole body and closes the answer."""
        try:
            return b"".join([chunk async for chunk in self.chunks])
        finally:
            await self.close()


class Engine(ABC):
    """Generates with one base model and its adapters. Requests may come in any number at once."""

    base_model: str
    # The largest rank of an adapter that this engine can load, None where no limit is known.
    max_lora_rank: int | None = None
    # Tokens of prompt and answer together, None where that is not known.
    max_model_len: int | None = None
    # How many adapters it keeps in memory, None where that is not known.
    max_cpu_loras: int | None = None
    # Changes with each start that could be noticed: what was in memory before is gone.
    starts: int = 0

    @property
    def resident(self) -> int:
        """The bytes of memory that its own processes hold, 0 where it has none or that is not known."""
        return 0

    @abstractmethod
    async def start(self) -> None:
        """Returns when requests can be answered.

        Raises:
            EngineError: it cannot be started; the message carries the engine's own words.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Stops the engine and everything it started. Safe to call twice, and without a start."""

    @abstractmethod
    async def healthy(self) -> bool:
        """Tells whether a request now would be answered."""

    @abstractmethod
    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        """Sends one request; cancelling the call, or closing the answer, ends the generation.

        Errors of the request itself come back as answers with a 4xx status or as InvalidInput.

        Raises:
            AdapterUnavailable: the engine cannot load the adapter that ``model`` names.
            EngineError: the engine is not there or died.
        """

    def warm(self, adapter: str) -> None:  # noqa: B027
        """Asks for an adapter to be loaded soon, ahead of its first request; returns at once and never fails."""


def adapter_prefix(model: str) -> str | None:
    """Returns the 16 hex digits in an adapter's engine name, None if ``model`` is no such name."""
    match = ENGINE_NAME_PATTERN.match(model)
    return match.group(1) if match else None
