"""Reduced sets against each other: exact MMD and RKHS cosine, for one pair or thousands.

Source: Gretton et al., "A Kernel Two-Sample Test" (JMLR 2012), eq. 3, with weights:
MMD²(P,Q) = ‖μ_P‖² - 2⟨μ_P,μ_Q⟩ + ‖μ_Q‖², each term a weighted double sum of kernel values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specification.kernel import DEFAULT_GAMMA, Floats, gaussian
from specification.reduced_set import ReducedSet

Doubles = NDArray[np.float64]


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


def compare(task: ReducedSet, others: Sequence[ReducedSet], gamma: float = DEFAULT_GAMMA) -> Comparison:
    """Compares one reduced set with many, exactly, in one matrix product."""
    if not others:
        return Comparison(np.zeros(0), np.zeros(0), self_term(task, gamma))
    points = np.concatenate([other.points for other in others])
    kernel = gaussian(points, task.points, gamma)
    weighted = (kernel @ task.weights).astype(np.float64)
    weighted *= np.concatenate([other.weights for other in others])
    starts = np.cumsum([0] + [len(other) for other in others[:-1]])
    cross = np.add.reduceat(weighted, starts)
    own = np.array([self_term(other, gamma) for other in others])
    return Comparison(cross, own, self_term(task, gamma))


def evaluate(points: Floats, others: Sequence[ReducedSet], gamma: float = DEFAULT_GAMMA) -> Doubles:
    """Returns μ_i(x) = Σβ_j k(x,z_j) of c reduced sets at n points, float32 [n, d]: float64 [n, c]."""
    if not others:
        return np.zeros((len(points), 0))
    kernel = gaussian(points, np.concatenate([other.points for other in others]), gamma).astype(np.float64)
    kernel *= np.concatenate([other.weights for other in others])
    starts = np.cumsum([0] + [len(other) for other in others[:-1]])
    values: Doubles = np.add.reduceat(kernel, starts, axis=1)
    return values


def self_term(reduced: ReducedSet, gamma: float = DEFAULT_GAMMA) -> float:
    """Returns ‖μ‖² of a reduced set: the weighted double sum of its own kernel values."""
    kernel = gaussian(reduced.points, reduced.points, gamma)
    return float(reduced.weights.astype(np.float64) @ kernel.astype(np.float64) @ reduced.weights)


def mmd(left: ReducedSet, right: ReducedSet, gamma: float = DEFAULT_GAMMA) -> float:
    """Returns the exact maximum mean discrepancy of two reduced sets."""
    return float(compare(left, [right], gamma).mmd[0])
