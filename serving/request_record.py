"""What is known of one request, filled on its way through the gateway.

Metrics, the log's line, the trace and ``slmdock top`` are all read from it. It holds no word of prompt or answer:
but for the last bytes of a stream, which are dropped once its usage has been read.
"""

import json
import re
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from serving.routing import Choice

Stage = Literal["queued", "deciding", "waiting", "answering"]

# The event with the usage is the last but one of a stream and a few hundred bytes long.
TAIL_BYTES = 4096
JSON_TAIL_BYTES = 65_536
USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')


class RequestTrace(Protocol):
    """The spans of one request, see ``serving.tracing``."""

    trace_id: str

    def step(self, name: str) -> None:
        """Ends the step before and begins the next one."""

    def headers(self) -> dict[str, str]:
        """Returns what makes the callee's spans children of the present step."""

    def end(self, record: "RequestRecord") -> None:
        """Ends everything and notes what became of the request."""


@dataclass(frozen=True)
class Usage:
    """The tokens of one answer."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One request. Moments are ``time.perf_counter`` seconds; ``route`` is the path's template, '' if unknown.

    ``entering`` is told of each new stage, while the record still holds the old one.
    """

    id: str
    method: str
    generates: bool
    started: float
    entering: "Callable[[RequestRecord, Stage], None]"
    stage: Stage = "queued"
    route: str = ""
    status: int = 0
    error: str = ""
    choice: "Choice | None" = None
    decision_seconds: float | None = None
    streams: bool = False
    first_byte: float | None = None
    last_chunk: float = 0.0
    ended: float = 0.0
    complete: bool = False
    broken: bool = False
    usage: Usage | None = None
    tail: bytes = b""
    trace: RequestTrace | None = None

    @property
    def kind(self) -> str:
        """How the answer's model was chosen, '' where nothing was to be chosen."""
        return self.choice.kind if self.choice else ""

    @property
    def seconds(self) -> float:
        """From the request's arrival to the end of its answer."""
        return self.ended - self.started

    @property
    def first_token_seconds(self) -> float | None:
        """From the request's arrival to the first bytes of a stream, None for other answers."""
        return self.first_byte - self.started if self.streams and self.first_byte is not None else None

    @property
    def stream_end(self) -> str:
        """How a stream ended: whole, broken by the engine, or left by the client."""
        if self.broken:
            return "broken"
        return "whole" if self.complete else "left"

    def enter(self, stage: Stage) -> None:
        """Moves on to a stage."""
        self.entering(self, stage)
        self.stage = stage

    def step(self, name: str) -> None:
        """Begins the next span, where the request is traced."""
        if self.trace is not None:
            self.trace.step(name)

    def read_usage(self) -> None:
        """Takes the usage out of the answer's last bytes, and drops them."""
        if self.generates and self.status < 300:
            self.usage = usage_in(self.tail)
        self.tail = b""


current: ContextVar[RequestRecord | None] = ContextVar("request_record", default=None)


async def timed(choosing: Awaitable["Choice"]) -> "Choice":
    """Returns the choice, noted in the request's record with the time it took."""
    record = current.get()
    if record is None:
        return await choosing
    record.enter("deciding")
    record.step("decide")
    started = time.perf_counter()
    choice = await choosing
    record.decision_seconds = time.perf_counter() - started
    return noted(choice)


def noted(choice: "Choice") -> "Choice":
    """Returns the choice, noted as the one that the engine is asked for next."""
    record = current.get()
    if record is not None:
        record.choice = choice
        record.enter("waiting")
        record.step("engine")
    return choice


def note_error(code: str) -> None:
    """Notes the code of the error that the request is answered with."""
    record = current.get()
    if record is not None:
        record.error = code


def note_broken_stream() -> None:
    """Notes that the engine broke off in the middle of its answer."""
    record = current.get()
    if record is not None:
        record.broken = True


def onward_headers() -> dict[str, str]:
    """Returns the headers that tie the engine's own logs and spans to this request."""
    record = current.get()
    if record is None:
        return {}
    headers = {"x-request-id": record.id}
    return headers if record.trace is None else headers | record.trace.headers()


def usage_in(data: bytes) -> Usage | None:
    """Returns the last usage in the bytes of an answer, which may begin anywhere.

    Text that was generated cannot pass for one, since its quotation marks are escaped.
    """
    found = [match.end() for match in USAGE.finditer(data)]
    if not found:
        return None
    try:
        usage, _ = json.JSONDecoder().raw_decode(data[found[-1] :].decode("utf-8", "replace"))
        prompt, completion = usage["prompt_tokens"], usage.get("completion_tokens") or 0
    except (ValueError, KeyError, RecursionError):
        return None
    counts = (prompt, completion)
    if any(type(count) is not int or count < 0 for count in counts):
        return None
    return Usage(prompt, completion)
