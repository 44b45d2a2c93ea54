"""A dock that is reached through its gateway, with the methods of a dock in this process; sync and async.

The command line uses the sync one while another process holds the catalogue's folder.
"""

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import httpx
from pydantic import ValidationError

from indexer.store import AdapterStore
from serving.call import AsyncSender, Call, Sender
from serving.endpoints import Endpoints
from serving.wire import ErrorAnswer, error_code
from specification.errors import DockError, EngineError, InvalidInput

KEY_VARIABLE = "SLMDOCK_KEY"
MAX_KEY_LENGTH = 1000
TIMEOUT_SECONDS = 600.0
CONNECT_SECONDS = 5.0
HEALTH_SECONDS = 5.0
RETRY_AFTER = re.compile(r"[0-9]{1,9}")

Result = TypeVar("Result")


class DockClient(Endpoints, Sender):
    """Speaks to a gateway. Every method raises the same DockErrors as the dock behind it would."""

    def __init__(
        self,
        url: str,
        transport: httpx.BaseTransport | None = None,
        key: str | None = None,
        store: AdapterStore | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        """Asks nobody yet. ``key`` is an API key; the default is the environment's SLMDOCK_KEY.

        ``store`` is the dock's own, where this process can write to it; whole models go in through it.
        ``timeout`` is for how many seconds the dock may be silent.

        Raises:
            InvalidInput: ``url`` is no URL, the key can be none, or ``timeout`` is not positive.
        """
        self.url = url.rstrip("/")
        self._store = store
        self._client = _made(
            lambda **settings: httpx.Client(transport=transport, **settings), self.url, key, timeout
        )

    def health(self) -> bool:
        """Tells whether a gateway answers there."""
        try:
            return self._client.get("/health", timeout=HEALTH_SECONDS).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def make(self, describe: Callable[[], Call[Result]]) -> Result:
        """Sends the call that is described and returns its result."""
        call = describe()
        with call.request(self._client) as request:
            try:
                response = self._client.send(request)
            except httpx.HTTPError as error:
                raise _silent(self.url, error) from None
        return _result(call, response, self.url)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncDockClient(Endpoints, AsyncSender):
    """``DockClient`` for asyncio: the same methods, to be awaited.

    A request is prepared in a thread, a submission's checks and a whole model's copy included. The loop itself
    reads an adapter's files while it sends them, piece by piece.
    """

    def __init__(
        self,
        url: str,
        transport: httpx.AsyncBaseTransport | None = None,
        key: str | None = None,
        store: AdapterStore | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        """See ``DockClient``."""
        self.url = url.rstrip("/")
        self._store = store
        self._client = _made(
            lambda **settings: httpx.AsyncClient(transport=transport, **settings), self.url, key, timeout
        )

    async def health(self) -> bool:
        """Tells whether a gateway answers there."""
        try:
            answer = await self._client.get("/health", timeout=HEALTH_SECONDS)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    async def make(self, describe: Callable[[], Call[Result]]) -> Result:
        """Sends the call that is described and returns its result."""
        call = await asyncio.to_thread(describe)
        with call.request(self._client) as request:
            try:
                response = await self._client.send(request)
            except httpx.HTTPError as error:
                raise _silent(self.url, error) from None
        return _result(call, response, self.url)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _made(make: Callable[..., Result], url: str, key: str | None, timeout: float) -> Result:
    if not timeout > 0:
        raise InvalidInput(f"timeout {timeout}: give a positive number of seconds")
    headers = _headers(key or os.environ.get(KEY_VARIABLE, ""))
    waits = httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
    settings: dict[str, Any] = {"base_url": url, "headers": headers, "timeout": waits, "trust_env": False}
    try:
        return make(**settings)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise InvalidInput(f"dock URL {url[:200]!r}: {error}; write http://host:port") from None


def _silent(url: str, error: httpx.HTTPError) -> EngineError:
    return EngineError(f"the dock at {url} does not answer: {str(error) or type(error).__name__}")


def _result(call: Call[Result], response: httpx.Response, url: str) -> Result:
    if not response.is_success:
        raise _error_in(response, url)
    try:
        return call.read(response.content)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise EngineError(f"what answers at {url} is no dock: {call.method} {call.path}: {reason}") from None


def _error_in(response: httpx.Response, url: str) -> DockError:
    """Returns the error of the tree that the gateway reports."""
    try:
        error = ErrorAnswer.model_validate_json(response.content).error
    except ValidationError:
        status = f"status {response.status_code} without a dock's error"
        return EngineError(f"what answers at {url} is no dock: {response.url.path}: {status}")
    raised = _CLASSES.get(str(error.code), DockError)(error.message)
    if RETRY_AFTER.fullmatch(seconds := response.headers.get("retry-after", "")):
        raised.retry_after = int(seconds)
    return raised


def _tree(error: type[DockError]) -> Iterator[type[DockError]]:
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


_CLASSES = {error_code(error): error for error in _tree(DockError)}


def _headers(key: str) -> dict[str, str]:
    key = key.strip()
    if not (key.isascii() and key.isprintable()) or len(key) > MAX_KEY_LENGTH:
        raise InvalidInput(f"the API key ({KEY_VARIABLE}, or a key file) is not one line of ASCII text")
    return {"authorization": f"Bearer {key}"} if key else {}
