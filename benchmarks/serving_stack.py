"""The stack under test: a dock with the demo's models, and gateway and vLLM in processes of their own.

Run as a module, it is the gateway's process: ``slmdock serve`` that also notes, once a second, how many asyncio
tasks it has, and whose catalogue goes away on SIGUSR1.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import torch
import uvloop
from safetensors.torch import load_file, save_file

from benchmarks.load import Body, MakeBody, Target
from catalogue import Card
from indexer.store import CONFIG_FILE, WEIGHTS_FILE
from slmdock import output
from slmdock.demo.models import DEMO_BASE, SCALES, DemoModels
from slmdock.demo.run import prepare
from slmdock.dock import Dock, DockConfig, cache_folder
from slmdock.stack import StackConfig, run_stack
from specification import read_examples, specify

NOTE = "note.json"
LARGEST_NUMBER_OF_VARIANTS = 256
STOP_SECONDS = 60

Rows = list[list[object]]


@dataclass(frozen=True)
class Bench:
    """What is served: the demo's dock, and one with many variants of its adapters, by engine name."""

    demo: Path
    wide: Path
    models: DemoModels
    variants: tuple[str, ...]

    @property
    def prompts(self) -> list[str]:
        """Users' prompts, of all tasks in turn."""
        texts = [read_examples(path) for path in self.models.users.values()]
        return [example.text for row in zip(*texts, strict=False) for example in row]


@dataclass(frozen=True)
class Stack:
    """A running stack: ways in, and the gateway's process."""

    gateway: Target
    engine: Target
    process: psutil.Process
    folder: Path

    def note(self) -> dict[str, float]:
        """The gateway's memory (MiB), descriptors, threads, and asyncio tasks."""
        tasks = json.loads((self.folder / NOTE).read_text())["tasks"]
        memory = self.process.memory_info().rss / 2**20
        return {
            "rss": memory,
            "fds": self.process.num_fds(),
            "threads": self.process.num_threads(),
            "tasks": tasks,
        }

    def processor_seconds(self) -> float:
        """What the gateway's process has used so far, all threads together; vLLM is not in it."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    async def learnwares(self) -> list[dict[str, Any]]:
        """The records of all learnwares of a small dock."""
        async with self.gateway.open() as gateway, gateway.get("/learnwares") as response:
            found: list[dict[str, Any]] = (await response.json())["learnwares"]
            return found

    async def adapter_loads(self) -> float | None:
        """How often the dock has seen an adapter loaded so far, None if it keeps no account."""
        async with self.gateway.open() as gateway, gateway.get("/metrics") as response:
            text = await response.text() if response.status == 200 else ""
        counts = [line.split()[-1] for line in text.splitlines() if line.startswith("slmdock_adapter_loads_total")]
        return sum(float(count) for count in counts) if counts else None

    def engine_processes(self) -> list[psutil.Process]:
        """vLLM's processes without their supervisor, which would take itself for ended."""
        children = self.process.children(recursive=True)
        return [each for each in children if "supervised" not in " ".join(each.cmdline())]


def prepare_bench(scale: str, seed: int) -> Bench:
    """Trains and ingests what is missing; what is there already is kept."""
    home = (cache_folder() / "demo" / scale).resolve()
    demo = prepare(home, SCALES[scale], lambda line: print(line, file=sys.stderr))
    folder = demo.dock.config.folder
    demo.dock.close()
    wide = home / f"wide-{folder.name}-{seed}"
    if not (wide / "variants.json").is_file():
        shutil.rmtree(wide, ignore_errors=True)
        _fill(wide, demo.models, seed)
    return Bench(folder, wide, demo.models, tuple(json.loads((wide / "variants.json").read_text())))


def _fill(folder: Path, models: DemoModels, seed: int) -> None:
    """Makes a dock of variants: the demo's first adapter, each time with other noise on its weights."""
    adapter = next(iter(models.adapters.values()))
    weights = load_file(adapter / WEIGHTS_FILE)
    generator = torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True)
    dock = Dock(DockConfig(folder))
    dock.bases.add(DEMO_BASE, models.base)
    specification = specify(
        [one.text for one in read_examples(next(iter(models.examples.values())))], dock.encoder
    )
    names = []
    with output.progress_bar("variants") as progress, tempfile.TemporaryDirectory() as place:
        shutil.copy(adapter / CONFIG_FILE, place)
        for number in range(LARGEST_NUMBER_OF_VARIANTS):
            noisy = {
                name: tensor + 0.01 * torch.randn(tensor.shape, generator=generator)
                for name, tensor in weights.items()
            }
            save_file(noisy, Path(place) / WEIGHTS_FILE, metadata={"format": "pt"})
            learnware = dock.submit(Path(place), specification, Card(name=f"variant-{number:03}"))
            names.append(learnware.engine_name)
            progress(number + 1, LARGEST_NUMBER_OF_VARIANTS)
    dock.close()
    (folder / "variants.json").write_text(json.dumps(names))


def noted(rows: Rows, row: list[object]) -> None:
    """Adds a row, and tells it at once, since a part takes minutes."""
    rows.append(row)
    print(*row, file=sys.stderr, sep="  ", flush=True)


def body(model: str, prompt: str, tokens: int, stream: bool = False) -> Body:
    """A request for exactly ``tokens`` tokens."""
    asked: Body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    return asked | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})


def bodies(bench: Bench, models: list[str], tokens: int, stream: bool = False) -> MakeBody:
    """Requests with the users' prompts in turn and the models in turn."""
    prompts = bench.prompts
    return lambda number: body(
        models[number % len(models)], f"{prompts[number % len(prompts)]}\nAnswer:", tokens, stream
    )


async def register(gateway: aiohttp.ClientSession, learnware: str) -> dict[str, Any]:
    """Registers the task that a learnware was made for; returns the record."""
    async with gateway.get(f"/learnwares/{learnware}/specification") as response:
        specification = await response.read()
    async with gateway.post("/v1/tasks", data=specification) as response:
        task: dict[str, Any] = await response.json()
        return task


async def pinned(stack: Stack) -> tuple[str, str]:
    """Registers a task that one learnware answers; returns the task's name as a model, and the adapter's."""
    async with stack.gateway.open() as gateway:
        for learnware in await stack.learnwares():
            task = await register(gateway, learnware["id"])
            if task["learnware"] and not task["mixture"]:
                asked = body(f"task:{task['id']}", "Which?", 1)
                async with gateway.post("/v1/completions", json=asked) as response:
                    return f"task:{task['id']}", response.headers["x-slmdock-model"]
    raise RuntimeError("no task of the demo's was decided on")


@contextlib.contextmanager
def relay(stack: Stack) -> Iterator[Target]:
    """The smallest relay before the stack's vLLM, on the cores that this process has."""
    assert stack.engine.socket is not None
    words = [sys.executable, "-m", "benchmarks.relay", stack.engine.socket]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Target(process.stdout.readline().strip())
        finally:
            process.terminate()


@contextlib.contextmanager
def running(dock: Path, apart: bool = False, **settings: Any) -> Iterator[Stack]:
    """Serves a dock for the length of a with statement; ``settings`` are fields of ``StackConfig``.

    ``apart`` leaves the first core to vLLM, and the others to gateway and load: as where vLLM has a GPU.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        folder = Path(place)
        given = json.dumps({"bases": [DEMO_BASE], "port": 0, "kv_cache_gib": 1} | settings)
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serving_stack", str(dock), str(folder), given],
            stdout=subprocess.PIPE, text=True,
            env=os.environ | {"TMPDIR": place} | ({"VLLM_CPU_OMP_THREADS_BIND": str(first)} if apart else {}),
        )  # fmt: skip
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the stack did not start; its words are above")
            socket = str(next(folder.glob("slmdock-*/vllm.sock")))
            stack = Stack(Target(url), Target("http://vllm", socket), psutil.Process(process.pid), folder)
            if apart:
                for engine in stack.process.children(recursive=True):
                    _bind(engine.pid, {first})
                for pid in (process.pid, os.getpid()):
                    _bind(pid, set(others))
            yield stack
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _bind(pid: int, cores: set[int]) -> None:
    """Keeps all threads of a process on some cores; those it starts later inherit that."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def serve() -> None:
    """The gateway's process."""
    dock, folder, given = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    config = StackConfig(**given | {"bases": tuple(given["bases"])})
    uvloop.run(_serve(Dock(DockConfig(dock)), config, folder))


async def _serve(dock: Dock, config: StackConfig, folder: Path) -> None:
    noting = asyncio.create_task(_note(folder / NOTE))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: dock.catalogue.close())
    await run_stack(
        dock, config, lambda line: print(line, file=sys.stderr, flush=True), lambda url: print(url, flush=True)
    )
    noting.cancel()


async def _note(file: Path) -> None:
    while True:
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps({"tasks": len(asyncio.all_tasks())}))
        fresh.replace(file)
        await asyncio.sleep(1)


if __name__ == "__main__":
    serve()
