"""What a learnware is good at, found out by letting it write, where its provider can share no examples.

Round by round the learnware and its base model go on from openings, and the learnware answers what was written.
A text is likely one of its task where the learnware is sure of its answer and departs from its base model, but not
by so much that the base model would never have said it: on texts of other tasks an adapter forces its own answers,
and departs most of all (docs/log.md). The best texts' beginnings open the next round. That finds the task of
adapters whose training counted answers alone, and of those that learnt to write whole texts.
"""

import re
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain, cycle, islice
from random import Random
from statistics import median
from typing import Any

from serving.asking import Asker, Result, all_of, text_of
from serving.engine import Engine
from serving.frame import Frame
from specification import Progress, no_progress
from specification.errors import InvalidInput

BANK_FILE = "prompt_bank.txt"
MIN_CHARACTERS = 9
MIN_TEXTS = 8
FRESH = 8
"""One opening in so many is a fresh one, after the first round."""
OPENING_WORDS = 4
SEEDS = 2
"""One in so many of the texts to be kept opens new ones."""
ENOUGH = 1.0
"""Nats of departure beyond which more of it tells nothing."""
POSSIBLE = 0.1
"""The weight of how likely the base model is to give the same answer."""
TEMPERATURE = 0.8


@dataclass(frozen=True)
class Sampling:
    """``samples`` texts a round are written, of up to ``text_tokens`` tokens, and the best ``keep`` of all kept.

    Answers are judged by their first line, up to ``answer_tokens`` tokens. No round begins once ``budget`` tokens
    were read or written.
    """

    keep: int = 64
    rounds: int = 4
    samples: int = 128
    text_tokens: int = 64
    answer_tokens: int = 8
    budget: int = 2_000_000
    seed: int = 0


@dataclass(frozen=True)
class Derived:
    """The texts that were kept, the likeliest first, of how many, and what it cost.

    ``departure`` is the median over them of log p(answer) by the learnware less that by its base model, in nats.
    """

    texts: tuple[str, ...]
    departure: float
    written: int
    rounds: int
    tokens: int


@dataclass(frozen=True)
class _Judged:
    text: str
    sure: float
    base: float

    @property
    def departure(self) -> float:
        return self.sure - self.base

    @property
    def score(self) -> float:
        return self.sure + min(self.departure, ENOUGH) + POSSIBLE * self.base


class Derivation:
    """Samples texts of one adapter's task from an engine that serves it and its base model.

    The same seed gives the same texts where the engine computes alike. To cancel ``run`` ends every request.
    """

    def __init__(self, engine: Engine, adapter: str, frame: Frame, sampling: Sampling) -> None:
        """``adapter`` is its engine name."""
        self._asker = _Metered(engine)
        self._adapter = adapter
        self._frame = frame
        self._sampling = sampling
        self._random = Random(sampling.seed)
        self._judged: dict[str, _Judged] = {}
        self._written = 0

    async def run(
        self, prompts: Sequence[str] = (), openings: Sequence[str] = (), progress: Progress = no_progress
    ) -> Derived:
        """Returns texts like those of the task.

        ``prompts`` of it that are known are judged like written texts. Their beginnings, those of ``openings``,
        which may be about anything, and nothing at all open the first texts.

        Raises:
            InvalidInput: the engine refuses all requests, or fewer than MIN_TEXTS texts could be judged.
            EngineError: the engine fails, or cannot load the adapter.
        """
        sampling, rounds = self._sampling, 0
        sources = [[""], *(self._random.sample(each, len(each)) for each in (prompts, openings) if each)]
        fresh = chain.from_iterable(zip(*map(cycle, sources), strict=True))
        await self._judge(list(prompts))
        while rounds < sampling.rounds and self._asker.tokens < sampling.budget:
            await self._judge(await self._write(self._openings(fresh)))
            rounds += 1
            progress(rounds, sampling.rounds)
        best = self._best(sampling.keep)
        if len(best) < MIN_TEXTS:
            raise InvalidInput(
                f"only {len(best)} texts could be derived, at least {MIN_TEXTS} are needed; let it write more, or "
                "give examples or a ready specification"
            )
        texts = tuple(each.text for each in best)
        departure = median(each.departure for each in best)
        return Derived(texts, departure, self._written, rounds, self._asker.tokens)

    def _best(self, count: int) -> list[_Judged]:
        return sorted(self._judged.values(), key=lambda each: (-each.score, each.text))[:count]

    def _openings(self, fresh: Iterator[str]) -> list[str]:
        """The beginnings of this round's texts: of the best so far, and some that owe nothing to them."""
        count = self._sampling.samples
        seeds = [each.text for each in self._best(max(1, self._sampling.keep // SEEDS))]
        new = list(islice(fresh, -(-count // FRESH) if seeds else count))
        old = self._random.choices(seeds, k=count - len(new)) if seeds else []
        openings = [self._beginning(text) for text in [*new, *old]]
        self._random.shuffle(openings)
        return openings

    def _beginning(self, text: str) -> str:
        return " ".join(text.split(" ")[: self._random.randint(1, OPENING_WORDS)])

    async def _write(self, openings: Sequence[str]) -> list[str]:
        """Lets learnware and base model take turns."""
        writers = cycle([self._adapter, self._asker.engine.base_model])
        seeds = range(self._written, self._written + len(openings))
        work = [self._text(*each) for each in zip(writers, openings, seeds, strict=False)]
        self._written += len(openings)
        return await _accepted(work)

    async def _text(self, writer: str, opening: str, seed: int) -> str:
        frame = self._frame
        answer = await self._asker.ask(
            writer, frame.before + opening, self._sampling.text_tokens, temperature=TEMPERATURE,
            seed=self._sampling.seed + seed, **({"stop": [frame.after]} if frame.after.strip() else {}),
        )  # fmt: skip
        return (opening + text_of(answer)).strip()

    async def _judge(self, texts: Sequence[str]) -> None:
        """Judges texts that are new and no mere beginnings. Those that differ in digits or case alone are one."""
        fresh = {_key(text): text for text in texts if len(text) >= MIN_CHARACTERS}
        new = [text for key, text in fresh.items() if key not in self._judged]
        judged = await _accepted([self._judgement(text) for text in new])
        self._judged |= {_key(each.text): each for each in judged if each is not None}

    async def _judgement(self, text: str) -> _Judged | None:
        prompt = f"{self._frame.before}{text}{self._frame.after}"
        (found,) = await self._asker.answers(self._adapter, [prompt], self._sampling.answer_tokens)
        answer = text_of(found).strip().partition("\n")[0].strip()
        if not answer:
            return None
        (whole,) = await self._asker.continuations([(prompt, answer)])
        if whole.length < 1:
            return None
        (sure,), _ = await self._asker.likelihoods(self._adapter, [whole])
        (base,), _ = await self._asker.likelihoods(self._asker.engine.base_model, [whole])
        return _Judged(text, sure, base)


class _Metered(Asker):
    """Counts the tokens that are read and written."""

    tokens = 0

    async def ask(
        self, model: str, prompt: str | list[int] | list[list[int]], max_tokens: int, **fields: object
    ) -> dict[str, Any]:
        answer = await super().ask(model, prompt, max_tokens, **fields)
        self.tokens += int(answer["usage"]["total_tokens"])
        return answer


def prompt_bank() -> list[str]:
    """Returns openings of many domains and layouts, the same for every learnware."""
    text = files("serving").joinpath(BANK_FILE).read_text("utf-8")
    return [line.replace("\\n", "\n") for line in text.splitlines()]


def _key(text: str) -> str:
    return re.sub(r"\d", "0", text.casefold())


async def _accepted(work: Sequence[Awaitable[Result]]) -> list[Result]:
    """Returns the results of what the engine accepts, such as prompts of some length.

    Raises:
        InvalidInput: it refuses everything.
    """
    refusals: list[InvalidInput] = []

    async def one(each: Awaitable[Result]) -> list[Result]:
        try:
            return [await each]
        except InvalidInput as error:
            refusals.append(error)
            return []

    found = [result for results in await all_of([one(each) for each in work]) for result in results]
    if refusals and not found:
        raise refusals[0]
    return found
