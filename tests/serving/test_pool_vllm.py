"""The real vLLM in a pool: warmed on decision, killed with SIGKILL under load, and back by itself."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import httpx
import pytest

from serving import GatewayParts, Pool, VllmConfig, VllmProcess
from tests.serving.conftest import Sketch, TinyDock
from tests.serving.tiny import BASE_NAME

PATIENCE = 240


@pytest.mark.timeout(900)
def test_vllm_killed_under_load(
    dock: TinyDock, serving: Callable[[GatewayParts], AbstractContextManager[str]], sketch: Sketch
) -> None:
    config = VllmConfig(
        dock.base, BASE_NAME, dock.store, dock.folder / "pool.log", max_loras=2, max_cpu_loras=4, max_lora_rank=8,
        max_model_len=256, dtype="float32", kv_cache_gib=1,
    )  # fmt: skip
    engine = VllmProcess(config, print)
    pool = Pool([engine])
    with serving(dock.parts(pool)) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        client.post("/v1/tasks", content=sketch("law").to_bytes())
        wait_for(lambda: len(pool.replicas[0].residency) == 1)
        begun = threading.Event()
        with ThreadPoolExecutor(4) as threads:
            streams = [threads.submit(last_event, client, begun) for _ in range(4)]
            assert begun.wait(PATIENCE)
            assert engine._process is not None
            os.killpg(engine._process.pid, signal.SIGKILL)
            ended = [one.result() for one in streams]
        assert ended == ["engine_unavailable"] * 4
        refused = ask(client, "law")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        wait_for(lambda: ask(client, "law").status_code == 200)
        assert [one.uses for one in pool.replicas[0].residency.residents()] == [2]
        assert client.get("/ready").status_code == 200


def ask(client: httpx.Client, model: str) -> httpx.Response:
    return client.post("/v1/completions", json={"model": model, "prompt": "the", "max_tokens": 2})


def last_event(client: httpx.Client, begun: threading.Event) -> str:
    """Streams 32 000 tokens; returns the type of the error they end with, or [DONE], and tells when they begin."""
    body = {"model": "law", "prompt": "the", "max_tokens": 250, "n": 128, "stream": True, "ignore_eos": True}
    last = ""
    with client.stream("POST", "/v1/completions", json=body) as found:
        for line in found.iter_lines():
            if line.startswith("data: "):
                begun.set()
            last = line or last
    text = last.removeprefix("data: ")
    return text if text == "[DONE]" else str(json.loads(text)["error"]["type"])


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.2)
