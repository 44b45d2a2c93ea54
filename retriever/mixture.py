"""A task's mixture of learnwares in the catalogue, and which of them should answer a prompt."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan
from typing import Any

import numpy as np

from catalogue import Learnware, Row
from retriever.decision import Decision, Mixture, Pruned, Share, rounded
from retriever.separation import Separation, Sketch
from specification import ReducedSet, Specification, StoredSpecification, evaluate, self_term
from specification.comparison import Doubles, Stack
from specification.kernel import Floats

SHARPNESS = 10.0
"""A kernel this wide tells little of a density: its values are raised to this power (docs/log.md)."""

UNKNOWN_SCORE = 0.15
"""What a prompt that fits nothing still scores: prompts of other domains reach .135 (docs/log.md)."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A learnware that the search found, and its specification; what is not asked for is not read."""

    learnware: Learnware
    stored: StoredSpecification
    reduced: ReducedSet


class Candidates(Sequence[Candidate]):
    """What a search found, nearest first."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = candidates

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Candidates":
        """The newest version of each name among rows."""
        newest = {item.id for item in newest_versions([row.learnware for row in rows])}
        known = [(row.learnware, StoredSpecification(row.file)) for row in rows if row.learnware.id in newest]
        return cls([Candidate(learnware, stored, stored.reduced_set) for learnware, stored in known])

    def __len__(self) -> int:
        return len(self._candidates)

    def __getitem__(self, place: Any) -> Any:
        return self._candidates[place]

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._candidates)

    @cached_property
    def stack(self) -> Stack:
        """Their reduced sets."""
        return Stack([each.reduced for each in self])

    def first(self, count: int) -> "Candidates":
        """The first ``count`` of them."""
        return self if count >= len(self) else Candidates(self._candidates[:count])


def newest_versions(learnwares: Sequence[Learnware]) -> list[Learnware]:
    """Returns the learnwares without those of which there is a newer version among them, in their order."""
    newest: dict[str, int] = {}
    for item in learnwares:
        newest[item.name] = max(item.version, newest.get(item.name, 0))
    return [item for item in learnwares if item.version == newest[item.name]]


class Unmixing:
    """A task's mixture of candidates by the catalogue's kernel; more of them may be added to it.

    A private learnware, which is one point and tells no compression error, takes no part.
    """

    def __init__(self, task: Specification, gamma: float) -> None:
        self.task = task
        asked = Sketch(task.reduced_set, task.sample_size, task.section.compression_error or 0)
        self._separation = Separation(asked, gamma)
        self._known: list[Candidate] = []

    def add(self, candidates: Candidates) -> None:
        """Lets candidates take part that do not yet."""
        open_ = [each for each in candidates if each.stored.compression_error is not None]
        known = candidates if len(open_) == len(candidates) else Candidates(open_)
        self._separation.add(
            [
                Sketch(each.reduced, each.learnware.sample_size, each.stored.compression_error or 0)
                for each in known
            ],
            known.stack,
        )
        self._known += known

    def mixture(self) -> Mixture:
        """Returns the task as a mixture of what was added."""
        solution = self._separation.solve()
        return Mixture(
            shares=tuple(
                Share(self._known[part.place].learnware, rounded(part.weight), rounded(part.error))
                for part in solution.parts
            ),
            unknown=rounded(solution.unknown),
            residual=rounded(solution.residual),
            noise=rounded(solution.noise),
            pruned=tuple(
                Pruned(self._known[part.place].learnware, rounded(part.weight), part.reason)
                for part in solution.pruned
            ),
        )

    def remainder(self, mixture: Mixture) -> ReducedSet:
        """Returns what the mixture leaves of the task, scaled to a distribution; its weights may be negative.

        ``mixture.unknown`` must be positive.
        """
        sets = {each.learnware.id: each.reduced for each in self._known}
        parts = [
            (1.0, self.task.reduced_set),
            *((-share.weight, sets[share.learnware.id]) for share in mixture.shares),
        ]
        weights = np.concatenate([np.float32(part) * reduced.weights for part, reduced in parts])
        points = np.concatenate([reduced.points for _, reduced in parts])
        return ReducedSet(points, weights / np.float32(mixture.unknown))


def assign(scores: Doubles, members: Sequence[tuple[Learnware, float]], unknown: float) -> Decision:
    """Returns which member answers a prompt with these ``prompt_scores`` [c]; its fit is its posterior.

    ``members`` are learnwares with positive weights. What fits nothing takes part as a member of weight
    ``unknown`` whose score is always UNKNOWN_SCORE; where it wins, none fits.
    """
    weights = [weight for _, weight in members]
    if unknown > 0:
        scores, weights = np.append(scores, UNKNOWN_SCORE), [*weights, unknown]
    chances = posterior(scores[None], weights)[0]
    best = int(chances.argmax())
    chance = rounded(chances[best])
    if best == len(members):
        return Decision(None, chance, nan, 0.0, f"none fits: no part of the task's mixture, {chance:.3f} sure")
    learnware, weight = members[best]
    reason = f"{learnware.name}, {weight:.0%} of the task's mixture, answers this prompt, {chance:.3f} sure"
    return Decision(learnware, chance, nan, 0.0, reason)


def prompt_scores(points: Floats, members: Sequence[ReducedSet], gamma: float) -> Doubles:
    """Returns how well each of c learnwares fits each of n prompts, float64 [n, c]: the cosine μ_i(x)/‖μ_i‖."""
    lengths = np.sqrt([self_term(member, gamma) for member in members])
    scores: Doubles = evaluate(points, members, gamma) / lengths
    return scores


def posterior(scores: Doubles, weights: Sequence[float]) -> Doubles:
    """Returns P(i|x) ∝ w_i·score_i(x)^SHARPNESS for scores [n, c] and positive weights [c]: float64 [n, c]."""
    logs = SHARPNESS * np.log(np.maximum(scores, np.finfo(np.float64).tiny)) + np.log(weights)
    odds = np.exp(logs - logs.max(axis=1, keepdims=True))
    result: Doubles = odds / odds.sum(axis=1, keepdims=True)
    return result
