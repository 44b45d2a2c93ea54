"""Real processes behind a real gateway, killed with SIGKILL under load."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import httpx
import pytest

from catalogue import Learnware
from serving import GatewayParts, Pool, PoolConfig, RemoteConfig, RemoteEngine
from tests.serving import fake_vllm
from tests.serving.conftest import TinyDock
from tests.serving.tiny import BASE_NAME

Serving = Callable[[GatewayParts], AbstractContextManager[str]]


class Process:
    """A fake vLLM that can be killed and started again on its port."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = [sys.executable, fake_vllm.__file__, str(self.port)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    found = [Process(), Process()]
    yield found
    for process in found:
        process.kill()


@pytest.fixture
def pool(processes: list[Process]) -> Pool:
    engines = [RemoteEngine(RemoteConfig(url=one.url, base_model=BASE_NAME)) for one in processes]
    return Pool(engines, PoolConfig(interval=0.05))


@pytest.fixture
def client(dock: TinyDock, pool: Pool, serving: Serving) -> Iterator[httpx.Client]:
    with (
        serving(dock.parts(pool)) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False, limits=httpx.Limits()) as client,
    ):
        wait_for(lambda: all(replica.up for replica in pool.replicas))
        yield client


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(client: httpx.Client, model: str = BASE_NAME) -> httpx.Response:
    return client.post("/v1/completions", json={"model": model, "prompt": "a"})


def stream(client: httpx.Client, begun: threading.Semaphore) -> list[dict[str, object]]:
    """Returns a stream's events; tells when the first came."""
    events: list[dict[str, object]] = []
    with client.stream(
        "POST", "/v1/completions", json={"model": BASE_NAME, "prompt": "a", "stream": True}
    ) as found:
        for line in found.iter_lines():
            if line:
                if not events:
                    begun.release()
                events.append(json.loads(line.removeprefix("data: ")))
    return events


def test_sigkill_under_load(client: httpx.Client, pool: Pool, processes: list[Process]) -> None:
    begun = threading.Semaphore(0)
    with ThreadPoolExecutor(24) as threads:
        streams = [threads.submit(stream, client, begun) for _ in range(16)]
        for _ in streams:
            begun.acquire()
        assert [replica.in_flight for replica in pool.replicas] == [8, 8]
        killed = processes[0]
        killed.kill()
        others = [threads.submit(ask, client) for _ in range(40)]
        assert {one.result().status_code for one in others} == {200}
        assert {one.result().json()["port"] for one in others} == {processes[1].port}
        ended = [one.result() for one in streams]
    broken = [events for events in ended if events[0]["port"] == killed.port]
    whole = [events for events in ended if events[0]["port"] != killed.port]
    assert (len(broken), len(whole)) == (8, 8)
    for events in broken:
        assert events[-1]["error"]["type"] == "engine_unavailable"  # type: ignore[index]
    assert all(len(events) == fake_vllm.EVENTS for events in whole)
    killed.start()
    wait_for(lambda: pool.replicas[0].up)
    assert {ask(client).json()["port"] for _ in range(4)} == {one.port for one in processes}
    assert [replica.in_flight for replica in pool.replicas] == [0, 0]


def test_all_killed_is_503_with_retry_after_and_back_without_a_restart(
    client: httpx.Client, processes: list[Process], pool: Pool
) -> None:
    for process in processes:
        process.kill()
    refused = ask(client)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["error"]["code"] == "engines_down"
    wait_for(lambda: client.get("/ready").status_code == 503)
    processes[1].start()
    assert ask(client).json()["port"] == processes[1].port
    wait_for(lambda: client.get("/ready").status_code == 200)
    processes[0].start()
    wait_for(lambda: pool.replicas[0].up)


def test_a_killed_replica_s_memory_is_forgotten(
    client: httpx.Client, processes: list[Process], pool: Pool, learnwares: dict[str, Learnware]
) -> None:
    for name in learnwares:
        ask(client, name)
    assert sum(len(replica.residency) for replica in pool.replicas) == len(learnwares)
    for process in processes:
        process.kill()
    wait_for(lambda: not any(replica.up for replica in pool.replicas))
    for process in processes:
        process.start()
    wait_for(lambda: all(replica.up for replica in pool.replicas))
    assert [len(replica.residency) for replica in pool.replicas] == [0, 0]


@pytest.mark.parametrize(
    "path", ["/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/metrics/lora"]
)
def test_engines_own_endpoints_are_out_of_reach(path: str, client: httpx.Client) -> None:
    """The process behind would answer any POST; the gateway does not pass these on."""
    assert client.post(path, json={"lora_name": "x", "lora_path": "/etc"}).status_code == 404


def test_slow_start_of_one_replica_keeps_nobody_waiting(
    dock: TinyDock, processes: list[Process], serving: Serving, free_url: str
) -> None:
    urls = [processes[0].url, free_url]
    engines = [RemoteEngine(RemoteConfig(url=url, base_model=BASE_NAME, start_timeout=300)) for url in urls]
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(serving(dock.parts(Pool(engines, PoolConfig(interval=0.05)))))
        client = stack.enter_context(httpx.Client(base_url=url, trust_env=False))
        assert ask(client).status_code == 200
        states = client.get("/v1/residency").json()["replicas"]
        assert [one["up"] for one in states] == [True, False]
