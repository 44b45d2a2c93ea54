"""Who may ask what: one table from endpoints to roles, and the one place that enforces it.

What is not in the table needs ``admin``. A dock without keys answers to this machine only, and then to everything.
"""

import ipaddress
import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.error_response import error_response
from serving.keys import ROLES, Key, KeyStore, Role
from specification.errors import DockError, InvalidApiKey, KeysUnavailable, PermissionDenied

READERS: tuple[Role, ...] = ("search", "publish")
SERVED: tuple[Role, ...] = ("serve",)
PUBLISHERS: tuple[Role, ...] = ("publish",)
ADMINS: tuple[Role, ...] = ("admin",)

# None: open to everybody. Otherwise one of the roles is needed; admin has all of them.
ENDPOINTS: dict[str, tuple[Role, ...] | None] = {
    "GET /": None,
    "GET /console/{file:path}": None,
    "GET /v1/console": None,
    "GET /health": None,
    "GET /ready": None,
    "GET /openapi.json": ROLES,
    "GET /metrics": ROLES,
    "GET /v1/models": ("serve", "search"),
    "POST /v1/completions": SERVED,
    "POST /v1/chat/completions": SERVED,
    "POST /v1/route": ("serve", "search"),
    "POST /v1/sketch": ("search", "serve", "publish"),
    "POST /v1/tasks": SERVED,
    "GET /v1/tasks/{id}": SERVED,
    "POST /v1/tasks/{id}/trial": SERVED,
    "POST /v1/tasks/{id}/trial/candidates": SERVED,
    "POST /v1/tasks/{id}/trial/outcome": SERVED,
    "GET /learnwares": READERS,
    "GET /learnwares/facets": READERS,
    "GET /learnwares/{reference}": READERS,
    "GET /learnwares/{reference}/specification": READERS,
    "POST /search": ("search",),
    "POST /learnwares": PUBLISHERS,
    "POST /learnwares/{reference}/quality": PUBLISHERS,
    "POST /learnwares/{reference}/state": PUBLISHERS,
    "POST /learnwares/{reference}/verification": PUBLISHERS,
    "GET /learnwares/{reference}/verification": READERS,
    "GET /verifications": READERS,
    "DELETE /learnwares/{reference}": ADMINS,
    "GET /history": READERS,
    "POST /measured-tasks": PUBLISHERS,
    "GET /v1/live": ROLES,
    "GET /v1/map": READERS,
    "POST /v1/map": ("search",),
    "GET /v1/residency": ("serve",),
    "PUT /v1/residency/pins/{reference:path}": ADMINS,
    "DELETE /v1/residency/pins/{reference:path}": ADMINS,
    "GET /v1/models/{model:path}": ("serve", "search"),
    "GET /v1/keys": ADMINS,
    "POST /v1/keys": ADMINS,
    "DELETE /v1/keys/{id}": ADMINS,
}

HOW = (
    "send 'Authorization: Bearer sk-dock-...' (OpenAI's clients: api_key; "
    "the command line: SLMDOCK_KEY or --key-file)"
)

KEYLESS = "local"
"""Who changes what through a gateway without keys, which answers to its own machine only."""

log = logging.getLogger(__name__)


class AccessControl:
    """Lets a request through to ``app`` if its key has the endpoint's role.

    ``address`` is the one the gateway listens on, None where it does not listen itself (then a keyless dock is
    open, and whoever runs the app its door). The scope's state gets ``endpoint``, and ``key`` where there is one.
    """

    def __init__(
        self, app: ASGIApp, routes: Sequence[BaseRoute], keys: KeyStore | None, address: str | None
    ) -> None:
        self._app, self._routes, self._keys, self._address = app, routes, keys, address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            try:
                self._admit(scope)
            except KeysUnavailable as error:
                log.error("nobody is let in: %s", error)
                app = error_response(KeysUnavailable("the dock cannot read its keys; its log says why"))
            except DockError as error:
                app = error_response(error)
        elif scope["type"] != "lifespan":
            raise RuntimeError(f"no endpoint of the gateway speaks {scope['type']}")
        await app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        endpoint = self._endpoint(scope)
        roles = ADMINS if endpoint is None else ENDPOINTS.get(endpoint, ADMINS)
        state = scope.setdefault("state", {})
        state["endpoint"], state["key"] = endpoint, None
        if roles is None:
            return
        headers = Headers(scope=scope)
        if self._keys is None or not self._keys.required:
            self._admit_neighbour(headers)
            return
        key = state["key"] = self._keys.authenticate(_token(headers))
        # A path that leads nowhere gets its 404 from the router, whatever the key's roles.
        if endpoint is not None and not key.may(roles):
            raise _lacking(key, endpoint, roles)

    def _endpoint(self, scope: Scope) -> str | None:
        """Returns method and path's pattern of the very route that the router will take, None if there is none."""
        for route in self._routes:
            if route.matches(scope)[0] is Match.FULL:
                method = "GET" if scope["method"] == "HEAD" else scope["method"]
                return f"{method} {getattr(route, 'path', '?')}"
        return None

    def _admit_neighbour(self, headers: Headers) -> None:
        """Lets in who is on this machine, but no web page: one can ask us through its visitor's browser."""
        if self._address is None:
            return
        if not is_loopback(self._address):
            raise InvalidApiKey("a dock without keys answers on loopback only; 'slmdock key create' makes one")
        for name in ("host", "origin"):
            value = headers.get(name)
            if value is not None and not names_this_machine(value if name == "origin" else f"//{value}"):
                raise PermissionDenied(
                    f"a dock without keys answers only under this machine's own names, such as 127.0.0.1 and "
                    f"localhost; the request's {name} is {value[:200]!r}. 'slmdock key create' makes a key"
                )


async def _key_of(request: Request) -> Key | None:
    key: Key | None = getattr(request.state, "key", None)
    return key


Sender = Annotated[Key | None, Depends(_key_of)]
"""The request's key, None where the dock has none."""


async def _who_of(key: Sender) -> str:
    return KEYLESS if key is None else key.name


Who = Annotated[str, Depends(_who_of)]
"""The name of the request's key, for the history."""


# Asked twice a request, mostly about the same few.
@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Tells whether a numeric address stays on this machine."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def names_this_machine(url: str) -> bool:
    """Tells whether a URL's host is a loopback address or one of localhost's names."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return is_loopback(host) or host == "localhost" or host.endswith(".localhost")


def _token(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise InvalidApiKey(f"no API key was sent; {HOW}")
    return token.strip()


def _lacking(key: Key, endpoint: str, roles: Sequence[Role]) -> PermissionDenied:
    has, needed = ", ".join(key.roles), " or ".join(dict.fromkeys((*roles, "admin")))
    return PermissionDenied(f"{endpoint} needs a key with the role {needed}; the key {key.name!r} has {has}")
