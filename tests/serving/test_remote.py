"""The engine over HTTP, against a server that closes connections as it likes."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from serving import RemoteConfig, RemoteEngine
from tests.serving.tiny import BASE_NAME

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


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
            answer = await engine.post("completions", {"model": BASE_NAME, "prompt": "x"})
            assert await answer.read() == b"{}"
            # The gateway is busy while the server closes, and so does not hear of it before the next request.
            time.sleep(0.05)
    finally:
        await engine.stop()
    assert impatient.connections == 3
