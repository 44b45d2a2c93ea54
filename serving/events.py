"""Server-sent events on their way to a client: whole ones only, and a comment while the engine is silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Message, Send

KEEP_ALIVE = b": keep-alive\n\n"
# Proxies give up after a minute of silence; a comment is no event, and every client skips it.
KEEP_ALIVE_SECONDS = 15.0
ENDS = (b"\n\n", b"\r\n\r\n")


async def whole_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yields the bytes as soon as they end an event.

    If the engine dies in the middle of one, the part of it is dropped: the client would take it for the beginning
    of what comes next.
    """
    held = b""
    async for chunk in chunks:
        held += chunk
        end = _last_end(held)
        if end:
            yield held[:end]
            held = held[end:]
    if held:
        yield held


def _last_end(data: bytes) -> int:
    """Returns where the last whole event ends, 0 if none does."""
    if data.endswith(ENDS):
        return len(data)
    return max((data.rfind(end) + len(end) for end in ENDS if end in data), default=0)


@asynccontextmanager
async def kept_alive(send: Send) -> AsyncIterator[Send]:
    """Gives a ``send`` for one stream that says something every ``KEEP_ALIVE_SECONDS`` between headers and end."""
    clock = asyncio.get_running_loop().time
    last: float | None = None

    async def noting(message: Message) -> None:
        nonlocal last
        last = None
        await send(message)
        if message.get("more_body", True):
            last = clock()

    async def speak() -> None:
        nonlocal last
        while True:
            await asyncio.sleep(KEEP_ALIVE_SECONDS / 4)
            if last is not None and clock() - last >= KEEP_ALIVE_SECONDS:
                last = clock()
                await send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})

    speaking = asyncio.create_task(speak())
    try:
        yield noting
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
