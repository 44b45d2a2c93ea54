"""Whether a learnware does what it should: an engine runs it beside its base model on held-out examples.

It must load, change what its base says, keep its numbers finite, come to an end, make the gold answers likelier
than its base does, and read the prompts. The last is what an adapter trained on shuffled answers cannot: it knows
which answers there are, and so gains on its base. For two examples i and j with other answers the *interaction*

    s = log p(aᵢ|xᵢ) + log p(aⱼ|xⱼ) - log p(aⱼ|xᵢ) - log p(aᵢ|xⱼ)

is 0 on average for whatever answers without reading, however likely it holds each answer in itself.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from catalogue import Learnware, Signal
from serving.asking import Asker, Continuation
from serving.engine import Engine, LearnwareUnavailable
from serving.frame import Frame
from specification import Example, Progress, no_progress
from specification.errors import InvalidInput

MIN_EXAMPLES = 16
MAX_EXAMPLES = 64
PARTNERS = 2
"""How many other examples each one is compared with."""
MARGIN = 0.05
"""The least gain over the base model, in nats a token of the gold answers."""
READING = 0.1
"""The least interaction of prompts and answers, in nats; a coin that falls right in 58 of 100 has as much."""
INERT = 1e-3
"""Log-probabilities of answers that differ by less, in nats, are the same."""
STEPS = 6
RESAMPLES = 2000
ENDING_PROMPTS = 16
LONG, SHORTEST_LIMIT, LONGEST_LIMIT = 4, 64, 512
"""An answer is endless at four times the longest gold one, within these bounds in tokens."""
OWN_EXAMPLES = "own examples"
GAIN_METRIC = "gain, nats a token"
SOURCE = "verified by running"

Doubles = NDArray[np.float64]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Interval(BaseModel):
    """A mean over examples, and the bounds between which it lies with 95 % (bootstrap over the examples)."""

    model_config = ConfigDict(frozen=True)

    mean: Finite
    low: Finite
    high: Finite

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"

    @classmethod
    def of(cls, values: Doubles) -> "Interval":
        """Returns the interval of a mean of ``values`` [examples]; the same values give the same bounds."""
        draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
        low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
        return cls(mean=round(float(values.mean()), 6), low=round(float(low), 6), high=round(float(high), 6))


class Verdict(BaseModel):
    """What an examination found; without ``complaints`` it is passed.

    ``broken`` says that it is of no use to anybody, whatever the examples. ``gain`` is over the base model in nats
    a token of the gold answers, ``reading`` the interaction of prompts and answers in nats, ``reading_gain`` what
    it has more of that than its base model; all None if broken. ``endless`` of ``asked`` answers did not end.
    """

    model_config = ConfigDict(frozen=True)

    complaints: tuple[str, ...] = ()
    broken: bool = False
    examples: int
    gain: Interval | None = None
    reading: Interval | None = None
    reading_gain: Interval | None = None
    endless: int = 0
    asked: int = 0
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.complaints

    def __str__(self) -> str:
        if self.complaints:
            return "; ".join(self.complaints)
        return f"gains {self.gain} nats a token over its base model on {self.examples} examples"

    def signal(self) -> Signal | None:
        """Returns the measured gain as a quality signal, None if none was measured."""
        if self.gain is None:
            return None
        return Signal(
            kind="gain", task=OWN_EXAMPLES, metric=GAIN_METRIC, value=self.gain.mean, examples=self.examples,
            source=f"{SOURCE}: {self.gain}",
        )  # fmt: skip


def choose(examples: Sequence[Example]) -> list[Example]:
    """Returns at most MAX_EXAMPLES of them, drawn by a fixed seed.

    Raises:
        InvalidInput: fewer than MIN_EXAMPLES, one without an answer, or all answers are the same.
    """
    bare = sum(not example.answer.strip() for example in examples)
    if bare:
        raise InvalidInput(f"{bare} of {len(examples)} examples have no 'answer'; to verify, each needs one")
    if len(examples) < MIN_EXAMPLES:
        raise InvalidInput(f"{len(examples)} examples; to verify takes {MIN_EXAMPLES} that it was not trained on")
    if len({example.answer.strip() for example in examples}) < 2:
        raise InvalidInput(
            "all examples have the same answer, so nobody can tell whether prompts are read; add others"
        )
    order = np.random.default_rng(0).permutation(len(examples))[:MAX_EXAMPLES]
    return [examples[int(place)] for place in order]


def rendered(base: Path, examples: Sequence[Example], chat: bool | None = None) -> list[Example]:
    """Returns examples with their prompts as the base model's chat template writes them; ``base`` is its folder.

    ``chat`` None does so if there is a template, False leaves them as they are.

    Raises:
        InvalidInput: a template is asked for and there is none, or it cannot be used.
    """
    frame = Frame() if chat is False else Frame.of(base)
    if chat and frame == Frame():
        raise InvalidInput("the base model has no chat template; ask without one (--plain)")
    return [replace(each, text=frame.around(each.text)) for each in examples]


async def examine(
    engine: Engine, learnware: Learnware, examples: Sequence[Example], progress: Progress = no_progress
) -> Verdict:
    """Runs a learnware beside its base model; ``examples`` are as ``choose`` gave them, rendered as it takes them.

    Raises:
        InvalidInput: the engine refuses a prompt, for instance as too long.
        EngineError: the engine fails or died, which may be the learnware's doing.
    """
    return await _Examination(engine, learnware, examples, progress).run()


class _Examination:
    def __init__(
        self, engine: Engine, learnware: Learnware, examples: Sequence[Example], progress: Progress
    ) -> None:
        self._ask = Asker(engine)
        self._base, self._name = engine.base_model, learnware.engine_name
        self._examples = examples
        self._progress = progress
        self._partners = _partners([example.answer.strip() for example in examples])

    async def run(self) -> Verdict:
        own = await self._ask.continuations([(each.text, each.answer) for each in self._examples])
        lengths = np.array([each.length for each in own], dtype=np.float64)
        self._progress(1, STEPS)
        base, again = await self._likelihoods(self._base, own), await self._likelihoods(self._base, own[::-1])
        self._progress(2, STEPS)
        try:
            learnt = await self._likelihoods(self._name, own)
        except LearnwareUnavailable as error:
            return self._broken(f"it does not load in the engine: {error}")
        except InvalidInput as error:
            # The base model answered the very same; what cannot be written as JSON is no number.
            return self._broken(f"its output is NaN or infinite ({error})")
        if not np.isfinite(learnt).all():
            return self._broken("its output is NaN or infinite")
        noise = np.abs(base - again[::-1]).max()
        if np.abs(learnt - base).max() <= max(2 * noise, INERT):
            return self._broken("it changes nothing: its output is its base model's")
        self._progress(3, STEPS)
        return await self._judged(own, learnt, base, (learnt - base) / lengths)

    async def _judged(self, own: list[Continuation], learnt: Doubles, base: Doubles, gains: Doubles) -> Verdict:
        pairs = self._partners
        crossed = [(self._examples[one].text, self._examples[other].answer) for one, other in pairs]
        crossed += [(self._examples[other].text, self._examples[one].answer) for one, other in pairs]
        others = await self._ask.continuations(crossed)
        reading = _interaction(learnt, await self._likelihoods(self._name, others), pairs)
        self._progress(4, STEPS)
        base_reading = _interaction(base, await self._likelihoods(self._base, others), pairs)
        self._progress(5, STEPS)
        endless, asked = await self._endless(max(each.length for each in own))
        self._progress(STEPS, STEPS)
        if not (np.isfinite(reading).all() and np.isfinite(base_reading).all()):
            return self._broken("its output is NaN or infinite")
        gain, read, more = (Interval.of(each) for each in (gains, reading, reading - base_reading))
        complaints = [*_weak(gain, read, more), *([_unending(endless, asked)] if 2 * endless > asked else [])]
        return Verdict(
            complaints=tuple(complaints), examples=len(own), gain=gain, reading=read, reading_gain=more,
            endless=endless, asked=asked,
        )  # fmt: skip

    async def _likelihoods(self, model: str, continuations: Sequence[Continuation]) -> Doubles:
        found, _ = await self._ask.likelihoods(model, continuations)
        return np.array(found, dtype=np.float64)

    async def _endless(self, longest: int) -> tuple[int, int]:
        """Returns how many answers did not end, and of how many."""
        prompts = [example.text for example in self._examples[:ENDING_PROMPTS]]
        limit = min(max(LONG * longest, SHORTEST_LIMIT), LONGEST_LIMIT)
        answers = await self._ask.answers(self._name, prompts, limit)
        return sum(answer["choices"][0]["finish_reason"] == "length" for answer in answers), len(prompts)

    def _broken(self, words: str) -> Verdict:
        return Verdict(complaints=(words,), broken=True, examples=len(self._examples))


def _weak(gain: Interval, reading: Interval, more: Interval) -> list[str]:
    """What is to be said against a learnware with these intervals."""
    said = []
    if gain.low <= MARGIN:
        said.append(f"it does not beat its base model by {MARGIN} nats a token: {gain}")
    if reading.low <= READING:
        said.append(f"its answers do not follow from the prompts: interaction {reading} nats")
    elif more.high < 0:
        said.append(f"it tells prompts apart worse than its base model: interaction {more} nats")
    return said


def _unending(endless: int, asked: int) -> str:
    return f"{endless} of {asked} answers do not end"


def _partners(answers: Sequence[str]) -> list[tuple[int, int]]:
    """Returns for each example PARTNERS others that have other answers, the same ones each time."""
    draw = np.random.default_rng(1)
    pairs = []
    for one, answer in enumerate(answers):
        others = [other for other, its in enumerate(answers) if its != answer]
        pairs += [(one, int(other)) for other in draw.choice(others, PARTNERS, replace=len(others) < PARTNERS)]
    return pairs


def _interaction(own: Doubles, crossed: Doubles, pairs: Sequence[tuple[int, int]]) -> Doubles:
    """Returns the mean interaction of each example with its partners, in nats, float64 [examples]."""
    one, other = np.array(pairs).T
    swapped = crossed[: len(pairs)] + crossed[len(pairs) :]
    return np.asarray((own[one] + own[other] - swapped).reshape(-1, PARTNERS).mean(axis=1), dtype=np.float64)
