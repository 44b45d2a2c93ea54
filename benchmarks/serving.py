"""Serving the demo's models: what the gateway costs, what many adapters cost, what a cold one costs, and faults.

Gateway, vLLM and the load are processes of their own on this machine. "Direct" is vLLM's own Unix socket.
Everything is warm unless said otherwise; what is compared runs in turns within one run.

    python -m benchmarks.serving [--scale full] [--part overhead decision adapters cold soak crowd faults]
"""

import argparse
import asyncio
import signal
import statistics
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from benchmarks.load import MakeBody, Run, Seen, ask, closed_loop, quantile_ms
from benchmarks.report import arguments, finish, table
from benchmarks.serving_faults import crowd, faults, soak
from benchmarks.serving_stack import (
    Bench,
    Rows,
    Stack,
    bodies,
    body,
    noted,
    pinned,
    prepare_bench,
    register,
    relay,
    running,
)
from slmdock.demo.models import DEMO_BASE, SCALES

IN_FLIGHT = (1, 16, 64)
DISTINCT = (1, 8, 64, 256)
SINGLE_TOKENS = 2
WARMING_SECONDS = 2.0

Part = Callable[[Bench, argparse.Namespace], Coroutine[Any, Any, dict[str, object]]]


def main() -> None:
    # An interrupted run must still take its processes down and mend the adapters it harmed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = arguments(__doc__, data=False)
    parser.add_argument("--scale", choices=sorted(SCALES), default="full", help="of the demo's models")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS), help="what to measure")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one turn of a loop")
    parser.add_argument("--turns", type=int, default=6, help="turns of each side of a comparison")
    parser.add_argument("--singles", type=int, default=300, help="turns where one request is in flight")
    parser.add_argument("--apart", action="store_true", help="overhead with vLLM on a core of its own")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--slots", type=int, nargs="+", default=[0, 2], help="adapter slots to try; 0: the plan's")
    parser.add_argument("--soak", type=float, default=2.0, help="minutes of the soak")
    parser.add_argument("--clients", type=int, default=1000, help="parallel clients of the crowd")
    options = parser.parse_args()
    bench = prepare_bench(options.scale, options.seed)
    results: dict[str, object] = {"scale": options.scale}
    for part in options.part:
        results[part] = asyncio.run(PARTS[part](bench, options))
    finish("serving", results)


def _told(title: str, columns: list[str], rows: Rows) -> dict[str, object]:
    table(title, columns, rows)
    return {"columns": columns, "rows": rows}


async def overhead(bench: Bench, options: argparse.Namespace) -> dict[str, object]:
    """The gateway for a pinned task, and the smallest relay, against vLLM itself, turn by turn."""
    rows: Rows = []
    with running(bench.demo, options.apart) as stack, relay(stack) as relaying:
        task, adapter = await pinned(stack)
        async with stack.gateway.open() as gateway, stack.engine.open() as engine, relaying.open() as bare:
            sides = {"gateway": (gateway, task), "relay": (bare, adapter), "direct": (engine, adapter)}
            for stream in (False, True):
                for in_flight in IN_FLIGHT:
                    # What is added does not depend on the answer's length; the noise does.
                    tokens = options.tokens if in_flight > 1 else SINGLE_TOKENS
                    makers = {
                        name: (session, bodies(bench, [model], tokens, stream))
                        for name, (session, model) in sides.items()
                    }
                    noted(rows, [stream, in_flight, *await _compared(stack, makers, options, in_flight)])
    columns = ["stream", "in flight", "direct p50 ms", "added p50 ms", "added to first token", "by the relay",
               "direct requests/s", "share %", "lowest", "highest", "relay's share", "gateway CPU ms a request",
               "failed"]  # fmt: skip
    cores = "vLLM on a core of its own" if options.apart else "vLLM on all cores"
    return _told(f"gateway over direct vLLM, a pinned task, {cores}", columns, rows)


async def _compared(
    stack: Stack,
    sides: dict[str, tuple[aiohttp.ClientSession, MakeBody]],
    options: argparse.Namespace,
    in_flight: int,
) -> list[object]:
    """Both sides in turns; one request at a time, they take turns request by request, since a machine drifts."""
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    spent = 0.0
    turns, seconds, count = (options.turns, options.seconds, 0) if in_flight > 1 else (options.singles, 0.0, 1)
    for name in sides:
        await closed_loop(*sides[name], in_flight, 1.0)
    for turn in range(turns):
        for name in sorted(sides, reverse=turn % 2 == 0):
            before = stack.processor_seconds()
            runs[name].append(await closed_loop(*sides[name], in_flight, seconds, count))
            spent += stack.processor_seconds() - before if name == "gateway" else 0.0
    shares = {
        name: [
            100 * run.rate / direct.rate for run, direct in zip(own, runs["direct"], strict=True) if direct.rate
        ]
        for name, own in runs.items()
    }
    ours, least, theirs = (Run.joined(runs[name]) for name in ("gateway", "relay", "direct"))
    own = shares["gateway"]
    return [
        theirs.latency(), ours.latency() - theirs.latency(), ours.first_token() - theirs.first_token(),
        least.latency() - theirs.latency(), theirs.rate, statistics.median(own), min(own), max(own),
        statistics.median(shares["relay"]), 1000 * spent / len(ours.seen),
        ours.failed + least.failed + theirs.failed,
    ]  # fmt: skip


async def decision(bench: Bench, options: argparse.Namespace) -> dict[str, object]:
    """What ``auto`` adds to an answer of one token: on new prompts and on a repeated one, one at a time."""
    rows: Rows = []
    prompts = bench.prompts[:200]
    with running(bench.demo) as stack:
        task, _ = await pinned(stack)
        ways = {
            "pinned task": (task, prompts),
            "auto, new prompts": ("auto", prompts),
            "auto, one prompt": ("auto", prompts[:1] * len(prompts)),
        }
        async with stack.gateway.open() as gateway:
            for name, (model, texts) in ways.items():
                await ask(gateway, body(model, "a first question", 1))
                run = Run([await ask(gateway, body(model, text, 1)) for text in texts], 1.0)
                noted(rows, [name, run.latency(), run.latency(0.99), run.failed])
    columns = ["request", "p50 ms", "p99 ms", "failed"]
    return _told("one token, one request at a time; benchmarks.decision has the decision alone", columns, rows)


async def adapters(bench: Bench, options: argparse.Namespace) -> dict[str, object]:
    """Tokens a second with more and more distinct adapters in one mix, against one adapter and the base model."""
    rows: Rows = []
    for slots in options.slots:
        settings = {"max_loras": slots} if slots else {}
        with running(bench.wide, **settings) as stack:
            async with stack.gateway.open() as gateway:
                for distinct in (0, *DISTINCT):
                    names = list(bench.variants[:distinct]) or [DEMO_BASE]
                    noted(rows, [slots or "plan", distinct, *await _mixed(stack, gateway, bench, names, options)])
    columns = ["slots", "adapters", "tokens/s", "p50 ms", "p99 ms", "loads", "failed"]
    return _told("distinct adapters in one mix, 64 in flight (0: the base model)", columns, rows)


async def _mixed(
    stack: Stack, gateway: aiohttp.ClientSession, bench: Bench, names: list[str], options: argparse.Namespace
) -> list[object]:
    make = bodies(bench, names, options.tokens)
    # Each adapter once, so that the steady state is what is measured.
    await closed_loop(gateway, make, 16, count=max(64, len(names)))
    before = await stack.adapter_loads()
    run = await closed_loop(gateway, make, 64, 2 * options.seconds)
    after = await stack.adapter_loads()
    loads = None if before is None or after is None else int(after - before)
    return [run.token_rate, run.latency(), run.latency(0.99), loads, run.failed]


async def cold(bench: Bench, options: argparse.Namespace) -> dict[str, object]:
    """The first token of adapters that the engine never saw: asked for at once, or decided on a moment before.

    In one start half of the learnwares are named at once and half decided on; in the next the other way round.
    """
    found: dict[str, list[float]] = {"named at once": [], "decided on before": [], "second request": []}
    for parity in (0, 1):
        with running(bench.demo) as stack:
            async with stack.gateway.open() as gateway:
                await ask(gateway, body(DEMO_BASE, "a first question", 4, stream=True))
                for place, learnware in enumerate(await stack.learnwares()):
                    await _first_tokens(gateway, learnware, place % 2 == parity, found)
    rows: Rows = [
        [name, len(times), quantile_ms(times), quantile_ms(times, 0.9), 1000 * max(times, default=0)]
        for name, times in found.items()
    ]
    return _told("first token of a cold adapter, idle engine", ["adapter", "n", "p50 ms", "p90 ms", "max"], rows)


async def _first_tokens(
    gateway: aiohttp.ClientSession, learnware: dict[str, Any], decided: bool, found: dict[str, list[float]]
) -> None:
    model = learnware["id"]
    if decided:
        task = await register(gateway, model)
        if task["learnware"] != model or task["mixture"]:
            return
        model = f"task:{task['id']}"
    # Both rest as long, since a machine that rested answers more slowly.
    await asyncio.sleep(WARMING_SECONDS)
    first, second = [await ask(gateway, body(model, prompt, 4, stream=True)) for prompt in ("Which?", "What?")]
    found["decided on before" if decided else "named at once"].append(_wait(first))
    found["second request"].append(_wait(second))


def _wait(seen: Seen) -> float:
    return seen.first - seen.started if seen.good else float("nan")


PARTS: dict[str, Part] = {
    "overhead": overhead,
    "decision": decision,
    "adapters": adapters,
    "cold": cold,
    "soak": soak,
    "crowd": crowd,
    "faults": faults,
}

if __name__ == "__main__":
    main()
