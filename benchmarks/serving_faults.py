"""Serving under strain: a soak, a thousand clients at once, and faults while others are served."""

import argparse
import asyncio
import resource
import signal
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import aiohttp
import torch
from safetensors.torch import save_file

from benchmarks.load import MakeBody, Run, ask, closed_loop, open_loop
from benchmarks.report import table
from benchmarks.serving_stack import Bench, Rows, Stack, bodies, body, noted, pinned, running
from indexer.store import WEIGHTS_FILE, AdapterStore
from slmdock.demo.models import DEMO_BASE

LOADED_SHARE = 0.7
NOTES = 12
LONG_ANSWER = 300
RECOVERY_SECONDS = 240.0


async def soak(bench: Bench, options: argparse.Namespace) -> dict[str, object]:
    """Requests of all kinds at 70 % of what the stack can take; memory, descriptors and tasks meanwhile."""
    seconds = 60 * options.soak
    with running(bench.demo) as stack:
        async with stack.gateway.open() as gateway:
            make = await _all_kinds(bench, stack, options.tokens)
            await closed_loop(gateway, make, 16, 5)
            full = await closed_loop(gateway, make, 16, 2 * options.seconds)
            loading = asyncio.create_task(
                open_loop(gateway, make, LOADED_SHARE * full.rate, seconds, options.seed)
            )
            notes: list[dict[str, float]] = []
            while not loading.done():
                notes.append({"minute": len(notes) * seconds / NOTES / 60} | stack.note())
                await asyncio.wait({loading}, timeout=seconds / NOTES)
            run = await loading
    table("soak: the gateway's process", list(notes[0]), [list(note.values()) for note in notes])
    rows: Rows = [[LOADED_SHARE * full.rate, len(run.seen), run.failed, run.latency(), run.latency(0.99)]]
    columns = ["requests/s", "requests", "failed", "p50 ms", "p99 ms"]
    table("soak: its clients", columns, rows)
    return {"notes": notes, "columns": columns, "rows": rows, "outcomes": run.outcomes}


async def _all_kinds(bench: Bench, stack: Stack, tokens: int) -> MakeBody:
    """Requests of every kind in turn; every second one is streamed."""
    task, adapter = await pinned(stack)
    names = [str(one["name"]) for one in await stack.learnwares()]
    models = ["auto", task, adapter, DEMO_BASE, *names]
    makers = [bodies(bench, models, tokens, stream) for stream in (False, True)]
    return lambda number: makers[number % 2](number // 2)


def _from(make: MakeBody, first: int) -> MakeBody:
    return lambda number: make(first + number)


async def crowd(bench: Bench, options: argparse.Namespace) -> dict[str, object]:
    """Many clients at once, each with its next request when the last is answered: does every one get its share?"""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with running(bench.demo) as stack:
        async with stack.gateway.open() as gateway:
            make = await _all_kinds(bench, stack, options.tokens)
            await closed_loop(gateway, make, 16, 3)
            seconds = 6 * options.seconds
            runs = await asyncio.gather(
                *(closed_loop(gateway, _from(make, client), 1, seconds) for client in range(options.clients))
            )
    answers = [len(run.good) for run in runs]
    run = Run([one for each in runs for one in each.seen], max(each.seconds for each in runs))
    row = [options.clients, len(run.seen), min(answers), statistics.median(answers), max(answers),
           run.latency(), run.latency(0.99), run.latency(1.0), _shown(run)]  # fmt: skip
    columns = [
        "clients",
        "requests",
        "fewest answers",
        "median",
        "most",
        "p50 ms",
        "p99 ms",
        "longest",
        "outcomes",
    ]
    table("a crowd", columns, [row])
    return {"columns": columns, "rows": [row]}


@dataclass
class _Scene:
    """A running stack under load, and what was seen during the faults so far."""

    bench: Bench
    stack: Stack
    gateway: aiohttp.ClientSession
    groups: dict[str, MakeBody]
    harmed: dict[str, str]
    rows: Rows = field(default_factory=list)

    @asynccontextmanager
    async def load(self, fault: str, seconds: float) -> AsyncIterator[None]:
        """Keeps four clients of every group busy around a fault, and notes what they saw."""
        loops = [asyncio.create_task(closed_loop(self.gateway, make, 4, seconds)) for make in self.groups.values()]
        await asyncio.sleep(1)
        yield
        for name, run in zip(self.groups, await asyncio.gather(*loops), strict=True):
            self.note(fault, name, run)

    def note(self, fault: str, who: str, run: Run) -> None:
        noted(self.rows, [fault, who, len(run.seen), _shown(run), run.latency(), run.latency(1.0)])


async def faults(bench: Bench, options: argparse.Namespace) -> dict[str, object]:
    """One fault after another under load: what each kind of client saw."""
    with _harmed(bench) as harmed, running(bench.demo) as stack:
        async with stack.gateway.open() as gateway:
            task, adapter = await pinned(stack)
            groups = {
                "by task, streamed": bodies(bench, [task], options.tokens, stream=True),
                "by name": bodies(bench, [adapter], options.tokens),
                "auto": bodies(bench, ["auto"], options.tokens),
                "base model": bodies(bench, [DEMO_BASE], options.tokens),
            }
            scene = _Scene(bench, stack, gateway, groups, harmed)
            async with scene.load("none", 3):
                pass
            for fault in (_slow_clients, _disconnects, _corrupt_adapter, _engine_killed, _catalogue_gone):
                await fault(scene)
    columns = ["fault", "client", "requests", "saw", "p50 ms of good", "longest"]
    table("faults under load", columns, scene.rows)
    return {"columns": columns, "rows": scene.rows}


async def _slow_clients(scene: _Scene) -> None:
    """Eight clients that ask for long streams and read a line in half a second."""

    async def read() -> None:
        asked = body(DEMO_BASE, "Which?", LONG_ANSWER, stream=True)
        async with scene.gateway.post("/v1/completions", json=asked) as response:
            for _ in range(10):
                await response.content.readline()
                await asyncio.sleep(0.5)

    async with scene.load("slow clients", 6):
        await asyncio.gather(*(read() for _ in range(8)))


async def _disconnects(scene: _Scene) -> None:
    """Thirty-two clients that leave after the first event; the engine must stop generating for them."""

    async def leave(stream: bool) -> None:
        asked = body(DEMO_BASE, "Which?", LONG_ANSWER, stream)
        posting = scene.gateway.post("/v1/completions", json=asked, timeout=aiohttp.ClientTimeout(total=0.3))
        try:
            async with posting as response:
                await response.content.readline()
        except TimeoutError:
            pass

    async with scene.load("clients leave", 4):
        await asyncio.gather(*(leave(stream) for stream in (False, True) for _ in range(16)))
    await asyncio.sleep(1)
    left = await _running_requests(scene.stack)
    noted(scene.rows, ["clients leave", "engine, 1 s later", 32, f"{left:g} still running", None, None])


async def _running_requests(stack: Stack) -> float:
    async with stack.engine.open() as engine, engine.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running{"))


@contextmanager
def _harmed(bench: Bench) -> Iterator[dict[str, str]]:
    """Cuts one adapter short, puts nonsense into another; gives what was done by id, and mends them afterwards.

    Before the stack starts, so that no engine has them in memory. They are the last in order of id.
    """
    store = AdapterStore(bench.demo / "store")
    victims = dict(zip(list(store.ids())[-2:], ("cut short", "nonsense inside"), strict=True))
    whole = {id: (store.path_of(id) / WEIGHTS_FILE).read_bytes() for id in victims}
    try:
        for id, harm in victims.items():
            file = store.path_of(id) / WEIGHTS_FILE
            if harm == "cut short":
                file.write_bytes(whole[id][:-1000])
            else:
                save_file({"nowhere": torch.zeros(4)}, file)
        yield victims
    finally:
        for id, data in whole.items():
            (store.path_of(id) / WEIGHTS_FILE).write_bytes(data)


async def _corrupt_adapter(scene: _Scene) -> None:
    """The harmed adapters are asked for by name; whoever leaves the choice to the dock is led to them too."""
    async with scene.load("corrupt adapter", 4):
        for id, harm in scene.harmed.items():
            run = await closed_loop(scene.gateway, bodies(scene.bench, [id], 4), 4, 1.5)
            scene.note("corrupt adapter", f"its own, {harm}", run)


async def _engine_killed(scene: _Scene) -> None:
    """All of vLLM's processes get SIGKILL; the clients go on asking until it is back."""
    async with scene.load("engine killed", 4):
        for process in scene.stack.engine_processes():
            process.kill()
    started = time.perf_counter()
    while not (await ask(scene.gateway, body(DEMO_BASE, "Which?", 1))).good:
        if time.perf_counter() - started > RECOVERY_SECONDS:
            break
        await asyncio.sleep(0.5)
    waited = time.perf_counter() - started
    noted(scene.rows, ["engine killed", "base model", 1, f"answered again after {waited:.0f} s", None, None])
    async with scene.load("engine back", 3):
        pass


async def _catalogue_gone(scene: _Scene) -> None:
    async with scene.load("catalogue gone", 4):
        scene.stack.process.send_signal(signal.SIGUSR1)


def _shown(run: Run) -> str:
    return ", ".join(f"{count} x {outcome}" for outcome, count in run.outcomes.items())
