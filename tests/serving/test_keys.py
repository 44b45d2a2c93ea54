"""Keys: kept, checked and enforced through the real gateway. No secret may appear but where it was made."""

import asyncio
import json
import logging
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx
import openai
import pytest
from fastapi import FastAPI
from fastapi.routing import Mount
from starlette.responses import PlainTextResponse

from serving import DockClient, GatewayParts, create_app, serve
from serving.access import ENDPOINTS
from serving.client import KEY_VARIABLE
from serving.keys import MAX_KEYS, ROLES, KeyRequest, KeyStore, NewKey, Role
from specification.errors import InvalidApiKey, InvalidInput, KeysUnavailable, NotFound, PermissionDenied
from tests.serving.conftest import TinyDock
from tests.serving.doubles import EngineDouble
from tests.serving.tiny import BASE_NAME

Serving = Callable[[GatewayParts], AbstractContextManager[str]]

ASKED = {"model": BASE_NAME, "prompt": "a very private prompt"}


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.json")


@pytest.fixture
def parts(dock: TinyDock, double: EngineDouble, keys: KeyStore) -> GatewayParts:
    return replace(dock.parts(double), keys=keys)


def make(keys: KeyStore, *roles: Role, expires_in: int | None = None) -> NewKey:
    return keys.create_key(KeyRequest(name="somebody", roles=roles, expires_in=expires_in))


def client_of(app: FastAPI, key: str | None = None, url: str = "http://dock") -> httpx.AsyncClient:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=url, headers=headers)


async def status_of(app: FastAPI, key: str | None, method: str, path: str) -> int:
    async with client_of(app, key) as client:
        return (await client.request(method, path)).status_code


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_a_key_is_shown_once_and_kept_as_a_hash(keys: KeyStore) -> None:
    assert not keys.required
    made = make(keys, "serve", "search", expires_in=60)
    assert keys.required
    assert made.secret.startswith(f"sk-dock-{made.id}-")
    assert made.secret not in repr(made)
    random_part = made.secret.removeprefix(f"sk-dock-{made.id}-")
    assert random_part not in keys.path.read_text()
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    (shown,) = keys.list_keys()
    assert (shown.name, shown.roles, shown.last) == ("somebody", ("search", "serve"), made.secret[-4:])
    assert shown.expires == shown.created + 60
    assert keys.authenticate(made.secret) == shown
    assert keys.revoke_key(made.id) == shown
    with pytest.raises(InvalidApiKey, match="not known"):
        keys.authenticate(made.secret)
    with pytest.raises(NotFound, match="key list"):
        keys.revoke_key(made.id)
    assert keys.required, "a dock whose last key was revoked must not be open"


def test_only_the_whole_secret_is_taken(keys: KeyStore) -> None:
    made, other = make(keys, "serve"), make(keys, "admin")
    swapped = made.secret.replace(made.id, other.id)
    for wrong in ("", "sk-dock-", made.id, made.secret[:-1], made.secret + "x", swapped, made.secret.upper(), "ü"):
        with pytest.raises(InvalidApiKey):
            keys.authenticate(wrong)


def test_an_expired_key_says_so(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(keys, "serve", expires_in=3600)
    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(InvalidApiKey, match=r"'somebody' expired on 20\d\d-"):
        keys.authenticate(made.secret)


def test_there_is_a_most_of_keys(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.keys.MAX_KEYS", 1)
    make(keys, "serve")
    with pytest.raises(InvalidInput, match="revoke some"):
        make(keys, "serve")
    assert MAX_KEYS == 1000


def test_processes_that_write_at_once_lose_nothing(keys: KeyStore) -> None:
    code = (
        "import sys; from pathlib import Path; from serving.keys import KeyRequest, KeyStore\n"
        "store = KeyStore(Path(sys.argv[1]))\n"
        "for _ in range(20): store.create_key(KeyRequest(name='process', roles=('serve',)))\n"
    )
    words = [sys.executable, "-c", code, str(keys.path)]
    running = [subprocess.Popen(words, cwd=Path(__file__).parents[2]) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    assert len({key.id for key in keys.list_keys()}) == 40


DAMAGED = [b"", b"{", b"[]", b'{"version": 2, "keys": []}', b'{"keys": [{"id": "x"}]}', b"\xff", b" " * 2**21]


@pytest.mark.parametrize("data", DAMAGED)
async def test_a_damaged_file_lets_nobody_in(
    data: bytes, parts: GatewayParts, keys: KeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    admin = make(keys, "admin")
    app = create_app(parts, "127.0.0.1")
    assert await status_of(app, admin.secret, "GET", "/v1/models") == 200
    keys.path.write_bytes(data)
    for secret in (None, admin.secret):
        async with client_of(app, secret, "http://127.0.0.1") as client:
            refused = await client.get("/v1/models")
            assert (await client.get("/health")).status_code == 200
        assert refused.status_code == (503 if secret else 401)
        assert str(keys.path) not in refused.text
    assert error_of(refused)["code"] == "keys_unavailable"
    assert f"{keys.path}: " in caplog.text
    with pytest.raises(KeysUnavailable):
        make(keys, "serve")
    assert keys.path.read_bytes() == data


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
async def test_what_is_no_file_is_not_taken_for_a_dock_without_keys(
    kind: str, parts: GatewayParts, keys: KeyStore
) -> None:
    if kind == "folder":
        keys.path.mkdir()
    else:
        keys.path.symlink_to("nowhere")
    app = create_app(parts, "127.0.0.1")
    async with client_of(app, "sk-dock-x", "http://127.0.0.1") as client:
        assert (await client.get("/v1/models")).status_code == 503


async def test_the_gateway_sees_what_other_processes_change(parts: GatewayParts, keys: KeyStore) -> None:
    app, elsewhere = create_app(parts), KeyStore(keys.path)
    assert await status_of(app, None, "GET", "/v1/models") == 200
    made = make(elsewhere, "serve")
    assert await status_of(app, None, "GET", "/v1/models") == 401
    assert await status_of(app, made.secret, "GET", "/v1/models") == 200
    second = make(elsewhere, "serve")
    assert await status_of(app, second.secret, "GET", "/v1/models") == 200
    elsewhere.revoke_key(made.id)
    assert await status_of(app, made.secret, "GET", "/v1/models") == 401
    elsewhere.revoke_key(second.id)
    assert await status_of(app, None, "GET", "/v1/models") == 401
    keys.path.unlink()
    assert await status_of(app, None, "GET", "/v1/models") == 200


def test_every_route_is_in_the_table_of_roles(parts: GatewayParts) -> None:
    for route in create_app(parts).routes:
        for method in getattr(route, "methods", {"?"}) - {"HEAD"}:
            assert f"{method} {getattr(route, 'path', '?')}" in ENDPOINTS


async def test_each_role_opens_its_endpoints_and_no_other(parts: GatewayParts, keys: KeyStore) -> None:
    app = create_app(parts)
    made = {role: make(keys, role).secret for role in ROLES}
    here = {f"{m} {getattr(r, 'path', '')}" for r in app.routes for m in getattr(r, "methods", ())}
    for endpoint, roles in ENDPOINTS.items():
        if endpoint not in here:
            continue
        method, path = endpoint.replace("{id}", "0" * 16).replace("{reference}", "nobody").split()
        for role, secret in made.items():
            allowed = roles is None or role in roles or role == "admin"
            status = await status_of(app, secret, method, path)
            assert (status == 403) == (not allowed), (endpoint, role, status)
            assert status != 401
        assert (await status_of(app, None, method, path) == 401) == (roles is not None)


async def test_what_is_not_in_the_table_is_for_admins(parts: GatewayParts, keys: KeyStore) -> None:
    app = create_app(parts)
    app.get("/forgotten")(lambda: "secret")
    app.router.routes.append(Mount("/mounted", PlainTextResponse("secret")))
    others, admin = make(keys, "search", "serve", "publish").secret, make(keys, "admin").secret
    for path in ("/forgotten", "/mounted/x"):
        for method in ("GET", "HEAD") if path == "/mounted/x" else ("GET",):
            found = [await status_of(app, key, method, path) for key in (None, others, admin)]
            assert found == [401, 403, 200]
    assert [await status_of(app, key, "GET", "/nowhere") for key in (None, others)] == [401, 404]
    assert [await status_of(app, key, "DELETE", "/v1/completions") for key in (None, others)] == [401, 405]
    assert [await status_of(app, key, "GET", "/learnwares/") for key in (None, others)] == [401, 307]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic eDp5", "wrong-48151623", "Bearer wrong-48151"])
async def test_refusals_are_openai_s_and_never_repeat_the_key(
    header: str, parts: GatewayParts, keys: KeyStore
) -> None:
    make(keys, "serve")
    async with client_of(create_app(parts)) as client:
        refused = await client.post("/v1/completions", json=ASKED, headers={"authorization": header})
    error = error_of(refused)
    assert (refused.status_code, error["type"], error["code"]) == (401, "invalid_request_error", "invalid_api_key")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert "48151" not in refused.text
    assert "eDp5" not in refused.text


async def test_odd_bytes_in_the_header(parts: GatewayParts, keys: KeyStore) -> None:
    make(keys, "serve")
    async with client_of(create_app(parts)) as client:
        refused = await client.get("/v1/models", headers=[(b"authorization", b"Bearer sk-dock-\xff\xfe")])
    assert refused.status_code == 401


async def test_openai_s_client_understands(parts: GatewayParts, keys: KeyStore) -> None:
    app = create_app(parts)
    serving, searching = make(keys, "serve"), make(keys, "search")

    async def ask(key: str) -> str:
        async with client_of(app) as http:
            client = openai.AsyncOpenAI(
                base_url="http://dock/v1", api_key=key, http_client=cast(Any, http), max_retries=0
            )
            response = await client.completions.with_raw_response.create(model=BASE_NAME, prompt="x")
            return response.headers["x-slmdock-decision"]

    assert await ask(serving.secret) == "base"
    with pytest.raises(openai.AuthenticationError) as unknown:
        await ask("sk-dock-nobody")
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError, match="needs a key with the role serve or admin"):
        await ask(searching.secret)


async def test_streams_pass_untouched_with_a_key(parts: GatewayParts, keys: KeyStore) -> None:
    async with client_of(create_app(parts), make(keys, "serve").secret) as client:
        response = await client.post("/v1/completions", json=ASKED | {"stream": True})
    assert response.content.endswith(b"data: [DONE]\n\n")


async def test_keys_by_api(parts: GatewayParts, keys: KeyStore) -> None:
    app, admin = create_app(parts), make(keys, "admin")
    async with client_of(app, admin.secret) as client:
        wanted = {"name": "app", "roles": ["serve"], "expires_in": 60}
        answer = await client.post("/v1/keys", json=wanted)
        made = answer.json()
        assert (answer.status_code, made["roles"], made["expires"]) == (201, ["serve"], made["created"] + 60)
        listed = (await client.get("/v1/keys")).text
        assert [key["id"] for key in json.loads(listed)["data"]] == [admin.id, made["id"]]
        assert made["secret"] not in listed
        assert "sha256" not in listed + answer.text
        assert await status_of(app, made["secret"], "GET", "/v1/models") == 200
        assert (await client.delete(f"/v1/keys/{made['id']}")).json()["name"] == "app"
        assert await status_of(app, made["secret"], "GET", "/v1/models") == 401
        gone = await client.delete(f"/v1/keys/{made['secret']}")
        assert gone.status_code == 404
        assert made["secret"] not in gone.text
        bare: list[dict[str, object]] = [{}, {"name": "x"}, {"name": "x", "roles": []}]
        fields: list[dict[str, object]] = [{"roles": ["root"]}, {"a": 1}, {"expires_in": 0}, {"name": "\n"}]
        for wrong in (*bare, *(wanted | field for field in fields)):
            assert (await client.post("/v1/keys", json=wrong)).status_code == 400
        assert (await client.post("/v1/keys", content=b" " * 2**20)).status_code == 413


async def test_a_gateway_without_a_place_for_keys(gateway: httpx.AsyncClient) -> None:
    assert (await gateway.get("/v1/keys")).status_code == 404


def own_address() -> str:
    """An address under which other machines may reach this one, else the wildcard."""
    try:
        found = socket.gethostbyname(socket.gethostname())
    except OSError:
        return "0.0.0.0"
    return "0.0.0.0" if found.startswith("127.") else found


@pytest.mark.parametrize("host", ["0.0.0.0", "", own_address(), "::"])
async def test_other_addresses_need_keys(host: str, parts: GatewayParts, double: EngineDouble) -> None:
    for each in (parts, replace(parts, keys=None)):
        with pytest.raises(InvalidInput, match=r"cannot listen|make a key first: slmdock key create"):
            await asyncio.wait_for(serve(each, host, 0), 30)


async def test_a_name_of_another_address_needs_keys(parts: GatewayParts, monkeypatch: pytest.MonkeyPatch) -> None:
    if own_address() == "0.0.0.0":
        pytest.skip("this machine has no other address than loopback")
    with pytest.raises(InvalidInput, match=r"make a key first"):
        await asyncio.wait_for(serve(parts, socket.gethostname(), 0), 30)


async def test_keys_removed_under_an_open_address_close_it(parts: GatewayParts, keys: KeyStore) -> None:
    app = create_app(parts, "0.0.0.0")
    admin = make(keys, "admin")
    assert await status_of(app, admin.secret, "GET", "/v1/models") == 200
    keys.path.unlink()
    assert [await status_of(app, key, "GET", "/v1/models") for key in (None, admin.secret)] == [401, 401]


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8000", None, 200),
        ("localhost", "http://localhost:8000", 200),
        ("LOCALHOST:1", None, 200),
        ("[::1]:8000", "http://[::1]:8000", 200),
        ("dock.localhost", None, 200),
        ("evil.example", None, 403),
        ("127.0.0.1.evil.example:8000", None, 403),
        ("localhost.evil.example", None, 403),
        ("[::1", None, 403),
        ("", None, 403),
        ("127.0.0.1:8000", "https://evil.example", 403),
        ("127.0.0.1:8000", "null", 403),
    ],
)
async def test_web_pages_cannot_use_a_dock_without_keys(
    host: str, origin: str | None, status: int, parts: GatewayParts, keys: KeyStore
) -> None:
    app = create_app(parts, "127.0.0.1")
    headers = {"host": host} | ({"origin": origin} if origin else {})
    async with client_of(app, url="http://127.0.0.1") as client:
        assert (await client.get("/v1/models", headers=headers)).status_code == status
        assert (await client.get("/health", headers=headers)).status_code == 200
        key = {"authorization": f"Bearer {make(keys, 'serve').secret}"}
        assert (await client.get("/v1/models", headers=headers | key)).status_code == 200


def test_the_dock_s_client_sends_its_key(
    parts: GatewayParts, keys: KeyStore, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, searching = make(keys, "admin"), make(keys, "search")
    with serving(parts) as url:
        with DockClient(url) as client:
            assert client.health()
            with pytest.raises(InvalidApiKey, match="SLMDOCK_KEY or --key-file"):
                client.learnwares()
        monkeypatch.setenv(KEY_VARIABLE, searching.secret)
        with DockClient(url) as client:
            assert len(client.learnwares().learnwares) == 3
            with pytest.raises(PermissionDenied, match="role admin; the key 'somebody' has search"):
                client.list_keys()
        with DockClient(url, key=f"{admin.secret}\n") as client:
            made = client.create_key(KeyRequest(name="app", roles=("serve",)))
            assert [key.id for key in client.list_keys()] == [admin.id, searching.id, made.id]
            assert client.revoke_key(made.id).name == "app"
            with pytest.raises(NotFound):
                client.revoke_key("../models")
    with pytest.raises(InvalidInput, match="not one line") as caught:
        DockClient("http://127.0.0.1", key="two\nlines-48151623")
    assert "48151623" not in str(caught.value)


def test_no_secret_is_ever_logged(
    parts: GatewayParts, keys: KeyStore, serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "serving", "slmdock", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    made, revoked = make(keys, "admin"), make(keys, "admin")
    keys.revoke_key(revoked.id)
    wrong = "sk-dock-0123456789abcdef-" + "w" * 43
    with serving(parts) as url, httpx.Client(base_url=url, trust_env=False) as client:
        for secret in (made.secret, revoked.secret, wrong, wrong[:-1], "wwwwwwww-short"):
            headers = {"authorization": f"Bearer {secret}"}
            client.get("/v1/models", headers=headers)
            client.get("/nowhere", headers=headers)
            client.post("/v1/completions", json=ASKED, headers=headers)
            client.post("/v1/completions", content=b"{", headers=headers)
            client.post("/v1/keys", json={"name": "x", "roles": ["serve"]}, headers=headers)
        keys.path.write_bytes(b"{")
        client.get("/v1/models", headers={"authorization": f"Bearer {made.secret}"})
    logged = caplog.text + "".join(f"{record.args!r}{record.__dict__!r}" for record in caplog.records)
    assert "nobody is let in" in logged
    for part in (made.secret[-43:], revoked.secret[-43:], "wwwwwwww", "private"):
        assert part not in logged
