"""The gateway over a real socket: OpenAI's own clients, clients that leave, engines that do not start."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import httpx
import openai
import pytest

from catalogue import Learnware
from serving import GatewayParts, RemoteConfig, RemoteEngine, TransformersConfig, TransformersEngine, serve
from serving.keys import KeyRequest, KeyStore
from serving.server import url_of
from specification.errors import EngineError, InvalidInput
from tests.serving.conftest import TinyDock, sentences
from tests.serving.doubles import FIRST, EngineDouble
from tests.serving.tiny import BASE_NAME

Serving = Callable[[GatewayParts], AbstractContextManager[str]]


@pytest.fixture(scope="module")
def live(dock: TinyDock, serving: Serving) -> Iterator[str]:
    """The URL of a gateway with the transformers engine."""
    engine = TransformersEngine(TransformersConfig(dock.base, BASE_NAME, dock.store))
    with serving(dock.parts(engine)) as url:
        yield f"{url}/v1"


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, "it has not happened in 30 s"
        time.sleep(0.02)


def test_openai_client(live: str, learnwares: dict[str, Learnware]) -> None:
    with openai.OpenAI(base_url=live, api_key="none", max_retries=0) as client:
        assert BASE_NAME in [model.id for model in client.models.list()]
        raw = client.completions.with_raw_response.create(
            model="auto", prompt=sentences("law")[3], max_tokens=6, temperature=0
        )
        assert raw.headers["x-slmdock-learnware"] == learnwares["law"].id
        assert raw.parse().model == learnwares["law"].engine_name
        message = {"role": "user", "content": sentences("space")[3]}
        chat = client.chat.completions.create(model="auto", messages=[message], max_tokens=6)  # type: ignore[list-item]
        assert chat.choices[0].message.role == "assistant"
        with pytest.raises(openai.NotFoundError) as caught:
            client.completions.create(model="nobody", prompt="x")
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError, match="'n': Input should be"):
            client.completions.create(model=BASE_NAME, prompt="x", n=2)


def test_openai_client_streams(live: str) -> None:
    with openai.OpenAI(base_url=live, api_key="none", max_retries=0) as client:
        asked = {"model": "law", "prompt": "the quick", "max_tokens": 10, "temperature": 0}
        whole = client.completions.create(**asked)  # type: ignore[call-overload]
        with client.completions.create(**asked, stream=True) as events:  # type: ignore[call-overload]
            parts = [event.choices[0].text for event in events]
    assert "".join(parts) == whole.choices[0].text
    assert len(parts) > 1


async def test_openai_client_async(live: str) -> None:
    async with openai.AsyncOpenAI(base_url=live, api_key="none", max_retries=0) as client:
        asked = [
            client.completions.create(model=name, prompt="a", max_tokens=4) for name in ("law", "space", BASE_NAME)
        ]
        answers = await asyncio.gather(*asked)
    assert [answer.model.partition("@")[0] for answer in answers] == ["law", "space", BASE_NAME]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_the_generation(
    stream: bool, dock: TinyDock, double: EngineDouble, serving: Serving
) -> None:
    double.mode = "hang"
    with serving(dock.parts(double)) as url:
        body = {"model": BASE_NAME, "prompt": "x", "stream": stream}
        with (
            httpx.Client(trust_env=False) as client,
            pytest.raises(httpx.ReadTimeout),
            client.stream("POST", f"{url}/v1/completions", json=body, timeout=0.5) as response,
        ):
            response.read()
        wait_for(double.cancelled.is_set)
        if stream:
            wait_for(lambda: double.closed == 1)


def test_a_cancelled_gateway_closes_idle_connections(
    dock: TinyDock, double: EngineDouble, serving: Serving
) -> None:
    with serving(dock.parts(double)) as url, httpx.Client(trust_env=False) as client:
        assert client.get(f"{url}/health").status_code == 200
        idle = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10)
        idle.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
    while idle.recv(1000):
        pass
    idle.close()


def test_events_come_one_by_one(dock: TinyDock, double: EngineDouble, serving: Serving) -> None:
    double.mode = "hang"
    with serving(dock.parts(double)) as url, httpx.Client(trust_env=False) as client:
        body = {"model": BASE_NAME, "prompt": "x", "stream": True}
        with client.stream("POST", f"{url}/v1/completions", json=body, timeout=5) as response:
            assert next(response.iter_raw()) == FIRST


def test_an_engine_behind_a_url(live: str, dock: TinyDock, serving: Serving) -> None:
    remote = RemoteEngine(RemoteConfig(live.removesuffix("/v1"), BASE_NAME))
    body = {"model": "space", "prompt": "the quick", "max_tokens": 8, "temperature": 0}
    with serving(dock.parts(remote)) as url, httpx.Client(trust_env=False) as client:
        there, here = (client.post(f"{at}/v1/completions", json=body) for at in (url, live.removesuffix("/v1")))
        assert there.json()["choices"] == here.json()["choices"]
        streamed = client.post(f"{url}/v1/completions", json=body | {"stream": True})
        assert streamed.text.endswith("data: [DONE]\n\n")
        refused = client.post(f"{url}/v1/completions", json=body | {"n": 2})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_input")


async def test_no_engine_at_the_url(free_url: str, dock: TinyDock) -> None:
    engine = RemoteEngine(RemoteConfig(free_url, BASE_NAME, start_timeout=0.1))
    with pytest.raises(EngineError, match="no healthy engine"):
        await serve(dock.parts(engine), port=0)


async def test_an_engine_that_does_not_start_ends_the_server(dock: TinyDock, double: EngineDouble) -> None:
    double.mode = "dead"
    with pytest.raises(EngineError, match="told not to start"):
        await serve(dock.parts(double), port=0)


async def test_a_taken_port(dock: TinyDock, double: EngineDouble) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(InvalidInput, match="choose another --port"),
    ):
        await serve(dock.parts(double), port=taken.getsockname()[1])


@pytest.mark.parametrize("host", ["", "0.0.0.0", "127.0.0.1", "localhost"])
async def test_the_announced_url_can_be_reached(
    host: str, dock: TinyDock, double: EngineDouble, tmp_path: Path
) -> None:
    urls: list[str] = []
    keys = KeyStore(tmp_path / "keys.json")
    keys.create_key(KeyRequest(name="who", roles=("serve",)))
    task = asyncio.create_task(serve(replace(dock.parts(double), keys=keys), host, 0, urls.append))
    async with httpx.AsyncClient(trust_env=False) as client:
        while not urls:
            await asyncio.sleep(0.02)
        assert (await client.get(f"{urls[0]}/health")).status_code == 200
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("address", "host"), [("::1", "[::1]"), ("::", "[::1]"), ("fd00::2", "[fd00::2]")])
def test_ipv6_addresses_have_brackets(address: str, host: str) -> None:
    assert url_of(address, 8000) == f"http://{host}:8000"


async def test_a_failing_announcement_leaves_nothing_behind(dock: TinyDock, double: EngineDouble) -> None:
    urls: list[str] = []

    def fail(url: str) -> None:
        urls.append(url)
        raise InvalidInput("the dock's folder cannot be written")

    before = asyncio.all_tasks()
    with pytest.raises(InvalidInput, match="cannot be written"):
        await serve(dock.parts(double), port=0, listening=fail)
    assert asyncio.all_tasks() == before
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{urls[0]}/health")


async def test_an_engine_s_url_that_is_none() -> None:
    with pytest.raises(InvalidInput, match="engine URL 'http://::1:8000'"):
        await RemoteEngine(RemoteConfig("http://::1:8000", BASE_NAME)).start()


async def test_a_signal_ends_it_quietly(dock: TinyDock, double: EngineDouble) -> None:
    def interrupt(url: str) -> None:
        asyncio.get_running_loop().call_later(0.2, signal.raise_signal, signal.SIGTERM)

    await asyncio.wait_for(serve(dock.parts(double), port=0, ready=interrupt), 10)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
