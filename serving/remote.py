"""An engine that is reached over HTTP: any OpenAI-compatible server with our resolver, such as vLLM."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from weakref import WeakSet

import aiohttp
from yarl import URL

from serving.engine import AdapterUnavailable, Engine, EngineAnswer, EngineUnreachable, Route
from serving.request_record import onward_headers
from specification.errors import EngineError, InvalidInput

HEALTH_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
POLL_SECONDS = 0.5
REFUSALS = (400, 404)
# vLLM closes an idle connection after five seconds; it must be us who does it first.
KEEP_ALIVE_SECONDS = 4.0
CLOSING_SECONDS = 2.0
STOPPED = "it is stopped, or started again"
# vLLM's words where the resolver found nothing, and where the files could not be loaded.
ADAPTER_FAILURES = ("does not exist", "could not be loaded")


@dataclass(frozen=True)
class RemoteConfig:
    """Where the engine is and how long to wait for it.

    ``url`` is the server's root, without ``/v1``; ``base_model`` the name it serves the base model under;
    ``socket`` a Unix socket to connect to instead of the URL's host. Times are in seconds:
    ``answer_timeout`` is the longest silence, which without streaming is the whole generation.
    ``max_cpu_loras`` is what the server was started with; it cannot be asked.
    """

    url: str
    base_model: str
    api_key: str | None = None
    socket: str | None = None
    connect_timeout: float = 5.0
    answer_timeout: float = 600.0
    start_timeout: float = 30.0
    max_cpu_loras: int = 64


class RemoteEngine(Engine):
    """Passes requests on, untouched, and answers back, byte for byte."""

    def __init__(self, config: RemoteConfig) -> None:
        self.config = config
        self.base_model = config.base_model
        self.max_cpu_loras = config.max_cpu_loras
        self._reached = False
        self._client: aiohttp.ClientSession | None = None
        self._responses: WeakSet[aiohttp.ClientResponse] = WeakSet()

    def connect(self) -> None:
        """Opens the client without asking whether anybody is there; to be called in a running event loop.

        Raises:
            InvalidInput: ``url`` is no URL of a server.
        """
        try:
            url = URL(self.config.url)
        except (ValueError, UnicodeError) as error:
            raise InvalidInput(f"engine URL {self.config.url[:200]!r}: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise InvalidInput(f"engine URL {self.config.url[:200]!r}: give one like http://gpu:8000")
        self._client = self._open(url)

    async def start(self) -> None:
        """Connects and waits for the server, which may still be loading its model.

        Raises:
            InvalidInput: ``url`` is no URL.
            EngineError: nothing healthy answers within ``start_timeout``.
        """
        self.connect()
        deadline = time.monotonic() + self.config.start_timeout
        while not await self.healthy():
            if time.monotonic() > deadline:
                await self.stop()
                waited = f"{self.config.start_timeout:.0f} s"
                raise EngineError(f"no healthy engine answered at {self.config.url} within {waited}")
            await asyncio.sleep(POLL_SECONDS)
        await self.learn()

    async def learn(self) -> None:
        """Asks the server for the context its base model has, which vLLM tells and others need not."""
        if self._client is None:
            return
        try:
            async with self._client.get("v1/models", timeout=HEALTH_TIMEOUT) as answer:
                models = (await answer.json())["data"]
            self.max_model_len = int(next(one for one in models if one["id"] == self.base_model)["max_model_len"])
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError, StopIteration):
            return

    async def stop(self) -> None:
        """Breaks off all answers and closes all connections; the server runs on, since someone else started it."""
        client, self._client = self._client, None
        for response in list(self._responses):
            # The client's own close() wakes nobody who reads an answer, and takes the timeout from them.
            response.content.set_exception(aiohttp.ClientConnectionError(STOPPED))
            response.close()
        if client is not None:
            # It waits until the server has read all that was sent to it, which one that hangs never does.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSING_SECONDS):
                    await client.close()

    async def healthy(self) -> bool:
        """Asks the server's own health check."""
        if self._client is None:
            return False
        try:
            async with self._client.get("health", timeout=HEALTH_TIMEOUT) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            # A server that is slow is the same one; one that nothing listens for has gone.
            self._reached &= isinstance(error, TimeoutError)
            return False
        if not self._reached:
            self._reached = True
            self.starts += 1
        return status == 200

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        """Sends the request; see ``Engine.post``."""
        if self._client is None:
            raise EngineUnreachable(f"the engine at {self.config.url} is not connected yet; try again in a moment")
        data = json.dumps(body).encode()
        headers = {"content-type": "application/json"} | onward_headers()
        try:
            response = await self._send(self._client, route, data, headers)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self._reached = False
            raise EngineUnreachable(f"the engine at {self.config.url} is not there: {_words(error)}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineError(f"the engine at {self.config.url} does not answer: {_words(error)}") from error

        async def close() -> None:
            response.close()

        media_type = response.headers.get("content-type", "application/json").split(";")[0].strip()
        answer = EngineAnswer(response.status, media_type, self._chunks(response), close)
        if response.status in REFUSALS and body.get("model") != self.base_model:
            return _unless_adapter_failed(answer, await answer.read(), str(body.get("model")))
        return answer

    async def _send(
        self, client: aiohttp.ClientSession, route: Route, data: bytes, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        """Sends a request, and once more if its connection broke: a server that closes idle ones is not down."""

        def send() -> Awaitable[aiohttp.ClientResponse]:
            return client.post(f"v1/{route}", data=data, headers=headers, allow_redirects=False)

        try:
            response = await send()
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            if client.closed:
                raise
            response = await send()
        if client.closed:
            # The answer began in the very moment in which its connection was closed.
            response.close()
            raise aiohttp.ClientConnectionError(STOPPED)
        self._responses.add(response)
        return response

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineError(f"the engine at {self.config.url} broke off: {_words(error)}") from error

    def _open(self, url: URL) -> aiohttp.ClientSession:
        config = self.config
        headers = {"accept-encoding": "identity"}
        if config.api_key:
            headers["authorization"] = f"Bearer {config.api_key}"
        connector = (
            aiohttp.UnixConnector(config.socket, limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
            if config.socket
            else aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        )
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=config.connect_timeout, sock_read=config.answer_timeout
        )
        root = url.with_path(url.path.rstrip("/") + "/")
        return aiohttp.ClientSession(
            root, headers=headers, connector=connector, timeout=timeout, auto_decompress=False
        )


def _unless_adapter_failed(answer: EngineAnswer, data: bytes, adapter: str) -> EngineAnswer:
    """Tells vLLM's two answers about an adapter from those about the request, which are passed on."""
    text = data.decode("utf-8", "replace")
    if adapter in text and any(words in text for words in ADAPTER_FAILURES):
        raise AdapterUnavailable(f"the engine cannot load adapter {adapter}")
    return EngineAnswer(answer.status, answer.media_type, _once(data))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
