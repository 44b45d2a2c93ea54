"""Differentially private specifications: one point, the direction of the texts' mean with Gaussian noise on it.

The feature map is the encoder, φ(x) = e(x), ‖φ(x)‖ ≤ 1. Two tasks are neighbours if they have equally many texts
and all but one are the same ("replace one"), so their number n is public, and the mean moves by at most
Δ = 2/n. Noise of N(0, σ²) on each number makes the mean (ε, δ)-private; the point is computed from the noisy mean
alone, and nothing else of the texts is in the file. σ is the least that will do: Balle and Wang, "Improving
the Gaussian Mechanism for Differential Privacy" (ICML 2018), theorem 8.
"""

from math import ceil, exp, isfinite, sqrt
from random import Random, SystemRandom
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from specification.errors import InvalidExamples, InvalidInput
from specification.kernel import Floats
from specification.reduced_set import ReducedSet

EPSILONS = (0.01, 100.0)
DELTAS = (1e-12, 0.1)
DEFAULT_DELTA = 1e-5
MAX_NOISE = 2.0
"""The most noise, as the expected length of the noise vector, that a specification is made with. A mean of unit
vectors is at most 1 long; beyond twice that a task no longer finds its learnware (docs/privacy.md)."""
SAFETY = 1 + 1e-9


class Privacy(BaseModel):
    """What is promised about the texts behind a specification.

    ``none`` promises nothing: points are averages. ``gaussian`` promises (``epsilon``, ``delta``)-differential
    privacy of each text among neighbours that differ in one text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mechanism: Literal["none", "gaussian"] = "none"
    epsilon: Annotated[float, Field(ge=EPSILONS[0], le=EPSILONS[1])] | None = None
    delta: Annotated[float, Field(ge=DELTAS[0], le=DELTAS[1])] | None = None
    neighbours: Literal["replace_one"] | None = None
    feature_map: Literal["encoder"] | None = None

    @model_validator(mode="after")
    def _all_or_none(self) -> "Privacy":
        rest = (self.epsilon, self.delta, self.neighbours, self.feature_map)
        if self.mechanism == "none" and any(value is not None for value in rest):
            raise ValueError("mechanism 'none' has no epsilon, delta, neighbours or feature_map")
        if self.mechanism == "gaussian" and any(value is None for value in rest):
            raise ValueError("mechanism 'gaussian' needs epsilon, delta, neighbours and feature_map")
        return self

    @property
    def promised(self) -> bool:
        """Whether anything is promised."""
        return self.mechanism != "none"

    def noise(self, texts: int) -> float:
        """Returns σ, the standard deviation of the noise on each number of the mean of so many texts."""
        if self.epsilon is None or self.delta is None:
            return 0.0
        return gaussian_scale(self.epsilon, self.delta, sensitivity(texts))

    def __str__(self) -> str:
        return f"({self.epsilon:g}, {self.delta:g})-differentially private" if self.promised else "none"


NO_PRIVACY = Privacy()


def differential_privacy(epsilon: float, delta: float = DEFAULT_DELTA) -> Privacy:
    """Returns the promise of (ε, δ)-differential privacy that the Gaussian mechanism keeps.

    Raises:
        InvalidInput: ε is not in 0.01 … 100 or δ not in 1e-12 … 0.1.
    """
    for name, value, (least, most) in (("epsilon", epsilon, EPSILONS), ("delta", delta, DELTAS)):
        if not isfinite(value) or not least <= value <= most:
            raise InvalidInput(f"{name} {value:g} is not in {least:g} … {most:g}")
    return Privacy(
        mechanism="gaussian", epsilon=epsilon, delta=delta, neighbours="replace_one", feature_map="encoder"
    )


def sensitivity(texts: int) -> float:
    """Returns how far, at most, another text in place of one moves the mean of so many unit vectors."""
    return 2 / texts


def gaussian_scale(epsilon: float, delta: float, sensitivity: float) -> float:
    """Returns the least σ of an (ε, δ)-private Gaussian mechanism (Balle & Wang 2018, theorem 8).

    It solves Φ(Δ/2σ - εσ/Δ) - e^ε Φ(-Δ/2σ - εσ/Δ) = δ, whose left side falls as σ grows.
    """
    from scipy.optimize import brentq

    root = brentq(lambda ratio: gaussian_delta(epsilon, ratio) - delta, 1e-6, 1e3, xtol=1e-14, rtol=1e-12)
    return float(sensitivity / root) * SAFETY


def gaussian_delta(epsilon: float, ratio: float) -> float:
    """Returns the δ of a Gaussian mechanism at ε, where ``ratio`` is the sensitivity in units of σ."""
    from scipy.special import log_ndtr, ndtr

    near, far = ratio / 2 - epsilon / ratio, -ratio / 2 - epsilon / ratio
    return float(ndtr(near) - exp(epsilon + log_ndtr(far)))


def require_enough(texts: int, dimension: int, privacy: Privacy) -> None:
    """Checks, before anything is encoded, that noise will not drown the mean of so many texts.

    Raises:
        InvalidExamples: it will; the message says how many texts would do.
    """
    length = privacy.noise(texts) * sqrt(dimension)
    if length > MAX_NOISE:
        raise InvalidExamples(
            f"{texts} texts with epsilon {privacy.epsilon:g} need noise of length {length:.1f} on a mean of at "
            f"most 1; give at least {ceil(texts * length / MAX_NOISE)} texts, or a larger epsilon"
        )


def private_point(sample: Floats, privacy: Privacy, source: Random | None = None) -> ReducedSet:
    """Sketches a sample of unit vectors, float32 [n, d], by one point and keeps the promise of ``privacy``.

    Noise comes from the operating system's cryptographic source; ``source`` is for tests and simulations.

    Raises:
        InvalidExamples: so few texts, or so small an ε, that noise would drown the mean.
    """
    count, dimension = sample.shape
    require_enough(count, dimension, privacy)
    scale = privacy.noise(count)
    source = source or SystemRandom()
    noise = np.array([source.gauss(0, scale) for _ in range(dimension)])
    return refit(_mean(sample) + noise)


def refit(noisy: NDArray[np.float64]) -> ReducedSet:
    """Returns the unit vector nearest to a noisy mean, float64 [d], as a reduced set of one point."""
    point = (noisy / np.linalg.norm(noisy)).astype(np.float16).astype(np.float32)
    return ReducedSet(point[None, :], np.ones(1, dtype=np.float32))


def _mean(sample: Floats) -> NDArray[np.float64]:
    """The mean of vectors that are cut to length 1, which the sensitivity rests on."""
    exact = sample.astype(np.float64)
    mean: NDArray[np.float64] = (exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1)).mean(axis=0)
    return mean
