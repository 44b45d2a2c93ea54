"""The real vLLM, started once, behind the real gateway; transformers is its judge."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from safetensors.torch import save_file

from catalogue import Card
from indexer.store import WEIGHTS_FILE
from serving import (
    DockClient,
    GatewayParts,
    TransformersConfig,
    TransformersEngine,
    VllmConfig,
    VllmProcess,
    vllm_options,
)
from serving.live import LiveSnapshot
from serving.trial_wire import Answers, Questions
from specification import SentenceEncoder
from specification.errors import EngineError, InvalidInput
from tests.serving import tiny
from tests.serving.conftest import Sketch, TinyDock, open_dock, sentences
from tests.serving.test_server import wait_for
from tests.serving.tiny import BASE_NAME

PROMPTS = ("the quick", "seven wizards make", "jumps over a lazy dog", "q")
TOKENS = 32
EXTRA = ("--enable-log-requests", "--enable-auto-tool-choice", "--tool-call-parser", "hermes")


def config(dock: TinyDock, **fields: Any) -> VllmConfig:
    small: dict[str, Any] = {"max_loras": 3, "max_cpu_loras": 8, "max_lora_rank": 8, "max_model_len": 256}
    paths = {"model": dock.base, "store": dock.store, "log": dock.folder / "vllm.log"}
    common: dict[str, Any] = {"base_model": BASE_NAME, "dtype": "float32", "kv_cache_gib": 1}
    return VllmConfig(**common | small | paths | fields)


@pytest.fixture(scope="module")
def vllm_dock(
    tmp_path_factory: pytest.TempPathFactory,
    base: Path,
    encoder: SentenceEncoder,
    adapters: dict[str, Path],
    sketch: Sketch,
) -> Iterator[TinyDock]:
    """A dock of its own: three learnwares, and one whose weights were harmed after it was taken in."""
    folder = tmp_path_factory.mktemp("vllm")
    with open_dock(folder, base, encoder) as dock:
        for topic, adapter in adapters.items():
            dock.indexer.submit(adapter, sketch(topic), Card(name=topic))
        harmed = tiny.build_adapter(base, folder / "harmed", seed=99)
        learnware = dock.indexer.submit(harmed, sketch("harmed"), Card(name="harmed"))
        # Whole as a file, so that vLLM itself is the one who refuses it.
        save_file({"nowhere": torch.zeros(4)}, dock.indexer.store.path_of(learnware.id) / WEIGHTS_FILE)
        yield dock


@pytest.fixture(scope="module")
def vllm(vllm_dock: TinyDock) -> VllmProcess:
    """vLLM with a parser of tool calls, which it demands, and with a line of log for each request that ends."""
    return VllmProcess(config(vllm_dock, extra=EXTRA), print)


@pytest.fixture(scope="module")
def url(
    vllm: VllmProcess, vllm_dock: TinyDock, serving: Callable[[GatewayParts], AbstractContextManager[str]]
) -> Iterator[str]:
    """The URL of a gateway with vLLM behind it. Starting takes a minute on two cores."""
    with serving(vllm_dock.parts(vllm)) as url:
        yield url


def named(dock: TinyDock, name: str) -> str:
    """Returns a learnware's engine name."""
    learnware = dock.indexer.catalogue.named(name)
    assert learnware is not None
    return learnware.engine_name


async def judged(dock: TinyDock, asked: list[tuple[str, str]]) -> list[list[int]]:
    """Returns the tokens that transformers generates for each name and prompt."""
    engine = TransformersEngine(TransformersConfig(dock.base, BASE_NAME, dock.store))
    await engine.start()
    found = []
    for name, prompt in asked:
        body = {"model": name, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "return_token_ids": True}
        answer = json.loads(await (await engine.post("completions", body)).read())
        found.append(answer["choices"][0]["token_ids"])
    await engine.stop()
    return found


async def test_ids_and_usage_pass_through_vllm(url: str, vllm_dock: TinyDock) -> None:
    asked = {"model": "law", "prompt": "the quick", "max_tokens": 4, "ignore_eos": True, "stream": True}
    options = {"stream_options": {"include_usage": True}}
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        same = [
            client.post("/v1/completions", json=asked | options, headers={"x-request-id": "Mine-1"})
            for _ in range(2)
        ]
        for response in await asyncio.gather(*same):
            assert response.headers["x-request-id"] == "Mine-1"
            assert '"id":"cmpl-Mine-1' in response.text
    law = named(vllm_dock, "law")

    def used() -> int:
        live = LiveSnapshot.model_validate_json(httpx.get(f"{url}/v1/live", trust_env=False).content)
        return {one.model: one.completion_tokens for one in live.last_minute.most_used}.get(law, 0)

    # A stream is accounted for when its client has its last event already.
    await asyncio.to_thread(wait_for, lambda: used() == 8)


async def test_a_mixed_batch_agrees_with_single_requests_and_transformers(
    url: str, vllm: VllmProcess, vllm_dock: TinyDock
) -> None:
    """With every place taken: vLLM alone would then give the base model's tokens to the last of the adapters."""
    names = [BASE_NAME, *(named(vllm_dock, name) for name in ("cooking", "law", "space"))]
    assert len(names) == 1 + vllm.config.max_loras
    asked = [(name, prompt) for prompt in PROMPTS for name in names]
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:

        async def tokens(name: str, prompt: str) -> list[int]:
            body = {"model": name, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
            response = await client.post("/v1/completions", json=body | {"return_token_ids": True})
            assert response.headers["x-slmdock-model"] == name
            found: list[int] = response.json()["choices"][0]["token_ids"]
            return found

        served = await asyncio.gather(*(tokens(*one) for one in asked))
        assert served == [await tokens(*one) for one in asked]
    assert served == await judged(vllm_dock, asked)
    of_first_prompt = served[: len(names)]
    assert len({tuple(one) for one in of_first_prompt}) == len(names)


def test_a_harmed_adapter_fails_alone(url: str, sketch: Sketch) -> None:
    with DockClient(url) as dock, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        ask = {"prompt": "the", "max_tokens": 4}
        refused = client.post("/v1/completions", json=ask | {"model": "harmed"})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "adapter_unavailable"
        task = dock.register_task(sketch("harmed"))
        answered = client.post("/v1/completions", json=ask | {"model": f"task:{task.id}"})
        assert answered.status_code == 200
        assert answered.headers["x-slmdock-decision"] == "fallback"
        assert answered.headers["x-slmdock-model"] == answered.json()["model"] == BASE_NAME
        assert client.post("/v1/completions", json=ask | {"model": "law"}).status_code == 200
        assert client.post("/v1/completions", json=ask | {"model": "law", "max_tokens": -1}).status_code == 400
        assert client.get("/ready").status_code == 200


def test_an_adapter_that_vanishes_does_not_take_vllm_along(url: str, vllm_dock: TinyDock) -> None:
    law = vllm_dock.indexer.catalogue.named("law")
    assert law is not None
    weights = vllm_dock.indexer.store.path_of(law.id) / WEIGHTS_FILE
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        ask = {"model": "law", "prompt": "the", "max_tokens": 4}
        assert client.post("/v1/completions", json=ask).status_code == 200
        weights.rename(weights.with_suffix(".gone"))
        assert client.post("/v1/completions", json=ask).status_code == 503
        weights.with_suffix(".gone").rename(weights)
        assert client.post("/v1/completions", json=ask).status_code == 200


def test_a_trial_s_batch_agrees_with_transformers(
    url: str, vllm_dock: TinyDock, sketch: Sketch, serving: Callable[[GatewayParts], AbstractContextManager[str]]
) -> None:
    asked = {"models": [BASE_NAME, *(named(vllm_dock, name) for name in ("cooking", "law", "space"))]}
    texts = Questions.model_validate(asked | {"prompts": PROMPTS, "max_tokens": 8})
    chosen = Questions.model_validate(asked | {"prompts": PROMPTS, "choices": ["fox", "a dog"]})
    judge = TransformersEngine(TransformersConfig(vllm_dock.base, BASE_NAME, vllm_dock.store))

    def answered(url: str) -> list[Answers]:
        with DockClient(url) as client:
            task = client.register_task(sketch("law")).id
            return [client.trial_answers(task, questions) for questions in (texts, chosen)]

    with serving(vllm_dock.parts(judge)) as exact:
        there, here = answered(url), answered(exact)
    for left, right in zip(there[0].answers, here[0].answers, strict=True):
        # A character that the last token leaves unfinished is shown by one and held back by the other.
        assert [text.rstrip("\ufffd") for text in left.texts] == [text.rstrip("\ufffd") for text in right.texts]
        assert left.completion_tokens == right.completion_tokens
    for left, right in zip(there[1].answers, here[1].answers, strict=True):
        assert left.error == right.error == ""
        assert np.array(left.likelihoods) == pytest.approx(np.array(right.likelihoods), abs=1e-2)


def test_openai_client(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        asked = {"model": "auto", "prompt": sentences("space")[5], "max_tokens": 12, "temperature": 0}
        raw = client.completions.with_raw_response.create(**asked)  # type: ignore[call-overload]
        assert raw.headers["x-slmdock-model"].startswith("space@")
        with client.completions.create(**asked, stream=True) as events:  # type: ignore[call-overload]
            assert "".join(event.choices[0].text for event in events) == raw.parse().choices[0].text
        message = {"role": "user", "content": "hello"}
        chat = client.chat.completions.create(model="law", messages=[message], max_tokens=4, n=2)  # type: ignore[list-item]
        assert len(chat.choices) == 2


def test_openai_client_gets_what_only_vllm_does(url: str) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"enum": [1, 2]}},
        "required": ["n"],
        "additionalProperties": False,
    }
    function = {"name": "pick", "parameters": schema}
    message = {"role": "user", "content": "pick one"}
    asked: Any = {"model": "law", "messages": [message], "temperature": 0, "max_tokens": 64}
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        shape: Any = {"type": "json_schema", "json_schema": {"name": "choice", "strict": True, "schema": schema}}
        structured = client.chat.completions.create(**asked, response_format=shape)
        assert json.loads(structured.choices[0].message.content or "")["n"] in (1, 2)
        tools: Any = {"tools": [{"type": "function", "function": function}]}
        tools["tool_choice"] = {"type": "function", "function": {"name": "pick"}}
        called = client.chat.completions.create(**asked, **tools)
        calls = called.choices[0].message.tool_calls
        assert calls[0].function.name == "pick"
        json.loads(calls[0].function.arguments)  # vLLM promises JSON here, and not the schema
        scored = client.chat.completions.create(
            **asked | {"max_tokens": 3, "temperature": 1, "seed": 1}, n=3, logprobs=True, top_logprobs=2
        )
        assert [choice.index for choice in scored.choices] == [0, 1, 2]
        assert all(len(token.top_logprobs) >= 2 for choice in scored.choices for token in choice.logprobs.content)
        *_, last = client.chat.completions.create(
            **asked | {"max_tokens": 3}, stream=True, stream_options={"include_usage": True}
        )
        assert (last.choices, last.usage.completion_tokens) == ([], 3)
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**asked, top_logprobs=10_000, logprobs=True)
        assert isinstance(caught.value.body, dict)
        assert set(caught.value.body) == {"message", "type", "param", "code"}


async def test_a_client_that_leaves_frees_the_engine(url: str, vllm: VllmProcess) -> None:
    body = {"model": "law", "prompt": "the", "max_tokens": 240, "n": 48, "ignore_eos": True}

    def logged(words: bytes) -> int:
        return vllm.config.log.read_bytes().count(words)

    async def leave_stream(client: httpx.AsyncClient) -> None:
        async with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as response:
            await anext(response.aiter_raw())

    async def leave_answer(client: httpx.AsyncClient) -> None:
        arrived = logged(b"Added request 47_")
        leaving = asyncio.create_task(client.post("/v1/completions", json=body))
        # The last of them has reached the engine, so there is something to free.
        await asyncio.to_thread(wait_for, lambda: logged(b"Added request 47_") > arrived)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)

    async def frees(leave: Callable[[httpx.AsyncClient], Awaitable[None]]) -> bool:
        """Leaves up to four times: a pause of this process, such as of its collector, may outlast an answer."""
        for _ in range(4):
            aborted = logged(b" aborted.")
            async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
                await leave(client)
                for _ in range(100):
                    await asyncio.sleep(0.05)
                    if logged(b" aborted.") > aborted:
                        return True
        return False

    assert await frees(leave_stream)
    assert await frees(leave_answer)


def test_a_new_learnware_is_served_at_once(url: str, base: Path, sketch: Sketch, tmp_path: Path) -> None:
    adapter = tiny.build_adapter(base, tmp_path / "fresh", seed=123)
    with DockClient(url) as client, httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        fresh = client.submit(adapter, sketch("cooking"), Card(name="fresh"))
        response = http.post("/v1/completions", json={"model": "fresh", "prompt": "a", "max_tokens": 4})
        assert response.json()["model"] == fresh.engine_name


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/invocations"])
def test_vllm_s_own_endpoints_are_out_of_reach(path: str, url: str) -> None:
    body = {"lora_name": "x", "lora_path": "/etc"}
    assert httpx.post(f"{url}{path}", json=body, trust_env=False).status_code == 404


async def test_death_at_start_shows_vllm_s_own_words(dock: TinyDock, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(dock.base, tmp_path / "broken"))
    (broken / "config.json").write_text('{"model_type": "no-such-architecture"}')
    lines: list[str] = []
    engine = VllmProcess(config(dock, model=broken, log=tmp_path / "log"), lines.append)
    with pytest.raises(EngineError, match="no-such-architecture"):
        await engine.start()
    assert not await engine.healthy()
    with pytest.raises(EngineError, match="not running"):
        await engine.post("completions", {})


async def test_what_is_missing_is_said_at_once(
    dock: TinyDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match=r"no config\.json"):
        await VllmProcess(config(dock, model=tmp_path)).start()
    monkeypatch.setattr(vllm_options, "PLUGIN", "no-such-plugin")
    with pytest.raises(EngineError, match="not installed"):
        await VllmProcess(config(dock)).start()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match="--engine transformers"):
        await VllmProcess(config(dock)).start()


@pytest.mark.parametrize("fields", [{"max_lora_rank": 9}, {"max_loras": -1}, {"max_loras": 9}])
def test_impossible_settings(fields: dict[str, Any], dock: TinyDock) -> None:
    with pytest.raises(InvalidInput, match=next(iter(fields))):
        config(dock, **fields)
