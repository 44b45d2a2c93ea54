"""Whole models on the real stack: submitted, started by a request, stopped for another and when idle; on vLLM."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from indexer.whole_model import take_in
from serving import VllmConfig
from slmdock import stack
from slmdock.dock import Dock, DockConfig
from slmdock.stack import StackConfig, make_whole
from tests.serving import tiny
from tests.slmdock.test_stack import run, start

IDLE_SECONDS = 2.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dock without learnwares, two whole models beside it, and examples."""
    folder = tmp_path_factory.mktemp("home")
    tiny.build_base(folder / "base")
    for seed, topic in enumerate(("wheat", "bones"), 20):
        tiny.build_base(folder / f"{topic}-model", seed)
        lines = [json.dumps({"text": f"Tell me about {topic}, part {part}."}) for part in range(20)]
        (folder / f"{topic}.jsonl").write_text("\n".join(lines))
    run(folder, "base", "add", tiny.BASE_NAME, "base")
    return folder


@pytest.fixture(scope="module")
def gateway(home: Path) -> Iterator[str]:
    """``slmdock serve`` with memory for one whole model at a time."""
    size = sum(file.stat().st_size for file in (home / "wheat-model").iterdir())
    process = start(
        home, "serve", "--engine", "transformers", "--port", "0", "--model-gib", str(1.5 * size / 2**30),
        "--model-idle", str(IDLE_SECONDS),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    assert line.startswith("serving at "), line + process.stderr.read()
    yield line.split()[-1]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "Traceback" not in err


def running(gateway: str) -> list[str]:
    """The names of the whole models that run."""
    state = httpx.get(f"{gateway}/v1/residency", trust_env=False).json()["whole"]
    assert state["used"] <= state["budget"]
    return [one["model"].partition("@")[0] for one in state["models"] if one["up"]]


def test_one_at_a_time_and_none_when_idle(home: Path, gateway: str) -> None:
    for topic in ("wheat", "bones"):
        run(home, "submit", f"{topic}-model", "--examples", f"{topic}.jsonl", "--name", topic)
    assert "whole model" in run(home, "list")[0]
    assert running(gateway) == []
    said = {}
    for topic in ("wheat", "bones"):
        body = {"model": topic, "prompt": "the quick", "max_tokens": 6, "temperature": 0}
        answer = httpx.post(f"{gateway}/v1/completions", json=body, trust_env=False, timeout=60)
        assert answer.status_code == 200, answer.text
        said[topic] = answer.json()["choices"][0]["text"]
        assert running(gateway) == [topic]
    assert said == {topic: expected(home / f"{topic}-model") for topic in said}
    limit = time.monotonic() + 10 * IDLE_SECONDS
    while running(gateway):
        assert time.monotonic() < limit
        time.sleep(0.2)


def expected(folder: Path) -> str:
    """What transformers says, greedily."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer("the quick", return_tensors="pt")
    with torch.no_grad():
        tokens = model.generate(**prompt, max_new_tokens=6, do_sample=False)[0][prompt["input_ids"].shape[1] :]
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


@pytest.mark.timeout(300)
async def test_on_vllm(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Else it would choose bfloat16, which the judge does not take.
    monkeypatch.setattr(stack, "VllmConfig", partial(VllmConfig, dtype="float32"))
    dock = Dock(DockConfig(tmp_path))
    name = f"wheat@{take_in(home / 'wheat-model', dock.store)[:16]}"
    config = StackConfig(model_gib=1.01, kv_cache_gib=1, model_idle=IDLE_SECONDS, max_model_len=128)
    whole = make_whole(dock, config)
    assert whole is not None
    engine = whole.engine_of(name)
    try:
        body: dict[str, object] = {"model": name, "prompt": "the quick", "max_tokens": 6, "temperature": 0}
        answer = json.loads(await (await engine.post("completions", body)).read())
        assert (answer["model"], answer["choices"][0]["text"]) == (name, expected(home / "wheat-model"))
        (state,) = whole.state().models
        assert (state.model, state.up) == (name, True)
        async with asyncio.timeout(30):
            while engine.running:
                await asyncio.sleep(0.1)
    finally:
        await whole.stop()
    assert not whole.state().models
    assert (tmp_path / f"vllm-{name}.log").is_file()
