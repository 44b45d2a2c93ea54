"""The least that can stand between a client and vLLM in Python: bytes in, bytes out.

python -m benchmarks.relay SOCKET          # prints its URL
"""

import socket
import sys

import aiohttp
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send


class Relay:
    """An ASGI app that passes requests on to a server on a Unix socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._client: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._client is None:
            connector = aiohttp.UnixConnector(self._path, limit=0, keepalive_timeout=4.0)
            self._client = aiohttp.ClientSession("http://vllm", connector=connector)
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        kind = {"content-type": "application/json"}
        async with self._client.post(scope["path"], data=body, headers=kind) as answer:
            headers = [(b"content-type", answer.content_type.encode())]
            if answer.content_length is not None:
                headers.append((b"content-length", str(answer.content_length).encode()))
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def main() -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(Relay(sys.argv[1]), log_level="warning", access_log=False, lifespan="off")
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvloop.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
