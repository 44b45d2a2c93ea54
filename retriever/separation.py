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


def separate(task: Sketch, candidates: Sequence[Sketch], gamma: float, stack: Stack | None = None) -> Solution:
    """Returns the candidates that a task is made of, heaviest first; equal gains go to the first candidate.

    ``stack`` holds the candidates' reduced sets, if that was made already.
    """
    problem = _Problem(task, candidates, gamma, stack or Stack([candidate.reduced for candidate in candidates]))
    members: list[int] = []
    pruned: list[Part] = []
    while len(members) < min(MAX_SHARES, len(candidates)):
        place = problem.next(members)
        if place is None:
            break
        wider = [*members, place]
        part = problem.parts(wider)[-1]
        if part.reason:
            pruned.append(part)
            break
        members = wider
    while failing := [part for part in problem.parts(members, problem.unknown(members)) if part.reason]:
        weakest = min(failing, key=lambda part: part.weight)
        pruned.append(weakest)
        members.remove(weakest.place)
    return problem.solution(members, pruned)


class _Problem:
    """The corrected least squares of one task. ``TASK`` stands for the task's place."""

    def __init__(self, task: Sketch, candidates: Sequence[Sketch], gamma: float, stack: Stack) -> None:
        self.task, self.candidates, self.gamma = task, candidates, gamma
        self.sets = stack
        own = self.sets.self_terms(gamma)
        self.noises = np.array([each.noise(float(x)) for each, x in zip(candidates, own, strict=True)])
        # A sketch that is noise nearly alone keeps a little: the matrix must stay positive.
        self.own = np.maximum(own - self.noises, LEAST_SIGNAL * own)
        self.values: dict[int, Doubles] = {}
        self.rows: dict[int, Doubles] = {}
        self.known_weights: dict[tuple[int, ...], Doubles] = {}
        self.cross = task.reduced.weights @ self._values(TASK)
        norm = self_term(task.reduced, gamma)
        self.task_noise = task.noise(norm)
        self.norm = max(norm - self.task_noise, LEAST_SIGNAL * norm)
        self.needed = NormalDist().inv_cdf(1 - SIGNIFICANCE)

    def next(self, members: list[int]) -> int | None:
        """The candidate whose joining lowers the residual most, None if none does.

        One whose distance to the members' span is within the sketches' own error cannot be told from them.
        """
        block, inverse = self._block(members), self._inverse(members)
        distance = self.own - np.einsum("ic,ij,jc->c", block, inverse, block)
        slope = self.cross - block.T @ self._weights(members)
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
        """min_w≥0 of wᵀGw - 2wᵀb by G = LLᵀ, which makes it a least-squares problem."""
        from scipy.linalg import solve_triangular
        from scipy.optimize import nnls

        if not members:
            return np.zeros(0)
        key = tuple(members)
        if key not in self.known_weights:
            lower = np.linalg.cholesky(self._block(members)[:, members])
            self.known_weights[key] = nnls(lower.T, solve_triangular(lower, self.cross[members], lower=True))[0]
        return self.known_weights[key]

    def _errors(self, members: list[int]) -> Doubles:
        """Standard errors of the weights, float64 [k].

        Unconstrained, w_j = ⟨μ_U,d_j⟩ with the dual functions d_j = Σ(G⁻¹)_ji μ_i: a mean of d_j over the task's
        texts, and likewise on the side of each learnware, w_i times a mean over its texts.
        """
        weights, duals = self._weights(members), self._inverse(members)
        total = self._spread(TASK, members, duals)
        for place, weight in zip(members, weights, strict=True):
            total = total + weight**2 * self._spread(place, members, duals)
        errors: Doubles = np.sqrt(total)
        return errors

    def _spread(self, place: int, members: list[int], duals: Doubles) -> Doubles:
        """The variance of the means of the dual functions over one sketch's texts, float64 [k]."""
        sketch = self._sketch(place)
        values = self._values(place)[:, members] @ duals
        weights = sketch.reduced.weights.astype(np.float64)
        variance = weights @ values**2 - (weights @ values) ** 2
        result: Doubles = np.maximum(variance, 0) / sketch.sample_size
        return result

    def _inverse(self, members: list[int]) -> Doubles:
        inverse: Doubles = np.linalg.inv(self._block(members)[:, members]).astype(np.float64)
        return inverse

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
            self.values[place] = self.sets.evaluate(self._sketch(place).reduced.points, self.gamma)
        return self.values[place]

    def _sketch(self, place: int) -> Sketch:
        return self.task if place == TASK else self.candidates[place]
