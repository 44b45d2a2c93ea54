"""Load on an OpenAI-compatible server, closed loop or open, and what every single request saw."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

TIMEOUT = aiohttp.ClientTimeout(total=600, connect=30)
GONE = 0
FAILURE_PAUSE_SECONDS = 0.1
KEEP_ALIVE_SECONDS = 4.0

Body = dict[str, Any]
MakeBody = Callable[[int], Body]


@dataclass(frozen=True)
class Target:
    """A server: its root, and the Unix socket to reach it by, if any."""

    url: str
    socket: str | None = None

    def open(self) -> aiohttp.ClientSession:
        """Returns a session without a limit on connections."""
        # vLLM closes a connection that was idle for five seconds, perhaps just as it is used again.
        connector = (
            aiohttp.UnixConnector(self.socket, limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
            if self.socket
            else aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        )
        return aiohttp.ClientSession(self.url, connector=connector, timeout=TIMEOUT)


@dataclass(frozen=True)
class Seen:
    """What one request saw. Times are seconds of a monotonic clock; status 0 means that the connection broke.

    ``first`` is the arrival of the first event with a token in it (streaming) or of the whole answer.
    ``error`` holds the error's code, or what broke.
    """

    model: str
    started: float
    first: float
    ended: float
    status: int
    tokens: int = 0
    error: str = ""

    @property
    def good(self) -> bool:
        return self.status == 200 and not self.error

    @property
    def outcome(self) -> str:
        """What a table shows: the status, and the error where there is one."""
        status = "connection broke" if self.status == GONE else str(self.status)
        return f"{status} {self.error}".strip()


@dataclass(frozen=True)
class Run:
    """All requests of one run, and its length in seconds."""

    seen: Sequence[Seen]
    seconds: float

    @classmethod
    def joined(cls, runs: "Sequence[Run]") -> "Run":
        return cls([one for run in runs for one in run.seen], sum(run.seconds for run in runs))

    @property
    def good(self) -> list[Seen]:
        return [one for one in self.seen if one.good]

    @property
    def failed(self) -> int:
        return len(self.seen) - len(self.good)

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.good) / self.seconds

    @property
    def token_rate(self) -> float:
        """Generated tokens a second."""
        return sum(one.tokens for one in self.good) / self.seconds

    def latency(self, quantile: float = 0.5) -> float:
        """Milliseconds to the whole answer."""
        return quantile_ms([one.ended - one.started for one in self.good], quantile)

    def first_token(self, quantile: float = 0.5) -> float:
        """Milliseconds to the first token."""
        return quantile_ms([one.first - one.started for one in self.good], quantile)

    @property
    def outcomes(self) -> dict[str, int]:
        """How many requests ended how, the most frequent first."""
        return dict(Counter(one.outcome for one in self.seen).most_common())


def quantile_ms(seconds: Sequence[float], quantile: float = 0.5) -> float:
    """Returns a quantile of times in milliseconds, NaN if there are none."""
    return 1000 * float(np.quantile(seconds, quantile)) if seconds else float("nan")


async def ask(session: aiohttp.ClientSession, body: Body, route: str = "completions") -> Seen:
    """Sends one request and reads the answer to its end."""
    started = time.perf_counter()
    model = str(body["model"])
    try:
        async with session.post(f"/v1/{route}", json=body) as response:
            if response.content_type == "text/event-stream":
                first, tokens, error = await _events(response)
            else:
                tokens, error = _whole(await response.json())
                first = None
            ended = time.perf_counter()
            return Seen(model, started, first or ended, ended, response.status, tokens, error)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        ended = time.perf_counter()
        return Seen(model, started, ended, ended, GONE, 0, type(error).__name__)


async def _events(response: aiohttp.ClientResponse) -> tuple[float | None, int, str]:
    """Reads a stream: when the first token came, how many there were by the usage, and the error in it."""
    first, last = None, b""
    async for line in response.content:
        if not line.startswith(b"data: "):
            continue
        first = first or time.perf_counter()
        if not line.startswith(b"data: [DONE]"):
            last = line
    tokens, error = _whole(json.loads(last[6:])) if last else (0, "empty stream")
    return first, tokens, error


def _whole(answer: Any) -> tuple[int, str]:
    """Returns an answer's tokens and error code."""
    if "error" in answer:
        return 0, str(answer["error"].get("code"))
    return (answer.get("usage") or {}).get("completion_tokens", 0), ""


async def closed_loop(
    session: aiohttp.ClientSession, make: MakeBody, in_flight: int, seconds: float = 0, count: int = 0
) -> Run:
    """``in_flight`` clients, each with its next request as soon as the last is answered.

    Ends after ``count`` requests in all, or begins none after ``seconds``. A client that fails waits a little.
    """
    seen: list[Seen] = []
    begun = time.perf_counter()
    number = 0

    async def client() -> None:
        nonlocal number
        while number < count if count else time.perf_counter() < begun + seconds:
            number += 1
            seen.append(await ask(session, make(number - 1)))
            if not seen[-1].good:
                await asyncio.sleep(FAILURE_PAUSE_SECONDS)

    await asyncio.gather(*(client() for _ in range(in_flight)))
    return Run(seen, time.perf_counter() - begun)


async def open_loop(
    session: aiohttp.ClientSession, make: MakeBody, rate: float, seconds: float, seed: int = 0
) -> Run:
    """Requests arrive at random, ``rate`` a second, whether or not the last ones are answered."""
    generator = random.Random(seed)
    begun = time.perf_counter()
    due, tasks = begun, list[asyncio.Task[Seen]]()
    while (due := due + generator.expovariate(rate)) < begun + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(session, make(len(tasks)))))
    seen = await asyncio.gather(*tasks)
    return Run(seen, time.perf_counter() - begun)
