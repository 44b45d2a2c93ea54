"""A request to a gateway as a value, and the decorator by which a sync and an async client share what it is."""

import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import httpx

from serving.wire import encodable
from specification.errors import InvalidInput

Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")


@dataclass(frozen=True)
class Call(Generic[Result]):
    """One request. ``read`` makes the result of the answer's body, and raises ValueError if that is no dock's.

    ``arguments`` are httpx's; ``uploads`` are files that go as parts of the form.
    """

    method: str
    path: str
    read: Callable[[bytes], Result]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    uploads: Mapping[str, Path] = field(default_factory=dict)

    @contextmanager
    def request(self, client: httpx.Client | httpx.AsyncClient) -> Iterator[httpx.Request]:
        """Gives the request as httpx sends it; its files are open meanwhile.

        Raises:
            InvalidInput: a parameter cannot be sent.
        """
        for name, value in self.arguments.get("params", {}).items():
            encodable(name, str(value))
        with ExitStack() as opened:
            uploads = {name: opened.enter_context(file.open("rb")) for name, file in self.uploads.items()}
            form = {"files": {**self.arguments.get("files", {}), **uploads}} if uploads else {}
            try:
                request = client.build_request(self.method, self.path, **{**self.arguments, **form})
            except httpx.InvalidURL as error:
                raise InvalidInput(f"{self.method} {self.path} cannot be asked: {error}") from None
            yield request


class Sender:
    """A client whose endpoints return their results."""

    def make(self, describe: Callable[[], Call[Result]]) -> Result:
        """Sends the call that is described and returns its result."""
        raise NotImplementedError


class AsyncSender:
    """A client whose endpoints return awaitables of their results."""

    async def make(self, describe: Callable[[], Call[Result]]) -> Result:
        """Sends the call that is described and returns its result."""
        raise NotImplementedError


class Endpoint(Generic[Parameters, Result]):
    """What ``endpoint`` makes of a method; on a client it is a function that makes the call."""

    def __init__(self, describe: Callable[Concatenate[Any, Parameters], Call[Result]]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> "Endpoint[Parameters, Result]": ...
    @overload
    def __get__(self, client: Sender, owner: type) -> Callable[Parameters, Result]: ...
    @overload
    def __get__(self, client: AsyncSender, owner: type) -> Callable[Parameters, Awaitable[Result]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self

        @functools.wraps(self._describe)
        def ask(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
            return client.make(lambda: self._describe(client, *args, **kwargs))

        return ask


def endpoint(
    describe: Callable[Concatenate[Any, Parameters], Call[Result]],
) -> Endpoint[Parameters, Result]:
    """Makes of a method that describes a call one that makes it, sync or async as its client is."""
    return Endpoint(describe)
