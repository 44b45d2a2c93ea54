"""The exact engine on a tiny model."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from safetensors.torch import save_file

from catalogue import Learnware
from indexer.store import WEIGHTS_FILE
from serving import TransformersConfig, TransformersEngine
from serving.engine import AdapterUnavailable
from specification.errors import EngineError, InvalidInput
from tests.serving.conftest import TinyDock
from tests.serving.tiny import BASE_NAME

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(dock: TinyDock) -> AsyncIterator[TransformersEngine]:
    engine = TransformersEngine(TransformersConfig(dock.base, BASE_NAME, dock.store, max_adapters=2))
    await engine.start()
    yield engine
    await engine.stop()


async def complete(engine: TransformersEngine, model: str = BASE_NAME, **fields: object) -> dict[str, Any]:
    body = {"model": model, "prompt": "the quick", "max_tokens": 12, "temperature": 0, **fields}
    answer = await engine.post("completions", body)
    assert answer.status == 200
    found: dict[str, Any] = json.loads(await answer.read())
    return found


async def text(engine: TransformersEngine, model: str = BASE_NAME, **fields: object) -> str:
    found: str = (await complete(engine, model, **fields))["choices"][0]["text"]
    return found


async def test_agrees_with_generate(engine: TransformersEngine, dock: TinyDock) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(dock.base)
    ids = AutoTokenizer.from_pretrained(dock.base)("the quick", return_tensors="pt").input_ids
    judged = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist()
    found = await complete(engine, return_token_ids=True)
    assert found["choices"][0]["token_ids"] == judged
    assert found["usage"] == {
        "prompt_tokens": ids.shape[1],
        "completion_tokens": 12,
        "total_tokens": ids.shape[1] + 12,
    }


async def test_adapters_change_the_answer_and_never_mix(
    engine: TransformersEngine, learnwares: dict[str, Learnware]
) -> None:
    names = [BASE_NAME, *(one.engine_name for one in learnwares.values())]
    alone = [await text(engine, name) for name in names]
    assert len(set(alone)) == 4
    # Three adapters, room for two: some are dropped and come back.
    mixed = await asyncio.gather(*(text(engine, name) for name in names * 3))
    assert mixed == alone * 3


async def test_token_ids_as_prompt(engine: TransformersEngine, dock: TinyDock) -> None:
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(dock.base)("the quick").input_ids
    assert await text(engine, prompt=ids) == await text(engine)
    with pytest.raises(InvalidInput, match="outside"):
        await complete(engine, prompt=[10_000_000])


async def test_seed(engine: TransformersEngine) -> None:
    warm = [await text(engine, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert warm[0] == warm[1] != warm[2]


async def test_stop_text(engine: TransformersEngine) -> None:
    whole = await text(engine)
    stop = whole[4:6]
    found = (await complete(engine, stop=[stop]))["choices"][0]
    assert (found["text"], found["finish_reason"]) == (whole[: whole.index(stop)], "stop")


async def test_stream_gives_the_same_text(engine: TransformersEngine) -> None:
    body = {"model": BASE_NAME, "prompt": "the quick", "max_tokens": 12, "temperature": 0}
    answer = await engine.post("completions", body | {"stream": True, "stream_options": {"include_usage": True}})
    events = (await answer.read()).decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    parts = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert "".join(part["choices"][0]["text"] for part in parts[:-1]) == await text(engine)
    assert parts[-1]["usage"]["completion_tokens"] == 12


async def test_chat(engine: TransformersEngine) -> None:
    said = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    body: dict[str, object] = {"model": BASE_NAME, "messages": said, "max_tokens": 4, "temperature": 0}
    whole = json.loads(await (await engine.post("chat/completions", body)).read())
    assert whole["choices"][0]["message"]["role"] == "assistant"
    streamed = await (await engine.post("chat/completions", body | {"stream": True})).read()
    assert streamed.startswith(b'data: {"id": "chatcmpl-')
    body["messages"] = [{"role": "user", "content": [{"type": "image_url"}]}]
    with pytest.raises(InvalidInput, match="only text"):
        await engine.post("chat/completions", body)


async def test_closing_a_stream_ends_it(engine: TransformersEngine) -> None:
    body = {"model": BASE_NAME, "prompt": "the", "max_tokens": 200, "ignore_eos": True, "stream": True}
    answer = await engine.post("completions", body)
    await anext(answer.chunks)
    await answer.close()
    assert await asyncio.wait_for(text(engine), 20)


async def test_too_long(engine: TransformersEngine) -> None:
    with pytest.raises(InvalidInput, match="the context has 256"):
        await complete(engine, max_tokens=256)
    with pytest.raises(InvalidInput, match="0 prompt tokens"):
        await complete(engine, prompt="")


async def test_unknown_adapter(engine: TransformersEngine) -> None:
    with pytest.raises(AdapterUnavailable, match="x@0000000000000000"):
        await complete(engine, "x@0000000000000000")


async def test_a_corrupt_adapter_fails_alone(
    engine: TransformersEngine, dock: TinyDock, learnwares: dict[str, Learnware]
) -> None:
    before = await text(engine)
    good, bad = learnwares["law"], "9" * 64
    folder = dock.store / bad[:2] / bad
    folder.mkdir(parents=True)
    for file in (dock.store / good.id[:2] / good.id).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    save_file({"base_model.model.nowhere.lora_A.weight": torch.zeros(4, 4)}, folder / WEIGHTS_FILE)
    with pytest.raises(AdapterUnavailable, match="bad@9999"):
        await complete(engine, f"bad@{bad[:16]}")
    assert await text(engine) == before
    shutil.rmtree(folder)


async def test_no_model_there(tmp_path: Path) -> None:
    engine = TransformersEngine(TransformersConfig(tmp_path, BASE_NAME, tmp_path))
    with pytest.raises(EngineError, match="cannot be loaded"):
        await engine.start()
    assert not await engine.healthy()


async def test_stopping_ends_what_waits(dock: TinyDock) -> None:
    engine = TransformersEngine(TransformersConfig(dock.base, BASE_NAME, dock.store))
    await engine.start()
    long = [asyncio.create_task(complete(engine, max_tokens=240, ignore_eos=True)) for _ in range(3)]
    await asyncio.sleep(0.05)
    await asyncio.wait_for(engine.stop(), 10)
    found = await asyncio.gather(*long, return_exceptions=True)
    assert [type(one) for one in found] == [EngineError] * 3
    with pytest.raises(EngineError, match="not running"):
        await complete(engine)
