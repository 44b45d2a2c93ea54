"""The gateway as a second, independent client sees it: ``huggingface_hub.InferenceClient``."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from serving import GatewayParts, TransformersConfig, TransformersEngine
from tests.serving.conftest import TinyDock, sentences
from tests.serving.tiny import BASE_NAME

ASKED: Any = {"model": "auto", "max_tokens": 8, "temperature": 0}
PARTS = [{"type": "text", "text": sentences("space")[3]}]


@pytest.fixture(scope="module")
def url(dock: TinyDock, serving: Callable[[GatewayParts], AbstractContextManager[str]]) -> Iterator[str]:
    with serving(dock.parts(TransformersEngine(TransformersConfig(dock.base, BASE_NAME, dock.store)))) as url:
        yield f"{url}/v1"


@pytest.mark.parametrize("content", [sentences("space")[3], PARTS])
def test_chat_whole_and_streamed(content: object, url: str) -> None:
    messages: Any = [{"role": "user", "content": content}]
    with InferenceClient(base_url=url, api_key="none", timeout=60) as client:
        whole = client.chat_completion(messages, **ASKED)
        usage: Any = {"stream": True, "stream_options": {"include_usage": True}}
        *parts, last = client.chat_completion(messages, **ASKED, **usage)
    assert whole.model.startswith("space@")
    assert whole.usage.completion_tokens == 8
    text = "".join(part.choices[0].delta.content or "" for part in parts)
    assert text == whole.choices[0].message.content
    assert last.usage is not None
    assert last.usage.total_tokens == whole.usage.total_tokens


async def test_async(url: str) -> None:
    client = AsyncInferenceClient(base_url=url, api_key="none", timeout=60)
    messages: Any = [{"role": "user", "content": "hello"}]
    whole = await client.chat.completions.create(messages, **ASKED | {"model": "law"})
    stream = await client.chat.completions.create(messages, **ASKED | {"model": "law"}, stream=True)
    assert (
        "".join([part.choices[0].delta.content or "" async for part in stream]) == whole.choices[0].message.content
    )


def test_errors_can_be_read(url: str) -> None:
    messages: Any = [{"role": "user", "content": "hello"}]
    with InferenceClient(base_url=url, api_key="none", timeout=60) as client:
        with pytest.raises(HfHubHTTPError) as caught:
            client.chat_completion(messages, model="nobody")
        assert caught.value.response.status_code == 404
        assert caught.value.response.json()["error"]["code"] == "model_not_found"
        with pytest.raises(HfHubHTTPError) as caught:
            client.chat_completion(messages, model="law", max_tokens=-1)
        assert caught.value.response.status_code == 400
