"""Asks models on a real vLLM, many adapters in one batch, and keeps who was right, model by model."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.zoo.scale import ANSWER_TOKENS
from benchmarks.zoo.tasks import Task, is_right
from benchmarks.zoo.texts import Tokens
from serving import Engine
from serving.asking import Asker, all_of
from specification import Example, Progress
from specification.files import write_atomically

TOGETHER = 8
"""Models whose requests share the engine's batches."""

Questions = Sequence[tuple[Task, Sequence[Example]]]
Options = list[tuple[int, ...]]


@dataclass
class Answers:
    """Who was right: 1 or 0 for each example of each task, by the task's key; and what it cost.

    ``nats`` are, for short answers, -log p of the gold answer's tokens, their mean for each example. ``seconds``
    are those of the model alone; where several share the engine, they overlap.
    """

    rights: dict[str, list[int]] = field(default_factory=dict)
    nats: dict[str, list[float]] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def save(self, file: Path) -> None:
        """Writes it whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(vars(self)).encode())

    @classmethod
    def load(cls, file: Path) -> "Answers":
        return cls(**json.loads(file.read_bytes()))


class Examiner:
    """Asks one engine. Prompts are sent as tokens, cut as in training."""

    def __init__(self, engine: Engine, tokens: Tokens) -> None:
        self._asker = Asker(engine)
        self._tokens = tokens
        self._prompts: dict[str, list[list[int]]] = {}

    async def answers(self, model: str, questions: Questions) -> Answers:
        """Asks one model everything.

        Raises:
            EngineError, InvalidInput, LearnwareUnavailable: as ``Asker``.
        """
        started = time.monotonic()
        found = Answers()
        for task, examples in questions:
            prompts = self._cut(task, examples)
            if task.labels:
                said = await self._chosen(model, prompts, task.labels, found)
                found.rights[task.key] = [int(a == b.answer) for a, b in zip(said, examples, strict=True)]
            else:
                texts = await self._generated(model, prompts, found)
                found.rights[task.key] = [int(is_right(a, b.answer)) for a, b in zip(texts, examples, strict=True)]
                found.nats[task.key] = await self._surprise(
                    model, prompts, [each.answer for each in examples], found
                )
        found.seconds = round(time.monotonic() - started, 2)
        return found

    def _cut(self, task: Task, examples: Sequence[Example]) -> list[list[int]]:
        key = f"{task.key} {len(examples)} {examples[0].text}"
        if key not in self._prompts:
            self._prompts[key] = self._tokens.prompts([each.text for each in examples])
        return self._prompts[key]

    async def _chosen(
        self, model: str, prompts: list[list[int]], labels: Sequence[str], cost: Answers
    ) -> list[str]:
        """Returns each prompt's label, chosen token by token; a token is asked for where labels go apart."""
        options: Options = [tuple(row) for row in self._tokens.answers(labels)]
        said = [along(options, ()) for _ in prompts]
        while open := sorted({one for one in said if one not in options}):
            for beginning in open:
                places = [place for place, one in enumerate(said) if one == beginning]
                allowed = sorted({one[len(beginning)] for one in options if one[: len(beginning)] == beginning})
                begun = [prompts[place] + list(beginning) for place in places]
                choices = await self._ask(model, begun, 1, cost, allowed_token_ids=allowed, return_token_ids=True)
                for place, choice in zip(places, choices, strict=True):
                    said[place] = along(options, (*beginning, choice["token_ids"][0]))
        return [labels[options.index(one)] for one in said]

    async def _generated(self, model: str, prompts: list[list[int]], cost: Answers) -> list[str]:
        choices = await self._ask(model, prompts, ANSWER_TOKENS, cost)
        return [str(choice["text"]) for choice in choices]

    async def _surprise(
        self, model: str, prompts: list[list[int]], gold: Sequence[str], cost: Answers
    ) -> list[float]:
        """Returns the mean -log p of each gold answer's tokens, in nats; what is too long is cut."""
        # vLLM wants room for the one token that has to be generated.
        answers = [row[: ANSWER_TOKENS - 1] for row in self._tokens.answers(gold)]
        whole = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        choices = await self._ask(model, whole, 1, cost, prompt_logprobs=0)
        return [
            -fmean(
                choice["prompt_logprobs"][len(prompt) + place][str(token)]["logprob"]
                for place, token in enumerate(answer)
            )
            for choice, prompt, answer in zip(choices, prompts, answers, strict=True)
        ]

    async def _ask(
        self, model: str, prompts: list[list[int]], max_tokens: int, cost: Answers, **fields: object
    ) -> list[dict[str, Any]]:
        found = await self._asker.ask(model, prompts, max_tokens, **fields)
        cost.prompt_tokens += found["usage"]["prompt_tokens"]
        cost.completion_tokens += found["usage"]["completion_tokens"]
        return sorted(found["choices"], key=lambda choice: int(choice["index"]))


def along(options: Options, beginning: tuple[int, ...]) -> tuple[int, ...]:
    """Goes on from a beginning while the options leave no choice."""
    while True:
        following = {one[len(beginning)] for one in options if one[: len(beginning)] == beginning != one}
        if len(following) != 1 or beginning in options:
            return beginning
        beginning = (*beginning, following.pop())


async def ask_all(
    examiner: Examiner, questions: Mapping[str, Questions], files: Mapping[str, Path], progress: Progress
) -> None:
    """Asks models, TOGETHER at a time, what ``questions`` holds by their names; keeps each model's answers.

    Those that have a file already are not asked again.
    """

    async def one(model: str) -> None:
        (await examiner.answers(model, questions[model])).save(files[model])

    missing = [model for model in questions if not files[model].is_file()]
    await in_turn(one, missing, len(questions), progress)


async def in_turn(
    work: Callable[[str], Awaitable[None]], names: Sequence[str], total: int, progress: Progress
) -> None:
    """Does the work for all names, TOGETHER at a time; the first failure ends the rest and is raised."""
    gate = asyncio.Semaphore(TOGETHER)
    done = total - len(names)
    progress(done, total)

    async def one(name: str) -> None:
        nonlocal done
        async with gate:
            await work(name)
            done += 1
            progress(done, total)

    await all_of([one(name) for name in names])
