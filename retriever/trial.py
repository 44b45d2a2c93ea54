"""Which of several candidates is best: match and paired results on labelled examples, in one posterior.

The model is y_ij = θ_j + d_i + ε_ij: candidate j's score on example i is its true score, the example's difficulty
(shared by all, since all answer the same examples) and noise. A priori, with z the standardised match,

    θ ~ N(½ + ρs√w₁·z,  ¼·11ᵀ + s²·((1-ρ²)w₁·R + w₂·C + w₃·I))

where R is how alike the candidates' specifications are, so that models of one training set share strength, and
C is how alike they did on other tasks, where that is known. The scale s and the shares w are not chosen: the
posterior is averaged over ``SCALES`` and ``SHARES`` by their marginal likelihood (Rasmussen & Williams, "Gaussian
Processes for Machine Learning", 2006, eq. 5.8), so that a task on which all candidates are alike is seen as such.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from specification.errors import InvalidInput

SCALES = (0.01, 0.02, 0.04, 0.08, 0.16)
"""How far candidates lie apart, in score."""
SHARES = ((0.9, 0.0, 0.1), (0.5, 0.0, 0.5), (0.98, 0.0, 0.02))
SHARES_WITH_CAPABILITY = (
    (0.5, 0.4, 0.1), (0.9, 0.0, 0.1), (0.1, 0.8, 0.1), (0.3, 0.2, 0.5),
    (0.6, 0.38, 0.02), (0.1, 0.88, 0.02), (0.9, 0.08, 0.02),
)  # fmt: skip
"""Shares of match and specification, of other tasks, and of what is each candidate's own."""
MATCH_CORRELATION = 0.5
LEVEL = 0.5
NOISE_WEIGHT = 4.0
"""How many residuals the first guess of the noise, that of right-or-wrong scores, is worth."""
MIN_SPREAD = 0.05
"""Fits that lie closer together than this are as good as equal."""
NEGLIGIBLE = 1e-3
DRAWS = 4000
MAX_CANDIDATES = 256

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class TrialPrior:
    """What is known of c candidates before the trial.

    ``fit`` [c] is the match with the task, ``similarity`` [c, c] the candidates' likeness (RKHS cosine of their
    specifications, 1 on the diagonal), ``capability`` [t, c] their scores on t other tasks, NaN where unknown.

    Raises:
        InvalidInput: shapes that do not agree, no candidates, or more than MAX_CANDIDATES.
    """

    fit: Doubles
    similarity: Doubles
    capability: Doubles | None = None

    def __post_init__(self) -> None:
        count = len(self.fit)
        if not 1 <= count <= MAX_CANDIDATES:
            raise InvalidInput(f"a trial of {count} candidates; 1 … {MAX_CANDIDATES} are allowed")
        if self.similarity.shape != (count, count):
            raise InvalidInput(f"similarity has shape {self.similarity.shape} for {count} candidates")
        if self.capability is not None and self.capability.shape[1:] != (count,):
            raise InvalidInput(f"capability has shape {self.capability.shape} for {count} candidates")

    def __len__(self) -> int:
        return len(self.fit)

    @cached_property
    def hypotheses(self) -> tuple[Doubles, Doubles]:
        """Means [h, c] and covariances [h, c, c] of θ under every scale and shares."""
        match = (self.fit - self.fit.mean()) / max(float(self.fit.std()), MIN_SPREAD)
        capability = _covariance(self.capability, len(self))
        shares = SHARES if capability is None else SHARES_WITH_CAPABILITY
        other = np.eye(len(self)) if capability is None else capability
        means, covariances = [], []
        for scale in SCALES:
            for related, capable, own in shares:
                means.append(LEVEL + MATCH_CORRELATION * scale * related**0.5 * match)
                spread_of = (1 - MATCH_CORRELATION**2) * related * self.similarity + capable * other
                covariances.append(scale**2 * (spread_of + own * np.eye(len(self))) + LEVEL**2)
        return np.array(means), np.array(covariances)


def _covariance(rows: Doubles | None, count: int) -> Doubles | None:
    """The candidates' second moments over other tasks' centred scores [c, c], with mean 1 on the diagonal."""
    if rows is None or not len(rows):
        return None
    known = np.isfinite(rows)
    total = np.where(known, rows, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    centred = np.where(known, rows - total[:, None], 0)
    moments: Doubles = centred.T @ centred
    size = float(np.trace(moments)) / count
    return moments / size if size > 0 else None


@dataclass(frozen=True)
class Posterior:
    """What is known of the true scores θ of c candidates: a mixture of h normal distributions.

    ``weights`` [h], ``centres`` [h, c], and covariances [h, c, c] as solutions of ``systems`` · Σ = ``priors``.
    """

    weights: Doubles
    centres: Doubles
    systems: Doubles
    priors: Doubles
    seed: int

    @cached_property
    def mean(self) -> Doubles:
        """The expected scores [c]."""
        expected: Doubles = self.weights @ self.centres
        return expected

    @cached_property
    def draws(self) -> Doubles:
        """DRAWS draws of all scores [n, c], always the same."""
        generator = np.random.default_rng(self.seed)
        numbers = generator.multinomial(DRAWS, self.weights)
        parts = []
        for one in np.flatnonzero(numbers):
            covariance = np.linalg.solve(self.systems[one], self.priors[one])
            jitter = 1e-12 * np.eye(len(covariance))
            factor = np.linalg.cholesky((covariance + covariance.T) / 2 + jitter)
            parts.append(self.centres[one] + generator.standard_normal((numbers[one], len(factor))) @ factor.T)
        return np.concatenate(parts)

    @property
    def winner(self) -> int:
        """The candidate with the highest expected score; the first of equal ones."""
        return int(self.mean.argmax())

    @cached_property
    def best(self) -> Doubles:
        """The probability of each candidate [c] to be the best."""
        counts = np.bincount(self.draws.argmax(axis=1), minlength=len(self.mean))
        return counts / len(self.draws)

    def interval(self, candidate: int, mass: float = 0.95) -> tuple[float, float]:
        """The central interval that holds a candidate's true score with probability ``mass``, within [0, 1]."""
        tail = (1 - mass) / 2
        low, high = np.clip(np.quantile(self.draws[:, candidate], [tail, 1 - tail]), 0, 1)
        return float(low), float(high)

    def loss(self, candidate: int) -> float:
        """How much better than ``candidate`` the best is expected to be."""
        return float((self.draws.max(axis=1) - self.draws[:, candidate]).mean())

    def better(self, candidate: int, other: int) -> float:
        """The probability that ``candidate`` is better than ``other``."""
        return float((self.draws[:, candidate] > self.draws[:, other]).mean())


def posterior(prior: TrialPrior, scores: Doubles, seed: int = 0) -> Posterior:
    """Combines the prior with scores [n, c] in [0, 1], NaN where a candidate was not asked; n may be 0.

    Raises:
        InvalidInput: scores of another shape, or outside [0, 1].
    """
    if scores.ndim != 2 or scores.shape[1] != len(prior):
        raise InvalidInput(f"scores of shape {scores.shape} for {len(prior)} candidates")
    known = np.isfinite(scores)
    if np.isinf(scores).any() or ((scores[known] < 0) | (scores[known] > 1)).any():
        raise InvalidInput("a score outside 0 … 1")
    means, covariances = prior.hypotheses
    precision, pull = _likelihood(scores, known)
    # With θ = μ + δ the likelihood is exp(rᵀδ - ½δᵀΛδ), r = b - Λμ, times a factor in μ alone.
    systems = np.eye(len(prior)) + covariances @ precision
    rest = pull - means @ precision
    moves = np.linalg.solve(systems, covariances @ rest[:, :, None])[:, :, 0]
    evidence = means @ pull - 0.5 * np.einsum("hi,ij,hj->h", means, precision, means)
    evidence += 0.5 * (rest * moves).sum(axis=1) - 0.5 * np.linalg.slogdet(systems).logabsdet
    weights = np.exp(evidence - evidence.max())
    weights[weights < NEGLIGIBLE] = 0
    return Posterior(weights / weights.sum(), means + moves, systems, covariances, seed)


def _likelihood(scores: Doubles, known: NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
    """The precision Λ [c, c] and pull b [c] of exp(bᵀθ - ½θᵀΛθ), examples of the same candidates together."""
    count = scores.shape[1]
    precision, pull = np.zeros((count, count)), np.zeros(count)
    if not known.any():
        return precision, pull
    shared, own = _variances(scores, known)
    for pattern in np.unique(known, axis=0):
        asked = np.flatnonzero(pattern)
        rows = scores[(known == pattern).all(axis=1)][:, asked]
        if not len(asked):
            continue
        # The inverse of own·I + shared·11ᵀ by Sherman and Morrison.
        inverse = (np.eye(len(asked)) - shared / (own + len(asked) * shared)) / own
        precision[np.ix_(asked, asked)] += len(rows) * inverse
        pull[asked] += inverse @ rows.sum(axis=0)
    return precision, pull


def _variances(scores: Doubles, known: NDArray[np.bool_]) -> tuple[float, float]:
    """Variances of the examples' difficulty and of the noise, by two-way analysis of variance with gaps."""
    filled = np.where(known, scores, 0)
    rows, columns = np.maximum(known.sum(axis=1), 1), np.maximum(known.sum(axis=0), 1)
    easiness, ability = np.zeros(len(scores)), filled.sum(axis=0) / columns
    for _ in range(5):
        easiness = ((filled - ability) * known).sum(axis=1) / rows
        easiness -= easiness.mean()
        ability = ((filled - easiness[:, None]) * known).sum(axis=0) / columns
    residual = ((filled - ability - easiness[:, None]) * known).ravel()
    total = known.sum()
    share = (filled.sum() + 1) / (total + 2)
    freedom = max(float(total - len(scores) - (known.any(axis=0)).sum() + 1), 0.0)
    own = (residual @ residual + NOISE_WEIGHT * share * (1 - share)) / (freedom + NOISE_WEIGHT)
    shared = max(0.0, float(easiness.var() - own * (1 / rows).mean()))
    return shared, float(own)


def shortlist(prior: TrialPrior, count: int) -> list[int]:
    """Returns the ``count`` candidates that are worth trying together, the most promising first.

    Each is the one that adds most to the expected score of the best of those chosen, so that ten near-copies
    of one learnware do not use up the places (greedy for a submodular aim: Nemhauser et al., 1978).
    """
    before = posterior(prior, np.zeros((0, len(prior))))
    best = np.full(len(before.draws), -np.inf)
    left, chosen = list(range(len(prior))), list[int]()
    while left and len(chosen) < count:
        gains = np.maximum(best[:, None], before.draws[:, left]).mean(axis=0)
        pick = left.pop(int(gains.argmax()))
        chosen.append(pick)
        best = np.maximum(best, before.draws[:, pick])
    return chosen
