"""What users of the ``openai`` package do, against a live gateway. What only vLLM can is in ``test_vllm``."""

import asyncio
import http.client
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from catalogue import Learnware
from serving import GatewayParts, TransformersConfig, TransformersEngine, events
from tests.serving.conftest import TinyDock, sentences
from tests.serving.doubles import EngineDouble
from tests.serving.test_server import wait_for
from tests.serving.tiny import BASE_NAME

Serving = Callable[[GatewayParts], AbstractContextManager[str]]

MESSAGES: Any = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": sentences("law")[3]}]},
]
ASKED: Any = {"model": "law", "prompt": "the quick", "max_tokens": 12, "temperature": 0}
CHAT: Any = {"model": "law", "messages": MESSAGES, "max_tokens": 8, "temperature": 0}
USAGE: Any = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture(scope="module")
def exact(dock: TinyDock, serving: Serving) -> Iterator[str]:
    """The URL of a gateway whose engine is transformers."""
    with serving(dock.parts(TransformersEngine(TransformersConfig(dock.base, BASE_NAME, dock.store)))) as url:
        yield url


@pytest.fixture
def doubled(dock: TinyDock, double: EngineDouble, serving: Serving) -> Iterator[str]:
    """The URL of a gateway whose engine is the double."""
    with serving(dock.parts(double)) as url:
        yield url


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def async_client_of(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def test_models(exact: str, learnwares: dict[str, Learnware]) -> None:
    law = learnwares["law"]
    with client_of(exact) as client:
        listed = {model.id for model in client.models.list()}
        assert {BASE_NAME, "auto", law.engine_name} <= listed
        for name in (BASE_NAME, "auto", "law", law.engine_name, law.id):
            found = client.models.retrieve(name)
            assert (found.id, found.object) == (name, "model")
        assert client.models.retrieve("law").created == law.created
        assert client.models.retrieve("law").owned_by == law.owner
        for unknown in ("nobody", "some/other", "task:0123456789abcdef", "task:"):
            with pytest.raises(openai.NotFoundError) as caught:
                client.models.retrieve(unknown)
            assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_completion(exact: str) -> None:
    with client_of(exact) as client:
        whole = client.completions.create(**ASKED)
        choice, usage = whole.choices[0], whole.usage
        assert (whole.object, choice.index, choice.finish_reason) == ("text_completion", 0, "length")
        assert usage is not None
        assert usage.completion_tokens == 12
        assert usage.total_tokens == usage.prompt_tokens + 12


def test_streamed_completion_ends_with_its_usage(exact: str) -> None:
    with client_of(exact) as client:
        whole = client.completions.create(**ASKED)
        *parts, last = client.completions.create(**ASKED, **USAGE)
        assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
        assert parts[-1].choices[0].finish_reason == "length"
        assert last.choices == []
        assert last.usage == whole.usage
        assert all(part.usage is None for part in parts)


def test_streamed_chat_ends_with_its_usage(exact: str) -> None:
    with client_of(exact) as client:
        whole = client.chat.completions.create(**CHAT)
        first, *parts, last = client.chat.completions.create(**CHAT, **USAGE)
        assert whole.choices[0].message.role == first.choices[0].delta.role == "assistant"
        text = "".join(part.choices[0].delta.content or "" for part in parts)
        assert text == whole.choices[0].message.content
        assert last.choices == []
        assert last.usage == whole.usage


def test_stop(exact: str) -> None:
    with client_of(exact) as client:
        text = client.completions.create(**ASKED).choices[0].text
        stop = text[4:6]
        for given in (stop, [stop, "never"]):
            stopped = client.completions.create(**ASKED, stop=given).choices[0]
            assert (stopped.text, stopped.finish_reason) == (text[: text.index(stop)], "stop")
            streamed = list(client.completions.create(**ASKED, stop=given, stream=True))
            assert "".join(part.choices[0].text for part in streamed) == stopped.text


async def test_async_streams_side_by_side(exact: str) -> None:
    async with async_client_of(exact) as client:

        async def read(name: str) -> tuple[str, str]:
            stream = await client.completions.create(**ASKED | {"model": name}, stream=True)
            return name, "".join([part.choices[0].text async for part in stream])

        names = ("law", "space", "cooking", BASE_NAME)
        streamed = dict(await asyncio.gather(*(read(name) for name in names)))
        for name in names:
            whole = await client.completions.create(**ASKED | {"model": name})
            assert whole.choices[0].text == streamed[name]


async def test_async_chat_stream(exact: str) -> None:
    async with async_client_of(exact) as client:
        whole = await client.chat.completions.create(**CHAT)
        stream = await client.chat.completions.create(**CHAT, stream=True)
        parts = [part.choices[0].delta.content or "" async for part in stream]
    assert "".join(parts) == whole.choices[0].message.content


def test_errors_are_the_package_s_own(exact: str) -> None:
    with client_of(exact) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model="law", prompt="x", max_tokens=-1)
        assert isinstance(caught.value.body, dict)
        assert set(caught.value.body) == {"message", "type", "param", "code"}
        assert caught.value.type == "invalid_request_error"
        with pytest.raises(openai.NotFoundError, match="GET /v1/models lists them"):
            client.chat.completions.create(**CHAT | {"model": "nobody"})
        with pytest.raises(openai.BadRequestError, match="'model'"):
            client.completions.create(model="", prompt="x")
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="law", input="x")


def test_everything_reaches_the_engine_untouched(doubled: str, double: EngineDouble) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    schema = {"name": "answer", "strict": True, "schema": {"type": "object", "properties": {}}}
    sent: Any = {
        "messages": MESSAGES, "n": 3, "logprobs": True, "top_logprobs": 2, "seed": 7, "stop": ["x"],
        "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": schema}, "logit_bias": {"5": -100},
    }  # fmt: skip
    with client_of(doubled) as client:
        client.chat.completions.create(model=BASE_NAME, **sent, extra_body={"min_p": 0.1, "odd": [None]})
    assert double.bodies == [{"model": BASE_NAME, **sent, "min_p": 0.1, "odd": [None]}]


def test_an_engine_that_breaks_off_is_an_error_of_the_stream(doubled: str, double: EngineDouble) -> None:
    double.mode = "break"
    with client_of(doubled) as client:
        parts = client.completions.create(model=BASE_NAME, prompt="x", stream=True)
        assert next(parts).choices[0].text == "one"
        with pytest.raises(openai.APIError, match="broke off") as caught:
            next(parts)
    assert caught.value.code == "engine_error"


def test_a_dead_engine_is_503(doubled: str, double: EngineDouble) -> None:
    double.mode = "dead"
    with client_of(doubled) as client, pytest.raises(openai.InternalServerError) as caught:
        client.completions.create(model=BASE_NAME, prompt="x")
    assert caught.value.status_code == 503


def test_closing_a_stream_ends_the_generation(doubled: str, double: EngineDouble) -> None:
    double.mode = "hang"
    with (
        client_of(doubled) as client,
        client.completions.create(model=BASE_NAME, prompt="x", stream=True) as parts,
    ):
        assert next(iter(parts)).choices[0].text == "one"
    wait_for(double.cancelled.is_set)
    wait_for(lambda: double.closed == 1)


async def test_cancelling_a_call_ends_the_generation(doubled: str, double: EngineDouble) -> None:
    double.mode = "hang"
    async with async_client_of(doubled) as client:
        call = asyncio.create_task(client.completions.create(model=BASE_NAME, prompt="x"))
        while not double.bodies:
            await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await asyncio.to_thread(wait_for, double.cancelled.is_set)


def test_silence_is_filled_with_comments(
    doubled: str, double: EngineDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 0.05)
    double.mode = "pause"
    body = {"model": BASE_NAME, "prompt": "x", "stream": True}
    raw = httpx.post(f"{doubled}/v1/completions", json=body, timeout=30, trust_env=False).content
    blocks = raw.split(b"\n\n")
    assert blocks.count(b": keep-alive") >= 2
    assert [block for block in blocks if block.startswith(b"data:")][-1] == b"data: [DONE]"
    with client_of(doubled) as client:
        texts = [part.choices for part in client.completions.create(model=BASE_NAME, prompt="x", stream=True)]
    assert len(texts) == 2


def test_one_connection_carries_many_requests(doubled: str) -> None:
    address = urlsplit(doubled)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    connection.connect()
    first = connection.sock
    for stream in (b"true", b"false", b"true"):
        connection.request("POST", "/v1/completions", b'{"model": "tiny-base", "stream": ' + stream + b"}")
        assert connection.getresponse().read()
        assert connection.sock is first
    connection.close()
