"""Separating a task into the learnwares it is a mixture of.

Solves min_w ‖μ_U - Σw_iμ_i‖², w ≥ 0, over reduced sets by non-negative least squares on their exact Gram matrix,
forward: the learnware that lowers the residual most joins, until the next one's weight is within noise.

Both sides are sketches of samples, so this is a regression with errors in its variables: a self term ‖μ_i‖² is
too large by what n_i texts and the compression add, E‖μ̂-μ‖² = (1-‖μ‖²)/n for a Gaussian kernel plus the
compression error squared. Unless that is taken off the Gram matrix' diagonal (the method of moments, Fuller,
"Measurement Error Models", 1987, eq. 2.2.12), weights shrink and near neighbours fill the gap (docs/log.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from specification import ReducedSet, self_term
from specification.comparison import Doubles, Stack

MAX_SHARES = 8
MIN_WEIGHT = 0.05
SIGNIFICANCE = 0.02
"""How often a learnware that has no part in a task may join it; its weight must exceed 2.05 standard errors."""
LEAST_SIGNAL = 0.1
CONDITION = 1e-9
TASK = -1


@dataclass(frozen=True)
class Sketch:
    """A reduced set, the number of texts behind it, and its compression error, 0 where it does not tell."""

    reduced: ReducedSet
    sample_size: int
    compression_error: float = 0.0

    def noise(self, own: float) -> float:
        """Returns what the finite sample and the compression are expected to have added to the self term."""
        return (1 - own) / self.sample_size + self.compression_error**2


@dataclass(frozen=True)
class Part:
    """A candidate's place, its weight and the weight's standard error; ``reason`` says why it was left out."""

    place: int
    weight: float
    error: float
    reason: str = ""


@dataclass(frozen=True)
class Solution:
    """The parts that stay, those that were pruned, and what is left: see ``retriever.Mixture``."""

    parts: tuple[Part, ...]
    pruned: tuple[Part, ...]
    unknown: float
    residual: float
    noise: float


def separate(task: Sketch, candidates: Sequence[Sketch], gamma: float) -> Solution:
    """Returns the candidates that a task is made of, heaviest first; equal gains go to the first candidate."""
    separation = Separation(task, gamma)
    separation.add(candidates, Stack([candidate.reduced for candidate in candidates]))
    return separation.solve()


class Separation:
    """The corrected least squares of one task, to which candidates may be added after each answer.

    What was computed of earlier candidates is kept. ``TASK`` stands for the task's place.
    """

    def __init__(self, task: Sketch, gamma: float) -> None:
        self.task, self.gamma = task, gamma
        self.candidates: list[Sketch] = []
        self.stacks: list[Stack] = []
        self.noises, self.own, self.cross = np.zeros(0), np.zeros(0), np.zeros(0)
        self.values: dict[int, Doubles] = {}
        self.rows: dict[int, Doubles] = {}
        self.known: dict[tuple[int, ...], tuple[Doubles, Doubles]] = {}
        norm = self_term(task.reduced, gamma)
        self.task_noise = task.noise(norm)
        self.norm = max(norm - self.task_noise, LEAST_SIGNAL * norm)
        self.needed = NormalDist().inv_cdf(1 - SIGNIFICANCE)

    def add(self, candidates: Sequence[Sketch], stack: Stack) -> None:
        """Adds candidates, whose places follow those of earlier ones; ``stack`` holds their reduced sets."""
        own = stack.self_terms(self.gamma)
        noises = np.array([each.noise(float(x)) for each, x in zip(candidates, own, strict=True)])
        for place, known in self.values.items():
            fresh = stack.evaluate(self._sketch(place).reduced.points, self.gamma)
            self.values[place] = np.concatenate([known, fresh], axis=1)
        self.rows.clear()
        self.candidates += candidates
        self.stacks.append(stack)
        self.noises = np.concatenate([self.noises, noises])
        # A sketch that is noise nearly alone keeps a little: the matrix must stay positive.
        self.own = np.concatenate([self.own, np.maximum(own - noises, LEAST_SIGNAL * own)])
        self.cross = self.task.reduced.weights @ self._values(TASK)

    def solve(self) -> Solution:
        """Returns what ``separate`` does, of all candidates so far."""
        members: list[int] = []
        pruned: list[Part] = []
        while len(members) < min(MAX_SHARES, len(self.candidates)):
            place = self.next(members)
            if place is None:
                break
            wider = [*members, place]
            part = self.parts(wider)[-1]
            if part.reason:
                pruned.append(part)
                break
            members = wider
        while failing := [part for part in self.parts(members, self.unknown(members)) if part.reason]:
            weakest = min(failing, key=lambda part: part.weight)
            pruned.append(weakest)
            members.remove(weakest.place)
        return self.solution(members, pruned)

    def next(self, members: list[int]) -> int | None:
        """The candidate whose joining lowers the residual most, None if none does.

        One whose distance to the members' span is within the sketches' own error cannot be told from them.
        """
        block, (weights, inverse) = self._block(members), self._solved(members)
        distance = self.own - (block * (inverse @ block)).sum(axis=0)
        slope = self.cross - weights @ block
        able = (slope > 0) & (distance > CONDITION * self.own)
        able[members] = False
        gains = np.where(able, slope**2 / np.where(able, distance, 1), 0)
        return int(gains.argmax()) if able.any() else None

    def parts(self, members: list[int], unknown: float = 0.0) -> list[Part]:
        """The members with their weights, and the reason why one should not be one."""
        rows = zip(members, self._weights(members), self._errors(members), strict=True)
        return [self._part(place, float(weight), float(error), unknown) for place, weight, error in rows]

    def unknown(self, members: list[int]) -> float:
        """The share that fits nothing, at least: what the weights lack of 1, or the residual's part of ‖μ_U‖²."""
        lacking = 1 - float(self._weights(members).sum())
        return min(1.0, max(0.0, lacking, self._residual(members) / self.norm))

    def solution(self, members: list[int], pruned: list[Part]) -> Solution:
        """What ``separate`` returns."""
        weights, unknown = self._weights(members), self.unknown(members)
        # Sketches draw alike texts together, which makes weights a little too large in sum.
        scale = min(1.0, (1 - unknown) / float(weights.sum())) if members else 1.0
        parts = [Part(part.place, part.weight * scale, part.error * scale) for part in self.parts(members)]
        noise = self.task_noise + float(weights**2 @ self.noises[members])
        return Solution(
            parts=tuple(sorted(parts, key=lambda part: (-part.weight, part.place))),
            pruned=tuple(pruned),
            unknown=unknown,
            residual=max(0.0, self._residual(members) + noise),
            noise=noise,
        )

    def _residual(self, members: list[int]) -> float:
        weights = self._weights(members)
        square = self._block(members)[:, members]
        return float(self.norm - 2 * weights @ self.cross[members] + weights @ square @ weights)

    def _part(self, place: int, weight: float, error: float, unknown: float) -> Part:
        reason = ""
        if weight < self.needed * error:
            reason = f"its weight of {weight:.2f} ± {error:.2f} is within noise"
        elif weight < MIN_WEIGHT:
            reason = f"its weight of {weight:.2f} is under {MIN_WEIGHT:.2f}"
        elif weight < unknown:
            reason = f"its weight of {weight:.2f} is less than what fits nothing, {unknown:.2f}"
        return Part(place, weight, error, reason)

    def _weights(self, members: list[int]) -> Doubles:
        return self._solved(members)[0]

    def _solved(self, members: list[int]) -> tuple[Doubles, Doubles]:
        """min_w≥0 of wᵀGw - 2wᵀb by G = LLᵀ, which makes it a least-squares problem; and G⁻¹."""
        from scipy.linalg import solve_triangular
        from scipy.optimize import nnls

        if not members:
            return np.zeros(0), np.zeros((0, 0))
        key = tuple(members)
        if key not in self.known:
            gram = self._block(members)[:, members]
            lower = np.linalg.cholesky(gram)
            weights = nnls(lower.T, solve_triangular(lower, self.cross[members], lower=True))[0]
            self.known[key] = weights, np.asarray(np.linalg.inv(gram), dtype=np.float64)
        return self.known[key]

    def _errors(self, members: list[int]) -> Doubles:
        """Standard errors of the weights, float64 [k].

        Unconstrained, w_j = ⟨μ_U,d_j⟩ with the dual functions d_j = Σ(G⁻¹)_ji μ_i: a mean of d_j over the task's
        texts, and likewise on the side of each learnware, w_i times a mean over its texts.
        """
        weights, duals = self._solved(members)
        places = [TASK, *members]
        sketches = [self._sketch(place) for place in places]
        values = np.concatenate([self._values(place)[:, members] for place in places]) @ duals
        shares = np.concatenate([each.reduced.weights for each in sketches]).astype(np.float64)[:, None]
        sizes = [len(each.reduced) for each in sketches]
        starts = np.cumsum([0, *sizes[:-1]])
        variances = np.add.reduceat(shares * values**2, starts) - np.add.reduceat(shares * values, starts) ** 2
        parts = np.array([1.0, *weights]) ** 2 / [each.sample_size for each in sketches]
        errors: Doubles = np.sqrt(parts @ np.maximum(variances, 0))
        return errors

    def _block(self, members: list[int]) -> Doubles:
        """Gram rows of the members against all candidates, with the corrected diagonal: float64 [k, c]."""
        return np.array([self._row(place) for place in members]).reshape(len(members), len(self.candidates))

    def _row(self, place: int) -> Doubles:
        if place not in self.rows:
            row = self.candidates[place].reduced.weights @ self._values(place)
            row[place] = self.own[place]
            self.rows[place] = row
        return self.rows[place]

    def _values(self, place: int) -> Doubles:
        """Every candidate's μ_i at the points of one sketch, float64 [m, c]: all that is needed of the kernel."""
        if place not in self.values:
            points = self._sketch(place).reduced.points
            found = [stack.evaluate(points, self.gamma) for stack in self.stacks]
            self.values[place] = np.concatenate(found, axis=1)
        return self.values[place]

    def _sketch(self, place: int) -> Sketch:
        return self.task if place == TASK else self.candidates[place]
