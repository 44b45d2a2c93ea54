"""The demo's main job: learnwares in, users' tasks through search, decision and gateway, one table out.

The users talk to the gateway as anyone would: their specification over HTTP, their prompts by the ``openai``
client. Nothing here reaches into the dock to make the table look better.
"""

import asyncio
import hashlib
import json
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from openai import AsyncOpenAI
from rich.table import Column, Table
from rich.text import Text

from indexer import cached_specification, ingest
from retriever import Ranking
from serving import DockClient, Task
from slmdock import output
from slmdock.demo.models import DEMO_BASE, DemoModels, Scale, build_models
from slmdock.demo.texts import LEARNWARE_TASKS, USER_TASKS
from slmdock.dock import Dock, DockConfig, specification_cache
from slmdock.stack import StackConfig, run_stack
from specification import Example, Specification, read_examples
from specification.errors import InvalidInput

PROMPTS = 16
SAMPLE = 48
MAX_TOKENS = 8
IN_FLIGHT = 16
CONTEXT_TOKENS = 512
WIDE = 120
"""Columns of a terminal that hold the whole table."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoDock:
    """The demo's models and the dock that holds them."""

    models: DemoModels
    dock: Dock


@dataclass(frozen=True)
class User:
    """One user: the sketch of the task, made from examples that are not among the prompts to be answered."""

    name: str
    specification: Specification
    prompts: tuple[Example, ...]


@dataclass(frozen=True)
class Timed:
    """One user's prompts through the gateway: share of right answers, tokens generated, seconds to the last."""

    score: float
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Row:
    """One line of the table. Scores are shares of exactly right answers in [0, 1]."""

    task: str
    chosen: str | None
    nearest: str
    fit: float
    base: float
    score: float
    best: float
    best_learnware: str
    tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def prepare(home: Path, scale: Scale, say: Say) -> DemoDock:
    """Trains what is missing and takes the learnwares in; what is there already is kept."""
    started = time.monotonic()
    models = build_models(home / "models", scale, progress=True)
    say(f"models ready after {time.monotonic() - started:.0f} s, in {models.folder}")
    dock = Dock(DockConfig(_dock_folder(home, models)))
    dock.bases.add(DEMO_BASE, models.base)
    manifest = home / "learnwares.jsonl"
    manifest.write_text("".join(json.dumps(_manifest_line(models, task)) + "\n" for task in models.adapters))
    with output.progress_bar("ingesting", "learnwares") as progress:
        report = ingest(manifest, dock.encoder, specification_cache(), dock.submit, progress)
    if report.refused:
        raise InvalidInput(f"{len(report.refused)} demo learnwares were refused: {report.refused[0]}")
    say(f"{len(report.accepted)} learnwares in the catalogue after {time.monotonic() - started:.0f} s")
    return DemoDock(models, dock)


def _dock_folder(home: Path, models: DemoModels) -> Path:
    """The dock of exactly these models; docks of models that were trained before are removed."""
    digest = hashlib.sha256((models.folder / "manifest.json").read_bytes()).hexdigest()
    folder = home / f"dock-{digest[:12]}"
    for old in home.glob("dock-*"):
        if old != folder:
            shutil.rmtree(old)
    return folder


async def serve_demo(demo: DemoDock, port: int, say: Say) -> None:
    """Leaves the demo's stack running and prints what to try."""
    examples = demo.models.users["nurse-hotline"]
    quoted = shlex.quote(json.dumps({"model": "auto", "max_tokens": MAX_TOKENS, "temperature": 0, "messages": [
        {"role": "user", "content": read_examples(examples)[0].text}]}))  # fmt: skip

    def ready(url: str) -> None:
        print(f"serving at {url}; open it in a browser, or try, in another terminal:\n")
        print(f"  export SLMDOCK_HOME={shlex.quote(str(demo.dock.config.folder))}   # this dock\n")
        print(f"  .venv/bin/slmdock search {shlex.quote(str(examples))}\n")
        print(f"  curl -si {url}/v1/chat/completions -H 'content-type: application/json' -d {quoted}\n")
        print("  .venv/bin/slmdock list\n\nCtrl-C ends it.", flush=True)

    await run_stack(demo.dock, _stack(port), say, ready)


async def run(demo: DemoDock, say: Say) -> list[Row]:
    """Runs the users' tasks against the demo's stack; prints the table, and JSON where no terminal reads it."""
    started = time.monotonic()
    users = [_user(name, demo) for name in USER_TASKS]
    say(f"{len(users)} users' tasks specified after {time.monotonic() - started:.0f} s; starting vLLM")
    loop = asyncio.get_running_loop()
    listening: asyncio.Future[str] = loop.create_future()
    stack = asyncio.create_task(run_stack(demo.dock, _stack(0), say, listening.set_result))
    try:
        url = await _first(stack, listening)
        say(f"gateway and vLLM ready after {time.monotonic() - started:.0f} s, at {url}")
        rows = await _measure(users, url, sorted(demo.models.adapters))
    finally:
        stack.cancel()
        await asyncio.gather(stack, return_exceptions=True)
    _print(rows, time.monotonic() - started)
    return rows


async def _first(stack: asyncio.Task[None], listening: asyncio.Future[str]) -> str:
    """Returns the gateway's URL, or raises what ended the stack before it listened."""
    waiting: set[asyncio.Future[None] | asyncio.Future[str]] = {stack, listening}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if stack.done():
        stack.result()
    return listening.result()


def _stack(port: int) -> StackConfig:
    return StackConfig(bases=(DEMO_BASE,), port=port, kv_cache_gib=1, max_model_len=CONTEXT_TOKENS)


def _manifest_line(models: DemoModels, task: str) -> dict[str, object]:
    about = LEARNWARE_TASKS[task]
    return {
        "name": about.name,
        "adapter": str(models.adapters[task]),
        "examples": str(models.examples[task]),
        "description": about.description,
        "domain": about.domain,
        "task_type": about.task_type,
        "tags": list(about.tags),
        "licence": "apache-2.0",
        "languages": ["en"],
        "owner": "slmdock-demo",
    }


def _user(name: str, demo: DemoDock) -> User:
    examples = read_examples(demo.models.users[name])
    sample = demo.models.folder.parent / "users" / f"{name}.jsonl"
    sample.parent.mkdir(exist_ok=True)
    lines = [json.dumps({"text": item.text}) for item in examples[PROMPTS : PROMPTS + SAMPLE]]
    sample.write_text("\n".join(lines))
    specification = cached_specification(sample, demo.dock.encoder, specification_cache(), calibrated=False)
    return User(name, specification, tuple(examples[:PROMPTS]))


async def _measure(users: Sequence[User], url: str, learnwares: Sequence[str]) -> list[Row]:
    with DockClient(url) as dock:
        rankings = [await asyncio.to_thread(dock.search, user.specification) for user in users]
        tasks = [await asyncio.to_thread(dock.register_task, user.specification) for user in users]
        page = await asyncio.to_thread(dock.learnwares)
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", timeout=300, max_retries=0) as client:
        await asyncio.gather(*(_timed(client, f"task:{task.id}", users[0]) for task in tasks))
        answers = [_timed(client, f"task:{task.id}", user) for user, task in zip(users, tasks, strict=True)]
        measured = await asyncio.gather(*answers)
        scores = await _score_all(client, users, [DEMO_BASE, *learnwares])
    names = {item.id: item.name for item in page.learnwares}
    return [
        _row(user, ranking, (task, _chosen(task, names)), timed, scores)
        for user, ranking, task, timed in zip(users, rankings, tasks, measured, strict=True)
    ]


async def _timed(client: AsyncOpenAI, model: str, user: User) -> Timed:
    """Sends one user's prompts at once, while all other users' are under way."""

    async def ask(example: Example) -> tuple[str, int]:
        answer = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": example.text}],
            max_tokens=MAX_TOKENS, temperature=0,
        )  # fmt: skip
        return answer.choices[0].message.content or "", answer.usage.completion_tokens if answer.usage else 0

    started = time.monotonic()
    answers = await asyncio.gather(*(ask(example) for example in user.prompts))
    seconds = time.monotonic() - started
    return Timed(_score(user.prompts, [text for text, _ in answers]), sum(n for _, n in answers), seconds)


async def _score_all(
    client: AsyncOpenAI, users: Sequence[User], models: Sequence[str]
) -> dict[tuple[str, str], float]:
    """Every model on every user's prompts: what choosing can win at most, and what it would be without.

    One request a pair, with the prompts as the chat template writes them.
    """
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def score(user: User, model: str) -> tuple[tuple[str, str], float]:
        prompts = [f"{example.text}\nAnswer:" for example in user.prompts]
        async with gate:
            answer = await client.completions.create(
                model=model, prompt=prompts, max_tokens=MAX_TOKENS, temperature=0
            )
        texts = [choice.text for choice in sorted(answer.choices, key=lambda choice: choice.index)]
        return (user.name, model), _score(user.prompts, texts)

    return dict(await asyncio.gather(*(score(user, model) for model in models for user in users)))


def _score(prompts: Sequence[Example], answers: Sequence[str]) -> float:
    right = sum(example.answer.strip() == answer.strip() for example, answer in zip(prompts, answers, strict=True))
    return right / len(prompts)


def _chosen(task: Task, names: Mapping[str, str]) -> str | None:
    """The learnware that answers a task, or those that share it with their weights."""
    if task.mixture:
        return " + ".join(f"{part.weight:.0%} {names[part.learnware]}" for part in task.mixture)
    return names.get(task.learnware or "")


def _row(
    user: User,
    ranking: Ranking,
    decision: tuple[Task, str | None],
    timed: Timed,
    all_scores: dict[tuple[str, str], float],
) -> Row:
    scores = {model: score for (name, model), score in all_scores.items() if name == user.name}
    base = scores.pop(DEMO_BASE)
    best = max(sorted(scores), key=lambda name: scores[name])
    return Row(
        task=user.name,
        chosen=decision[1],
        nearest=ranking.ranked[0].learnware.name,
        fit=round(decision[0].fit, 3),
        base=round(base, 3),
        score=round(timed.score, 3),
        best=round(scores[best], 3),
        best_learnware=best,
        tokens=timed.tokens,
        seconds=round(timed.seconds, 2),
    )


def _print(rows: Sequence[Row], seconds: float) -> None:
    averages = {name: sum(getattr(row, name) for row in rows) / len(rows) for name in ("base", "score", "best")}
    together = sum(row.tokens for row in rows) / max(row.seconds for row in rows)
    console = output.console()
    console.print(_table(rows, averages, together, wide=console.width >= WIDE))
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    print(f"{machine}; {PROMPTS} prompts a task, all tasks at once; {seconds:.0f} s with vLLM's start")
    if sys.stdout.isatty():
        print("to use it: make serve, or slmdock demo --serve")
        return
    output.print_json(
        {
            "seconds": round(seconds, 1),
            "averages": {name: round(value, 3) for name, value in averages.items()},
            "tokens_per_second": round(together, 1),
            "rows": [asdict(row) for row in rows],
        }
    )


def _table(rows: Sequence[Row], averages: Mapping[str, float], together: float, wide: bool) -> Table:
    """A task a line; who is best of all and the tokens a second only where it is wide enough."""
    names = (Column(name, overflow="fold") for name in ("user's task", "chosen learnware"))
    table = Table(*names, "fit", "base", "chosen", box=None, padding=(0, 2 if wide else 1, 0, 0), pad_edge=False)
    for column in ("best of all", "tokens/s") if wide else ("best",):
        table.add_column(column, no_wrap=True)
    for row in rows:
        chosen = (row.chosen or "none fits → base model").replace(" + ", "\n")
        cells = [row.task, chosen, f"{row.fit:.2f}", f"{row.base:.0%}", f"{row.score:.0%}"]
        best = [f"{row.best:.0%} {row.best_learnware}", f"{row.tokens_per_second:.0f}"]
        table.add_row(*map(Text, cells + (best if wide else [f"{row.best:.0%}"])))
    shown = [f"{averages[name]:.0%}" for name in ("base", "score", "best")]
    name, *last = ("average; together", f"{together:.0f}") if wide else ("average",)
    table.add_row(name, "", "", *shown, *last, style="bold")
    return table
