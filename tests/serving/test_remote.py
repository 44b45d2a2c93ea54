"""The engine over HTTP, against a server that closes connections as it likes."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from serving import RemoteConfig, RemoteEngine, remote
from specification.errors import EngineError
from tests.serving.tiny import BASE_NAME

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
EVENT = b"data: {}\n\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BODY: dict[str, object] = {"model": BASE_NAME, "prompt": "x"}


class Impatient:
    """Answers one request a connection as if more could follow, and closes it."""

    def __init__(self) -> None:
        self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                self.connections += 1
                if connection.recv(65_536):
                    connection.sendall(ANSWER)


@pytest.fixture
def impatient() -> Iterator[Impatient]:
    server = Impatient()
    yield server
    server.close()


async def test_a_connection_that_the_server_closed_is_no_failure(impatient: Impatient) -> None:
    engine = RemoteEngine(RemoteConfig(impatient.url, BASE_NAME))
    engine.connect()
    try:
        for _ in range(3):
            answer = await engine.post("completions", BODY)
            assert await answer.read() == b"{}"
            # The gateway is busy while the server closes, and so does not hear of it before the next request.
            time.sleep(0.05)
    finally:
        await engine.stop()
    assert impatient.connections == 3


@pytest.fixture
async def endless() -> AsyncIterator[str]:
    """The URL of a server whose streams fall silent after their first event and never end."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(STREAM + f"{len(EVENT):x}\r\n".encode() + EVENT + b"\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_whatever_is_under_way_when_it_stops_breaks_off(endless: str) -> None:
    began = []
    for steps in range(60):
        engine = RemoteEngine(RemoteConfig(endless, BASE_NAME))
        engine.connect()
        events: list[bytes] = []

        async def ask(engine: RemoteEngine = engine, events: list[bytes] = events) -> None:
            answer = await engine.post("completions", BODY)
            events.append(await anext(answer.chunks))
            await anext(answer.chunks)

        asking = asyncio.create_task(ask())
        for _ in range(steps):
            await asyncio.sleep(0)
        await engine.stop()
        with pytest.raises(EngineError):
            await asyncio.wait_for(asking, 10)
        began.append(events == [EVENT])
    # Stopped at every step of the way: before it is sent, before its headers, and while it is read.
    assert (began[0], began[-1]) == (False, True)


async def test_an_answer_that_is_read_later_has_broken_off_as_well(endless: str) -> None:
    engine = RemoteEngine(RemoteConfig(endless, BASE_NAME))
    engine.connect()
    answer = await engine.post("completions", BODY)
    assert await anext(answer.chunks) == EVENT
    await engine.stop()
    with pytest.raises(EngineError, match="broke off: it is stopped"):
        await anext(answer.chunks)


async def test_a_server_that_reads_nothing_does_not_hold_up_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "CLOSING_SECONDS", 0.05)
    path = str(tmp_path / "socket")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(path)
        server.listen()
        engine = RemoteEngine(RemoteConfig("http://vllm", BASE_NAME, socket=path))
        engine.connect()
        asking = asyncio.create_task(engine.post("completions", BODY | {"prompt": "x" * 2**19}))
        # More than long enough to fill the socket's buffer.
        for _ in range(100):
            await asyncio.sleep(0)
        await asyncio.wait_for(engine.stop(), 10)
    with pytest.raises(EngineError):
        await asyncio.wait_for(asking, 10)
