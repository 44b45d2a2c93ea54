"""An engine that answers at once or fails on demand: for what the gateway does around an engine."""

import asyncio
import json
from collections.abc import AsyncIterator

from serving.engine import EVENT_STREAM, Engine, EngineAnswer, Route
from specification.errors import EngineError

FIRST = b'data: {"choices":[{"text":"one"}]}\n\n'
EVENTS = (FIRST + b"da", b'ta: {"odd":  "spa', b'cing"}\n\n', b"data: [DONE]\n\n")
PAUSE_SECONDS = 0.3


class EngineDouble(Engine):
    """Keeps the requests it gets.

    ``mode`` is one of: answer, dead, hang (never answers), break (mid-stream), pause (between events).
    """

    def __init__(self, base_model: str) -> None:
        self.base_model = base_model
        self.mode = "answer"
        self.bodies: list[dict[str, object]] = []
        self.cancelled = asyncio.Event()
        self.closed = 0

    async def start(self) -> None:
        if self.mode == "dead":
            raise EngineError("the double was told not to start")

    async def stop(self) -> None:
        pass

    async def healthy(self) -> bool:
        return self.mode != "dead"

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        self.bodies.append(body)
        if self.mode == "dead":
            raise EngineError("the double is dead")
        if self.mode == "hang" and not body.get("stream"):
            await self._hang()
        if body.get("stream"):
            return EngineAnswer(200, EVENT_STREAM, self._events(), self._close)
        return EngineAnswer(200, "application/json", _once(json.dumps(body).encode()), self._close)

    async def _events(self) -> AsyncIterator[bytes]:
        for event in EVENTS:
            yield event
            if self.mode == "break":
                raise EngineError("the double broke off")
            if self.mode == "hang":
                await self._hang()
            if self.mode == "pause":
                await asyncio.sleep(PAUSE_SECONDS)

    async def _hang(self) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def _close(self) -> None:
        self.closed += 1


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
