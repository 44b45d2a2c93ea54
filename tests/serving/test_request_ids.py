"""Every request has an id: the client's own if it is sane. It is on every answer and goes on to the engine."""

import re

import httpx
import pytest
from aiohttp import web

from serving import RemoteConfig, RemoteEngine, create_app
from tests.serving.conftest import TinyDock, engine_server
from tests.serving.doubles import EngineDouble
from tests.serving.tiny import BASE_NAME


def id_of(response: httpx.Response) -> str:
    ids = response.headers.get_list("x-request-id")
    assert len(ids) == 1
    return str(ids[0])


@pytest.mark.parametrize("sent", ["a", "Req-1.2_3", "x" * 128])
async def test_a_sane_id_is_kept(sent: str, gateway: httpx.AsyncClient) -> None:
    assert id_of(await gateway.get("/health", headers={"x-request-id": sent})) == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a/b", "a\tb", 'a"b', "ü", "a;b", "${jndi}"])
async def test_another_is_replaced(sent: str, gateway: httpx.AsyncClient) -> None:
    response = await gateway.get("/health", headers=[(b"x-request-id", sent.encode("latin-1"))])
    assert re.fullmatch("[0-9a-f]{32}", id_of(response))


async def test_ids_differ(gateway: httpx.AsyncClient) -> None:
    assert id_of(await gateway.get("/health")) != id_of(await gateway.get("/health"))


async def test_errors_have_one_too(
    gateway: httpx.AsyncClient, double: EngineDouble, dock: TinyDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug() -> int:
        raise ZeroDivisionError("secret words")

    headers = {"x-request-id": "mine"}
    body = {"model": BASE_NAME, "prompt": "x"}
    answers = [
        await gateway.get("/nowhere", headers=headers),
        await gateway.put("/health", headers=headers),
        await gateway.get("/v1/models?limit=x", headers=headers),
        await gateway.post("/v1/completions", content=b"{", headers=headers),
        await gateway.post("/v1/completions", json=body | {"model": "nobody"}, headers=headers),
    ]
    double.mode = "dead"
    answers.append(await gateway.post("/v1/completions", json=body, headers=headers))
    monkeypatch.setattr(dock.indexer.catalogue, "count", bug)
    answers.append(await gateway.get("/ready", headers=headers))
    assert [answer.status_code for answer in answers] == [404, 405, 400, 400, 404, 503, 500]
    assert {id_of(answer) for answer in answers} == {"mine"}


async def test_streams_have_one_too(gateway: httpx.AsyncClient) -> None:
    body = {"model": BASE_NAME, "prompt": "x", "stream": True}
    assert id_of(await gateway.post("/v1/completions", json=body, headers={"x-request-id": "mine"})) == "mine"


async def test_the_engine_gets_it(dock: TinyDock) -> None:
    seen: list[str] = []

    async def complete(request: web.Request) -> web.Response:
        seen.append(request.headers["x-request-id"])
        return web.json_response({})

    async with engine_server(complete) as url:
        engine = RemoteEngine(RemoteConfig(url, BASE_NAME))
        engine.connect()
        transport = httpx.ASGITransport(create_app(dock.parts(engine)))
        async with httpx.AsyncClient(transport=transport, base_url="http://dock") as gateway:
            for id in ("one", "two"):
                body = {"model": BASE_NAME, "prompt": "x"}
                await gateway.post("/v1/completions", json=body, headers={"x-request-id": id})
        await engine.stop()
    assert seen == ["one", "two"]
