"""A trial in rounds: the candidates left answer a few more examples, then the hopeless ones go.

Successive halving (Karnin et al., "Almost Optimal Exploration in Multi-Armed Bandits", ICML 2013) in rounds that
double the examples; but who goes is told by the posterior and not by rank, so nobody goes without evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2
from typing import Literal

import numpy as np

from retriever.trial import Doubles, Posterior, TrialPrior, posterior
from specification.errors import InvalidInput

Stopped = Literal["examples", "clear", "alone", "interrupted"]


@dataclass(frozen=True)
class HalvingRule:
    """``risk`` is the probability, under the model, that the best candidate is dropped on the way; the trial ends
    early when the best is expected to be at most ``tolerance`` better than the winner. The first round takes
    ``first`` examples. Zero risk and zero tolerance ask everyone everything.
    """

    risk: float = 0.05
    tolerance: float = 0.005
    first: int = 8


@dataclass(frozen=True)
class Round:
    """The next questions: examples ``start`` … ``stop``-1 for these candidates."""

    start: int
    stop: int
    candidates: tuple[int, ...]


class Trial:
    """One trial under way. Scores come in round by round; knows nothing of texts and models."""

    def __init__(self, prior: TrialPrior, examples: int, rule: HalvingRule = HalvingRule()) -> None:
        """Raises InvalidInput if there is no example."""
        if examples < 1:
            raise InvalidInput("a trial needs at least one labelled example")
        self.prior = prior
        self.rule = rule
        self.scores: Doubles = np.full((examples, len(prior)), np.nan)
        self.alive = list(range(len(prior)))
        self.failed: set[int] = set()
        self.asked = 0
        self.stopped: Stopped | None = None
        self.belief: Posterior = posterior(prior, self.scores[:0])
        self._drops = max(1, ceil(log2(examples / rule.first)) + 1) if examples > rule.first else 1

    @property
    def winner(self) -> int:
        """The candidate with the highest expected score among those that did not fail."""
        mean = self.belief.mean.copy()
        mean[list(self.failed)] = -np.inf
        return int(mean.argmax())

    @property
    def spent(self) -> int:
        """Answers that were scored."""
        return int(np.isfinite(self.scores).sum())

    def next(self) -> Round | None:
        """Returns the next round, None when the trial is over."""
        if self.stopped:
            return None
        stop = min(max(self.rule.first, 2 * self.asked), len(self.scores))
        return Round(self.asked, stop, tuple(self.alive))

    def add(self, scores: Doubles) -> None:
        """Takes the scores [examples, candidates] of the round that ``next`` gave, NaN where a candidate failed.

        Raises:
            InvalidInput: scores of another shape or outside 0 … 1, or every candidate failed.
        """
        asked = self.next()
        if asked is None or scores.shape != (asked.stop - asked.start, len(asked.candidates)):
            raise InvalidInput(f"scores of shape {scores.shape} are not those of {asked}")
        self.scores[asked.start : asked.stop, self.alive] = scores
        self.failed |= {self.alive[place] for place in np.flatnonzero(np.isnan(scores).any(axis=0))}
        self.scores[:, list(self.failed)] = np.nan
        if len(self.failed) == len(self.prior):
            raise InvalidInput("no candidate could answer; see 'failed' for the reasons")
        self.alive = [one for one in self.alive if one not in self.failed]
        self.asked = asked.stop
        self.belief = posterior(self.prior, self.scores[: self.asked])
        self._drop()
        self.stopped = self._reason()

    def _drop(self) -> None:
        """Drops the least likely to be best while their probabilities together stay within the round's risk."""
        winner = self.winner
        self.alive = self.alive if winner in self.alive else [*self.alive, winner]
        best = self.belief.best
        left = self.rule.risk / self._drops
        for one in sorted(self.alive, key=lambda candidate: float(best[candidate])):
            left -= float(best[one])
            if left < 0 or self.rule.risk == 0:
                return
            if one != winner:
                self.alive = [other for other in self.alive if other != one]

    def _reason(self) -> Stopped | None:
        if self.asked == len(self.scores):
            return "examples"
        if len(self.alive) == 1:
            return "alone"
        return "clear" if self.belief.loss(self.winner) < self.rule.tolerance else None


def simulate(trial: Trial, answers: Doubles) -> Sequence[int]:
    """Runs a trial on scores [n, c] that are known already; returns the winner after each round."""
    winners = []
    while (asked := trial.next()) is not None:
        trial.add(answers[asked.start : asked.stop][:, list(asked.candidates)])
        winners.append(trial.winner)
    return winners
