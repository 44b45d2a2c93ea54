"""Match and quality in one expectation: how good a learnware will be on a task, among all that could answer.

A learnware's standing on a task is the normal score of its rank among the learnwares that were measured there
(van der Waerden 1952): 0 is the middle, 1 one standard deviation above it, whatever the task's metric.

    expected(U, L) = b · s(U, L) + q(U, L)

``s`` is nearness: how far match says that the task comes from what the learnware was trained on, given how sure
samples of these sizes can be. ``b`` is what nearness was worth on the tasks that were measured. ``q`` is the mean
of L's standings on measured tasks that it was *not* trained for, each weighted by that task's likeness to U (a
kernel regression, Nadaraya 1964, Watson 1964), and shrunk towards 0 by as much as standings of one learnware
differ from task to task (James & Stein 1961; the two variances are estimated from the measured tasks, as in
Efron & Morris 1973). How good a learnware is at home says little of it elsewhere, and the other way round.

Nothing is fitted on the task that is asked about. Without signals the order is that of match alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

PRIOR_BONUS = 1.0
"""What nearness is worth before any task was measured, counted as one task."""
RELIABLE_EXAMPLES = 25
"""A score of n examples weighs n / (n + 25): its sampling variance, at most 1/4n, is (0.1)² at 25."""
NEAR = 0.4
"""The least fit at which match has something to say (docs/log.md: tasks without a learnware of their own)."""
INDISTINGUISHABLE = 3.0
"""Differences of MMD² under this many times 1/n + 1/m are noise (95 % of an exponential distribution)."""

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Results:
    """What is known of c learnwares from t tasks other than the one asked about.

    ``standings`` are normal scores, float64 [t, c], NaN where a learnware was not measured; ``weights`` in
    (0, 1], of the same shape, say how much a measurement counts; ``near`` [t, c] is the nearness of each
    learnware to each task; ``likeness`` [t] of each task to the one asked about, in [0, 1].
    """

    standings: Doubles
    weights: Doubles
    near: Doubles
    likeness: Doubles


@dataclass(frozen=True)
class Expected:
    """Expected standings of c learnwares and their standard deviations, float64 [c].

    ``tasks`` [c] is how many measured tasks speak for each, in units of the task most alike.
    """

    mean: Doubles
    deviation: Doubles
    tasks: Doubles


def nearness(fit: Doubles, mmd: Doubles, noise: Doubles) -> Doubles:
    """Returns s in [0, 1], float64 [c]: fit² · exp(-(MMD² - min MMD²) / noise), 0 where the fit is under NEAR.

    ``noise`` is 1/n + 1/m for a task of n texts and a learnware of m: the variance of ‖μ̂ - μ‖² is at most
    this for a kernel with k(x, x) = 1.
    """
    if not len(mmd):
        return np.zeros(0)
    result: Doubles = np.where(fit >= NEAR, fit**2 * np.exp(-_excess(mmd, noise)), 0)
    return result


def nearest_ones(fit: Doubles, mmd: Doubles, noise: Doubles) -> Mask:
    """Tells which learnwares cannot be told from the nearest, none if its fit is under NEAR."""
    if not len(mmd) or fit[mmd.argmin()] < NEAR:
        return np.zeros(len(mmd), dtype=np.bool_)
    result: Mask = (_excess(mmd, noise) <= INDISTINGUISHABLE) & (fit >= NEAR)
    return result


def standings(values: Doubles) -> Doubles:
    """Returns the normal scores of ``values`` [c] by rank, 0 where all are equal; NaN stays NaN."""
    found = np.full(len(values), np.nan)
    known = ~np.isnan(values)
    if known.any():
        found[known] = ndtri((rankdata(values[known]) - 0.5) / known.sum())
    return found


def expect(near: Doubles, results: Results, gains: Doubles) -> Expected:
    """Returns what to expect of c learnwares whose nearness to the task is ``near`` [c].

    ``gains`` [c] are the standings of their verified gains on their own examples, NaN where unknown; half of
    it is added to the bonus, since one result says half (see ``_variances``).
    """
    known = ~np.isnan(results.standings)
    scores = np.where(known, results.standings, 0)
    weights = np.where(known, results.weights, 0)
    bonus, spread = _bonus(scores, weights * results.near)
    away = weights * (1 - results.near)
    between, within = _variances(scores, away)
    likeness = results.likeness / max(results.likeness.max(initial=0), 1e-9)
    alike = away * likeness[:, None]
    tasks = alike.sum(axis=0)
    shrinking = within / between
    home = bonus + np.nan_to_num(gains) / 2
    mean = home * near + (alike * scores).sum(axis=0) / (tasks + shrinking)
    unsure = within + between * shrinking / (tasks + shrinking)
    return Expected(mean, np.sqrt(near * spread + (1 - near) * unsure), tasks)


def _excess(mmd: Doubles, noise: Doubles) -> Doubles:
    result: Doubles = (mmd**2 - mmd.min() ** 2) / noise
    return result


def _bonus(scores: Doubles, home: Doubles) -> tuple[float, float]:
    """The mean standing of learnwares at home and its variance, one vote a task, with one vote for the prior."""
    total = home.sum(axis=1, keepdims=True)
    votes = home / np.maximum(total, 1)
    count = 1 + votes.sum()
    mean = (PRIOR_BONUS + (votes * scores).sum()) / count
    return float(mean), float((1 + (votes * (scores - mean) ** 2).sum()) / count)


def _variances(scores: Doubles, weights: Doubles) -> tuple[float, float]:
    """Variance between learnwares and within one from task to task: one-way, by moments.

    The prior, worth one measurement, is a variance of 1 and half of it within.
    """
    counts = weights.sum(axis=0)
    means = (weights * scores).sum(axis=0) / np.maximum(counts, 1e-9)
    total = ((weights * scores**2).sum() + 1) / (weights.sum() + 1)
    freedom = np.maximum(counts - 1, 0).sum() + 1
    within = ((weights * (scores - means) ** 2).sum() + 0.5) / freedom
    return float(max(total - within, 0.05 * total)), float(within)
