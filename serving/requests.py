"""Reading requests within limits, and noticing when the one who asked has gone."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Message

from specification.errors import TooLarge

Result = TypeVar("Result")

# What nginx logs where a client left before the answer.
CLIENT_CLOSED_REQUEST = 499


class ClientGone(Exception):
    """The client closed the connection; nobody reads an answer any more."""


async def read_body(request: Request, limit: int) -> bytes:
    """Returns the body, of ``limit`` bytes at most.

    Raises:
        TooLarge: the body is longer; the rest of it is not read.
    """
    return await limited(request, limit).body()


def limited(request: Request, limit: int) -> Request:
    """Returns the request with a body that raises TooLarge as soon as it exceeds ``limit`` bytes."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return Request(request.scope, receive)


async def while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Returns the result of ``work``, which is cancelled as soon as the client goes away.

    To be called after the body has been read.

    Raises:
        ClientGone: the client went first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the request's body exceeds the limit of {limit} bytes")
