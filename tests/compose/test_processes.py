"""What docker-compose.yml declares, run as plain processes: the same commands, environment and health checks.

Not run are the containers themselves, Prometheus, Grafana and Qdrant (a double stands for it, or the embedded
catalogue).
"""

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openai import OpenAI

from catalogue.address import KEY_VARIABLE
from serving.keys import KEYS_FILE, KeyStore, key_request
from tests.catalogue.fake_qdrant import KEY, FakeQdrant, serving
from tests.compose.stack import ROOT, Stack
from tests.compose.test_dockerfile import entry_point
from tests.serving import fake_vllm, tiny

SETTINGS = {"SLMDOCK_BASE": tiny.BASE_NAME, "SLMDOCK_BASE_FOLDER": "folder", "SLMDOCK_MODELS": "models"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def listens(port: int) -> dict[str, str]:
    """Where a service listens and its health check looks, instead of port 8000 of its container."""
    return {"--port=8000": f"--port={port}", "127.0.0.1:8000": f"127.0.0.1:{port}"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.build_base(folder / "folder")
    return folder


def stack_on(folder: Path, models: Path, addresses: dict[str, dict[str, str]], **settings: str) -> Stack:
    (folder / "models").symlink_to(models)
    (folder / "secrets").mkdir()
    (folder / "secrets" / "qdrant_api_key").write_text(KEY)
    return Stack(folder, SETTINGS | settings, addresses)


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """The address of what answers like vLLM."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), fake_vllm.Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def qdrant() -> Iterator[FakeQdrant]:
    with serving(FakeQdrant()) as fake:
        yield fake


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, models: Path, engine: str, qdrant: FakeQdrant, port: int
) -> Stack:
    outside = {"http://engine:8000": engine, "http://qdrant:6333": qdrant.url}
    return stack_on(tmp_path_factory.mktemp("stack"), models, {"gateway": listens(port) | outside})


@pytest.fixture(scope="module")
def gateway(stack: Stack, port: int) -> Iterator[str]:
    """The first minute: init, then the gateway until it is healthy."""
    assert not stack.healthy("gateway")
    stack.run("init", stack.words("init", []))
    with stack.running("gateway", entry_point("gateway")):
        yield f"http://127.0.0.1:{port}"


def metrics_key(stack: Stack) -> str:
    """The key in the file that Prometheus is told to read."""
    (job,) = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    file = Path(job["authorization"]["credentials_file"])
    return (stack.folder / "metrics-key" / file.name).read_text().strip()


def get(url: str, key: str = "") -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.get(url, headers=headers, timeout=60, trust_env=False)


def test_prometheus_may_read_and_nobody_else(stack: Stack, gateway: str) -> None:
    assert get(f"{gateway}/metrics").status_code == 401
    answer = get(f"{gateway}/metrics", metrics_key(stack))
    assert answer.status_code == 200
    assert "slmdock_catalogue_up 1.0" in answer.text
    assert get(f"{gateway}/v1/keys", metrics_key(stack)).status_code == 403


def test_a_key_made_beside_the_gateway_gets_an_answer(stack: Stack, gateway: str, qdrant: FakeQdrant) -> None:
    keys = KeyStore(stack.folder / "dock" / KEYS_FILE)
    key = keys.create_key(key_request({"name": "me", "roles": ["serve"]})).secret
    with OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0) as client:
        raw = client.completions.with_raw_response.create(model=tiny.BASE_NAME, prompt="the quick")
    assert json.loads(raw.text)["model"] == tiny.BASE_NAME
    assert qdrant.collection is not None
    assert KEY not in (stack.folder / "gateway.log").read_text()


def test_init_runs_with_every_start_and_keeps_the_key(tmp_path: Path, models: Path) -> None:
    stack = stack_on(tmp_path, models, {})
    program = tmp_path / "bin" / "slmdock"
    program.parent.mkdir()
    key, keys = tmp_path / "metrics-key" / "key", tmp_path / "dock" / "keys.json"

    def init(secret: str) -> int:
        """Runs init with a program that makes ``secret`` a key, or fails if it is empty."""
        make = f"echo {secret}; echo > {keys}" if secret else "exit 2"
        program.write_text(f"#!/bin/sh\nif [ $1 = key ]; then {make}; fi\n")
        program.chmod(0o755)
        path = f"{program.parent}:{stack.environment('init')['PATH']}"
        return subprocess.run(stack.words("init", []), env=stack.environment("init") | {"PATH": path}).returncode

    assert init("") == 2
    assert not key.exists()
    assert init("first") == init("second") == 0
    assert key.read_text() == "first\n"
    keys.unlink()
    assert init("third") == 0
    assert key.read_text() == "third\n"


def test_without_a_base_model_init_says_what_is_missing(tmp_path: Path, models: Path) -> None:
    stack = stack_on(tmp_path, models, {}, SLMDOCK_BASE_FOLDER="nothing")
    words = stack.words("init", [])
    done = subprocess.run(words, env=stack.environment("init"), capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "models/nothing" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "metrics-key").iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_stack_answers_with_an_adapter_on_the_cpu(tmp_path: Path, models: Path) -> None:
    engine, port = free_port(), free_port()
    stack = stack_on(
        tmp_path, models,
        {
            "engine-cpu": listens(engine) | {"0.0.0.0": "127.0.0.1"},
            "gateway": listens(port) | {"http://engine:8000": f"http://127.0.0.1:{engine}"},
        },
        SLMDOCK_MAX_LORAS="2", SLMDOCK_MAX_CPU_LORAS="4", SLMDOCK_MAX_LORA_RANK="8", SLMDOCK_KV_CACHE_GIB="1",
    )  # fmt: skip
    tiny.build_adapter(models / "folder", models / "adapter", 1)
    lines = [json.dumps({"text": f"Tell me about wheat, part {part}."}) for part in range(20)]
    (models / "wheat.jsonl").write_text("\n".join(lines))
    stack.run("init", stack.words("init", []))
    embedded = Embedded(stack.folder, stack.settings, stack.addresses)
    with (
        stack.running("engine-cpu", entry_point("engine-cpu")),
        embedded.running("gateway", entry_point("gateway")),
    ):
        slmdock = entry_point("gateway")
        key = embedded.run("gateway", [*slmdock, "key", "create", "me", "--role", "admin"]).strip()
        submit = ["submit", str(models / "adapter"), "--examples", str(models / "wheat.jsonl"), "--name", "wheat"]
        embedded.run("gateway", [*slmdock, *submit], SLMDOCK_KEY=key)
        url = f"http://127.0.0.1:{port}/v1"
        with OpenAI(base_url=url, api_key=key, max_retries=0, timeout=120) as client:
            asked: dict[str, Any] = {"prompt": "the quick", "max_tokens": 8, "temperature": 0}
            answer = client.completions.with_raw_response.create(model="wheat", **asked)
            base = client.completions.create(model=tiny.BASE_NAME, **asked)
        assert answer.headers["x-slmdock-model"].startswith("wheat@")
        assert answer.parse().choices[0].text != base.choices[0].text


class Embedded(Stack):
    """The same without Qdrant: its catalogue lies in the dock's folder."""

    def __post_init__(self) -> None:
        pass

    def environment(self, name: str) -> dict[str, str]:
        declared = super().environment(name)
        return {
            key: value
            for key, value in declared.items()
            if key not in ("SLMDOCK_QDRANT_URL", f"{KEY_VARIABLE}_FILE")
        }
