"""Runs the gateway and its engines together until one of them, or the operator, ends it."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterable, Iterator

import uvicorn

from serving.access import is_loopback
from serving.engine import Engine
from serving.gateway import create_app
from serving.parts import GatewayParts
from specification.errors import InvalidInput

BACKLOG = 2048
SHUTDOWN_SECONDS = 10
# Longer than clients and proxies keep an idle connection, so that it is they who close it, never in a request.
KEEP_ALIVE_SECONDS = 75


async def serve(
    parts: GatewayParts,
    host: str = "127.0.0.1",
    port: int = 8000,
    ready: Callable[[str], None] = print,
    listening: Callable[[str], None] = lambda url: None,
) -> None:
    """Listens at once, starts the engines, and returns after SIGINT or SIGTERM.

    ``listening`` is called with the URL at once, ``ready`` when the engines are up; between them the catalogue's
    endpoints answer and /ready says 503. Port 0 takes a free one. Signals are seen in the main thread only;
    elsewhere cancel the task.

    Raises:
        InvalidInput: the address cannot be listened on, or is not loopback and there are no keys.
        EngineError: the engine does not start.
    """
    with _listen(host, port) as listener:
        _require_keys(parts, listener.getsockname()[0])
        url = url_of(*listener.getsockname()[:2])
        # Connections queue from here on. Nothing runs yet that would be left over if this call fails.
        listening(url)
        await _run(parts, listener, lambda: ready(url))


async def _run(parts: GatewayParts, listener: socket.socket, ready: Callable[[], None]) -> None:
    config = uvicorn.Config(
        create_app(parts, listener.getsockname()[0]),
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = _Server(config)
    gateway = asyncio.create_task(server.serve(sockets=[listener]))
    starting = asyncio.create_task(_start(parts.engines))
    try:
        await asyncio.wait({gateway, starting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            ready()
            # Not awaited itself: a cancellation would end it without closing its connections.
            await asyncio.wait({gateway})
            gateway.result()
    finally:
        server.should_exit = True
        starting.cancel()
        await asyncio.gather(starting, gateway, return_exceptions=True)
        stops = [engine.stop() for engine in parts.engines]
        await asyncio.gather(*stops, *([parts.whole.stop()] if parts.whole else []))


async def _start(engines: Iterable[Engine]) -> None:
    """Starts them at once; if one fails, none is left starting."""
    tasks = [asyncio.create_task(engine.start()) for engine in engines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def url_of(address: str, port: int) -> str:
    """Returns the URL under which this machine reaches a socket bound to ``address``, which may be all of them."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


class _Server(uvicorn.Server):
    """A server whose signals end it quietly: uvicorn's own would be raised again before the engine stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        caught = (signal.SIGINT, signal.SIGTERM)
        with contextlib.suppress(RuntimeError, ValueError):
            for number in caught:
                loop.add_signal_handler(number, self.handle_exit, number, None)
        yield
        with contextlib.suppress(RuntimeError, ValueError):
            for number in caught:
                loop.remove_signal_handler(number)


def _require_keys(parts: GatewayParts, address: str) -> None:
    """Looks at the address that was bound, so that no name or wildcard can hide what it is."""
    if not is_loopback(address) and not (parts.keys and parts.keys.required):
        raise InvalidInput(
            f"without keys the dock listens on loopback only, and {address} can be reached from other machines; "
            f"make a key first: slmdock key create NAME --role serve"
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns off Nagle's algorithm, which would hold answers back for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError, ValueError) as error:
        listener.close()
        raise InvalidInput(f"cannot listen on {host}:{port}: {error}; choose another --port") from None
    return listener
