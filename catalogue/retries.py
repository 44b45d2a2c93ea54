"""Asking a server again that does not answer: a bounded number of times, with growing pauses.

Every request of this package can be repeated without harm: it reads, or it sets points, indexes or a collection to
a state, or deletes points by id. A repeated creation may find the collection there, which its caller expects.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from random import uniform
from time import sleep

import httpx
from qdrant_client.http.exceptions import ResponseHandlingException

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0
# Too many requests; a proxy or a cluster without the node that it needs.
PASSING = (429, 502, 503, 504)

Send = Callable[[httpx.Request], httpx.Response]


class Unanswered(Exception):
    """A server gave no answer, however often it was asked. ``retry_after`` is in seconds, None if it said none."""

    def __init__(self, server: str, tries: int, reason: str, retry_after: int | None) -> None:
        times = "once" if tries == 1 else f"{tries} times"
        super().__init__(f"{server} was asked {times} and gave no answer (last: {reason})")
        self.retry_after = retry_after


@dataclass(frozen=True)
class Retries:
    """A middleware for qdrant-client's REST client; asks up to ``most`` times more."""

    most: int

    def __call__(self, request: httpx.Request, send: Send) -> httpx.Response:
        """Returns the first answer.

        Raises:
            Unanswered: none came, or the server asks for a pause beyond ``LONGEST_SECONDS``.
            ResponseHandlingException: what another try would not mend, such as a certificate that is not trusted.
        """
        pause, tries = FIRST_SECONDS, 0
        while True:
            tries += 1
            retry_after = None
            try:
                response = send(request)
            except ResponseHandlingException as error:
                if not _may_pass(error.source):
                    raise
                reason = str(error.source) or type(error.source).__name__
            else:
                if response.status_code not in PASSING:
                    return response
                reason = f"{response.status_code} {response.reason_phrase}".strip()
                retry_after = _seconds(response.headers.get("retry-after"))
            if tries > self.most or (retry_after or 0) > LONGEST_SECONDS:
                server = f"{request.url.scheme}://{request.url.netloc.decode()}"
                raise Unanswered(server, tries, reason, retry_after)
            # Many writers that lost one server together must not come back together.
            sleep(pause * uniform(0.5, 1) if retry_after is None else retry_after)
            pause = min(2 * pause, LONGEST_SECONDS)


def _may_pass(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            return False
        cause = cause.__cause__ or cause.__context__
    passing = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
    return isinstance(error, passing)


def _seconds(header: str | None) -> int | None:
    """Reads Retry-After in seconds; its other form, a date, counts as none."""
    return int(header) if header is not None and header.isascii() and header.isdigit() else None
