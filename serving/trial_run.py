"""A trial from the user's side: prompts go to the dock, answers come back, labels stay here.

Round by round the candidates left answer more of the examples; this side scores them and updates the posterior.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from catalogue import EVERYTHING, Filter, Signal
from retriever import HalvingRule, Score, Trial, TrialPrior, choices_of, choose_score, score
from serving.client import DockClient
from serving.tasks import Task
from serving.trial_wire import (
    MAX_ANSWER_TOKENS,
    MAX_CHOICES,
    MAX_MODELS,
    MAX_PROMPT_CHARACTERS,
    MAX_REQUESTS,
    Candidate,
    Questions,
    TrialOutcome,
)
from specification import Example, Progress, Specification, no_progress
from specification.errors import InvalidInput

CHUNK = 16
MIN_ANSWER_TOKENS = 16
REASONING_TOKENS = 256
BYTES_A_TOKEN = 2
SHUFFLE_SEED = 0
DEFAULT_RULE = HalvingRule()


@dataclass(frozen=True)
class TrialOptions:
    """``top`` learnwares take part; at most ``examples`` labelled examples are used, drawn evenly by a fixed seed.

    ``score`` None takes what fits the gold answers, see ``choose_score``; ``max_tokens`` None what their length
    asks for. ``chat`` sends the prompts through the base model's chat template.
    """

    top: int = 10
    examples: int = 128
    score: Score | None = None
    max_tokens: int | None = None
    chat: bool = False
    where: Filter = EVERYTHING
    rule: HalvingRule = DEFAULT_RULE


@dataclass(frozen=True)
class Standing:
    """How a candidate stands: expected score, its interval of 95 %, and the probability that it is the best."""

    candidate: Candidate
    mean: float
    low: float
    high: float
    probability: float
    examples: int
    tokens: int
    error: str = ""


@dataclass(frozen=True)
class TrialReport:
    """What a trial found, best first, and what it cost. ``gain`` is P(winner better than the base model)."""

    task: str
    score: Score
    standings: tuple[Standing, ...]
    gain: float
    stopped: str
    examples: int
    answers: int
    without_stopping: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float

    @property
    def winner(self) -> Standing:
        return self.standings[0]

    def outcome(self) -> TrialOutcome:
        """Returns what the dock keeps with the task."""
        best = self.winner
        return TrialOutcome(
            winner=best.candidate.learnware, fit=best.candidate.fit, score=min(max(best.mean, 0.0), 1.0),
            low=best.low, high=best.high, probability=best.probability, examples=self.examples,
        )  # fmt: skip

    def signals(self, specification: str) -> dict[str, list[Signal]]:
        """Returns what the trial tells of each learnware, by id: its mean score, and the base model's beside it.

        ``specification`` is the digest of the task's specification.
        """
        base = next(each for each in self.standings if not each.candidate.learnware)
        return {
            each.candidate.learnware: [self._signal(each, specification), self._signal(base, specification)]
            for each in self.standings
            if each.candidate.learnware and each.examples and not each.error
        }

    def _signal(self, standing: Standing, specification: str) -> Signal:
        return Signal(
            kind="trial", task=self.task, metric=self.score, value=standing.mean, examples=standing.examples,
            subject="learnware" if standing.candidate.learnware else "base", specification=specification,
            source="a trial with the task's own examples",
        )  # fmt: skip


@dataclass
class _Cost:
    tokens: list[int]
    errors: dict[int, str] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


class TrialRun:
    """One trial against a gateway. After an interruption ``report`` tells what was known up to there."""

    def __init__(
        self, client: DockClient, task: Specification, examples: Sequence[Example], options: TrialOptions
    ) -> None:
        """Registers the task and asks who takes part.

        Raises:
            InvalidInput: an example has no answer, or answers and options do not go together.
            NotFound: there is no learnware to try.
        """
        _check(examples, options)
        order = np.random.default_rng(SHUFFLE_SEED).permutation(len(examples))[: options.examples]
        self.examples = [examples[int(place)] for place in order]
        self.options = options
        answers = [example.answer for example in examples]
        self.kind = options.score or _fitting(answers, options.chat)
        self.choices = _choices(answers, options.chat) if self.kind == "choice" else None
        self.max_tokens = options.max_tokens or _tokens_for(answers, self.kind)
        self._one_line = self.kind != "numeric" and not any("\n" in answer.strip() for answer in answers)
        self.client = client
        self.task: Task = client.register_task(task)
        found = client.trial_candidates(task, options.top, options.where)
        self.candidates = found.candidates
        fit = np.array([one.fit for one in found.candidates])
        rows = np.array(found.capability, dtype=np.float64) if found.capability else None
        prior = TrialPrior(fit, np.array(found.similarity), rows)
        self.trial = Trial(prior, len(self.examples), options.rule)
        self._cost = _Cost([0] * len(self.candidates))

    def run(self, progress: Progress = no_progress) -> TrialReport:
        """Runs rounds until the trial is over; ``progress`` counts answered examples."""
        while (asked := self.trial.next()) is not None:
            rows = []
            chunk = max(1, min(CHUNK, MAX_REQUESTS // (len(asked.candidates) * len(self.choices or "1"))))
            for start in range(asked.start, asked.stop, chunk):
                rows.append(self._ask(start, min(start + chunk, asked.stop), asked.candidates))
                progress(min(start + chunk, asked.stop), len(self.examples))
            self.trial.add(np.concatenate(rows))
        return self.report()

    def report(self) -> TrialReport:
        """Returns what is known now.

        Raises:
            InvalidInput: no round is complete yet.
        """
        if not self.trial.asked:
            raise InvalidInput(
                "the trial was broken off before its first round was complete; nothing is known yet"
            )
        trial, belief, cost = self.trial, self.trial.belief, self._cost
        answered = np.isfinite(trial.scores).sum(axis=0)
        order = sorted(range(len(self.candidates)), key=lambda one: (one in trial.failed, -belief.mean[one]))
        standings = tuple(
            Standing(
                self.candidates[one], float(belief.mean[one]), *belief.interval(one),
                float(belief.best[one]), int(answered[one]), cost.tokens[one], cost.errors.get(one, ""),
            )
            for one in order
        )  # fmt: skip
        return TrialReport(
            task=self.task.id, score=self.kind, standings=standings,
            gain=belief.better(trial.winner, len(self.candidates) - 1), stopped=trial.stopped or "interrupted",
            examples=trial.asked, answers=trial.spent, without_stopping=len(self.examples) * len(self.candidates),
            prompt_tokens=cost.prompt_tokens, completion_tokens=cost.completion_tokens, seconds=cost.seconds,
        )  # fmt: skip

    def _ask(self, start: int, stop: int, candidates: Sequence[int]) -> NDArray[np.float64]:
        """Returns the scores [examples, candidates] of some examples, NaN for a candidate that cannot run."""
        examples = self.examples[start:stop]
        asked = [one for one in candidates if one not in self._cost.errors]
        scores = np.full((len(examples), len(candidates)), np.nan)
        if not asked:
            return scores
        questions = Questions(
            models=[self.candidates[one].model for one in asked], prompts=[example.text for example in examples],
            choices=self.choices, chat=self.options.chat, max_tokens=self.max_tokens,
        )  # fmt: skip
        found = self.client.trial_answers(self.task.id, questions)
        self._cost.seconds += found.seconds
        for one, answers in zip(asked, found.answers, strict=True):
            self._cost.tokens[one] += answers.prompt_tokens + answers.completion_tokens
            self._cost.prompt_tokens += answers.prompt_tokens
            self._cost.completion_tokens += answers.completion_tokens
            if answers.error:
                self._cost.errors[one] = answers.error
                continue
            texts = answers.texts
            if self.choices:
                texts = [self.choices[int(np.argmax(row))] for row in answers.likelihoods]
            pairs = zip(texts, examples, strict=True)
            scores[:, list(candidates).index(one)] = [
                score(self.kind, self._cut(text), example.answer) for text, example in pairs
            ]
        return scores

    def _cut(self, text: str) -> str:
        """Returns the answer's first line where no gold answer has a second one; numbers may be reasoned about."""
        return text.strip().partition("\n")[0] if self._one_line else text


def _check(examples: Sequence[Example], options: TrialOptions) -> None:
    bare = sum(not example.answer.strip() for example in examples)
    if bare:
        raise InvalidInput(f"{bare} of {len(examples)} examples have no 'answer'; a trial needs one for each")
    longest = max(len(example.text) for example in examples)
    if longest > MAX_PROMPT_CHARACTERS:
        raise InvalidInput(f"an example of {longest} characters; a trial takes {MAX_PROMPT_CHARACTERS} at most")
    if not 1 <= options.top < MAX_MODELS:
        raise InvalidInput(f"{options.top} learnwares to try; 1 … {MAX_MODELS - 1} are allowed")
    if options.max_tokens is not None and not 1 <= options.max_tokens <= MAX_ANSWER_TOKENS:
        raise InvalidInput(f"answers of {options.max_tokens} tokens; 1 … {MAX_ANSWER_TOKENS} are allowed")


def _fitting(answers: Sequence[str], chat: bool) -> Score:
    found = choose_score(answers)
    return "exact" if chat and found == "choice" else found


def _choices(answers: Sequence[str], chat: bool) -> list[str]:
    choices = choices_of(answers)
    if chat:
        raise InvalidInput("the likelihood of choices cannot be asked for in a chat; leave out one of the two")
    if not 2 <= len(choices) <= MAX_CHOICES:
        raise InvalidInput(f"{len(choices)} different answers; as choices, 2 … {MAX_CHOICES} are allowed")
    return choices


def _tokens_for(answers: Sequence[str], kind: Score) -> int:
    """Room for the longest gold answer, and for reasoning where a number is asked for."""
    longest = max(len(answer.encode()) for answer in answers) // BYTES_A_TOKEN
    return min(max(REASONING_TOKENS if kind == "numeric" else MIN_ANSWER_TOKENS, longest), MAX_ANSWER_TOKENS)
