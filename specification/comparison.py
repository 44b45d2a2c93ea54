"""Reduced sets against each other: exact MMD and RKHS cosine, for one pair or thousands.

Source: Gretton et al., "A Kernel Two-Sample Test" (JMLR 2012), eq. 3, with weights:
MMD²(P,Q) = ‖μ_P‖² - 2⟨μ_P,μ_Q⟩ + ‖μ_Q‖², each term a weighted double sum of kernel values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specification.kernel import DEFAULT_GAMMA, Floats, gaussian, squared_lengths
from specification.reduced_set import ReducedSet

Doubles = NDArray[np.float64]

TOGETHER = 256
"""Reduced sets whose self terms are computed at once."""


@dataclass(frozen=True)
class Comparison:
    """A task against c learnwares, float64 arrays of shape [c].

    ``cross`` is ⟨μ_P,μ_Q⟩, ``own`` is ‖μ_Q‖² of each learnware, ``task`` is ‖μ_P‖² of the task.
    """

    cross: Doubles
    own: Doubles
    task: float

    @property
    def mmd(self) -> Doubles:
        """The maximum mean discrepancy, >= 0."""
        result: Doubles = np.sqrt(np.maximum(self.task - 2 * self.cross + self.own, 0))
        return result

    @property
    def overlap(self) -> Doubles:
        """1 - MMD²/(‖μ_P‖²+‖μ_Q‖²) in [0, 1]: 1 for equal distributions, 0 for kernels that never meet."""
        result: Doubles = np.clip(2 * self.cross / (self.task + self.own), 0, 1)
        return result

    @property
    def cosine(self) -> Doubles:
        """The cosine ⟨μ_P,μ_Q⟩/(‖μ_P‖‖μ_Q‖) in the RKHS, in [0, 1]."""
        result: Doubles = np.clip(self.cross / np.sqrt(self.task * self.own), 0, 1)
        return result


class Stack:
    """Many reduced sets side by side, so that each comparison is one matrix product. ``points`` is [Σm, d]."""

    def __init__(self, sets: Sequence[ReducedSet]) -> None:
        self.sets = sets
        self.points = np.concatenate([each.points for each in sets]) if sets else np.zeros((0, 1), np.float32)
        self.weights = np.concatenate([each.weights for each in sets]) if sets else np.zeros(0, np.float32)
        self.sizes = np.array([len(each.weights) for each in sets], dtype=np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes
        self._squares = squared_lengths(self.points)
        self._own: dict[float, Doubles] = {}

    def evaluate(self, points: Floats, gamma: float) -> Doubles:
        """Returns μ_i(x) = Σβ_j k(x,z_j) of c reduced sets at n points, float32 [n, d]: float64 [n, c]."""
        if not self.sets:
            return np.zeros((len(points), 0))
        kernel = gaussian(points, self.points, gamma, self._squares).astype(np.float64)
        kernel *= self.weights
        values: Doubles = np.add.reduceat(kernel, self.starts, axis=1)
        return values

    def self_terms(self, gamma: float) -> Doubles:
        """Returns ‖μ_i‖² of c reduced sets, float64 [c]; they are computed once."""
        if gamma not in self._own:
            self._own[gamma] = self._self_terms(gamma)
        return self._own[gamma]

    def _self_terms(self, gamma: float) -> Doubles:
        terms = np.empty(len(self.sets))
        for size in np.unique(self.sizes):
            places = np.flatnonzero(self.sizes == size)
            for part in np.array_split(places, -(-len(places) // TOGETHER)):
                rows = self.starts[part, None] + np.arange(size)
                points, weights = self.points[rows], self.weights[rows].astype(np.float64)
                kernel = gaussian(points, points, gamma, self._squares[rows]).astype(np.float64)
                terms[part] = ((kernel @ weights[:, :, None])[:, :, 0] * weights).sum(axis=1)
        return terms


def compare(task: ReducedSet, others: "Sequence[ReducedSet] | Stack", gamma: float = DEFAULT_GAMMA) -> Comparison:
    """Compares one reduced set with many, exactly, in one matrix product."""
    stack = others if isinstance(others, Stack) else Stack(others)
    cross = task.weights.astype(np.float64) @ stack.evaluate(task.points, gamma)
    return Comparison(cross, stack.self_terms(gamma), self_term(task, gamma))


def evaluate(points: Floats, others: Sequence[ReducedSet], gamma: float = DEFAULT_GAMMA) -> Doubles:
    """Returns μ_i(x) of c reduced sets at n points, float32 [n, d]: float64 [n, c]; see ``Stack.evaluate``."""
    return Stack(others).evaluate(points, gamma)


def self_term(reduced: ReducedSet, gamma: float = DEFAULT_GAMMA) -> float:
    """Returns ‖μ‖² of a reduced set: the weighted double sum of its own kernel values."""
    weights = reduced.weights.astype(np.float64)
    return float(weights @ gaussian(reduced.points, reduced.points, gamma).astype(np.float64) @ weights)


def mmd(left: ReducedSet, right: ReducedSet, gamma: float = DEFAULT_GAMMA) -> float:
    """Returns the exact maximum mean discrepancy of two reduced sets."""
    return float(compare(left, [right], gamma).mmd[0])
