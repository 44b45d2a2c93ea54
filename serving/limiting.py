"""Holds every request to the limits: a slot before it starts, a deadline until it ends.

A request that is over its deadline is ended as if its client had left, which every endpoint that generates knows
how to stop for; the client is told. Nothing is buffered.
"""

import asyncio
import json
from collections import deque

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.engine import EVENT_STREAM
from serving.error_response import error_response
from serving.gate import Gate, Gates
from serving.keys import Key
from serving.limits import Limits
from serving.requests import CLIENT_CLOSED_REQUEST, ClientGone
from serving.wire import error_body, error_code
from specification.errors import DeadlineExceeded, InvalidInput, RateLimitExceeded

DEADLINE_HEADER = "x-slmdock-deadline"
GENERATING = ("POST /v1/completions", "POST /v1/chat/completions", "POST /v1/tasks/{id}/trial")
# Never made to wait: what tells of the dock's health, and what an operator needs while it is overrun.
FREE = ("GET /health", "GET /ready", "GET /metrics", "GET /v1/keys", "POST /v1/keys", "DELETE /v1/keys/{id}")
READ_AHEAD_BYTES = 2**16


class Limiting:
    """Stands behind ``AccessControl``, whose findings about endpoint and key it uses."""

    def __init__(self, app: ASGIApp, limits: Limits, gates: Gates) -> None:
        self._app, self._limits, self._gates = app, limits, gates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = scope["state"]["endpoint"] if scope["type"] == "http" else None
        if endpoint is None or endpoint in FREE:
            await self._app(scope, receive, send)
        elif endpoint in GENERATING:
            await self._generate(scope, receive, send)
        else:
            await self._pass(self._gates.others, scope, receive, send)

    async def _generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            seconds = self._limits.deadline(Headers(scope=scope).get(DEADLINE_HEADER))
        except InvalidInput as error:
            await error_response(error)(scope, receive, send)
            return
        exchange = _Exchange(receive, send, seconds)
        await self._pass(self._gates.generating, scope, exchange.receive, exchange.send)
        await exchange.close()

    async def _pass(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        key: Key | None = scope["state"]["key"]
        client = _ReadAhead(receive)
        try:
            async with gate.slot(key.id if key else None, client.until_gone):
                await self._app(scope, client.receive, send)
        except RateLimitExceeded as error:
            # Of the gate: what the app raises it answers itself.
            await error_response(error)(scope, receive, send)
        except ClientGone:
            await Response(status_code=CLIENT_CLOSED_REQUEST)(scope, receive, send)


class _ReadAhead:
    """Notices that a client leaves while it waits; what it sent meanwhile is kept for the app."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()

    async def until_gone(self) -> None:
        """Returns when the client has gone; one that has sent ``READ_AHEAD_BYTES`` is watched no further."""
        size = 0
        while size < READ_AHEAD_BYTES:
            message = await self._receive()
            self._kept.append(message)
            if message["type"] == "http.disconnect":
                return
            size += len(message.get("body", b""))
        await asyncio.get_running_loop().create_future()

    async def receive(self) -> Message:
        return self._kept.popleft() if self._kept else await self._receive()


class _Exchange:
    """One request and its answer, with a clock. When time is up, the app sees its client leave."""

    def __init__(self, receive: Receive, send: Send, seconds: float) -> None:
        self._receive, self._send = receive, send
        self._error = DeadlineExceeded(f"the answer was not complete within {seconds:g} s, the request's deadline")
        self._end = asyncio.get_running_loop().time() + seconds
        self._over = self._begun = self._streams = self._complete = False
        self._last = b""

    async def receive(self) -> Message:
        """Returns the client's next message, at the deadline that it has left."""
        try:
            async with asyncio.timeout_at(self._end):
                return await self._receive()
        except TimeoutError:
            self._over = True
            return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Passes a message on; what the app says to a client that left becomes the deadline's error."""
        if self._complete:
            return
        starts = message["type"] == "http.response.start"
        if starts and message["status"] == CLIENT_CLOSED_REQUEST and self._over:
            await self._refuse()
            return
        # Noted only once it is sent: the deadline may cancel this very call while the client reads slowly.
        await self._send(message)
        if starts:
            self._begun = True
            self._streams = Headers(raw=message["headers"]).get("content-type", "").startswith(EVENT_STREAM)
        else:
            self._last = message.get("body", b"")[-1:] or self._last
            self._complete = not message.get("more_body", False)

    async def close(self) -> None:
        """Answers what the deadline left without an answer; a stream ends with an event that says so."""
        if not self._over or self._complete:
            return
        if not self._begun:
            await self._refuse()
        elif self._streams:
            self._complete = True
            body = error_body(str(self._error), self._error.kind, error_code(DeadlineExceeded))
            # A half-sent line before it would swallow the event.
            event = (b"" if self._last == b"\n" else b"\n\n") + b"data: " + json.dumps(body).encode() + b"\n\n"
            await self._send({"type": "http.response.body", "body": event, "more_body": False})

    async def _refuse(self) -> None:
        self._complete = True
        await error_response(self._error)({"type": "http"}, self._receive, self._send)
