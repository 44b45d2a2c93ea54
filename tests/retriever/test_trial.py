"""The posterior against the joint Gaussian written out, and against counting."""

import numpy as np
import pytest

from retriever.trial import LEVEL, TrialPrior, _likelihood, posterior, shortlist
from specification.errors import InvalidInput

SIMILARITY = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.1], [0.1, 0.1, 1.0]])
PRIOR = TrialPrior(np.array([0.9, 0.8, 0.1]), SIMILARITY)


def answers(truth: list[float], count: int, seed: int = 0) -> np.ndarray:
    """Right-or-wrong scores with a difficulty that all candidates share."""
    generator = np.random.default_rng(seed)
    ease = generator.normal(0, 0.3, size=(count, 1))
    result: np.ndarray = (generator.random((count, len(truth))) < np.clip(np.array(truth) + ease, 0, 1)).astype(
        float
    )
    return result


def test_agrees_with_the_joint_gaussian_written_out() -> None:
    scores = answers([0.8, 0.6, 0.3], 20)
    scores[8:, 2] = np.nan
    known = np.isfinite(scores)
    precision, pull = _likelihood(scores, known)
    means, covariances = PRIOR.hypotheses
    observed = np.linalg.inv(precision)
    evidence, centres = [], []
    for mean, covariance in zip(means, covariances, strict=True):
        total = covariance + observed
        rest = observed @ pull - mean
        solved = np.linalg.solve(total, rest)
        evidence.append(-0.5 * rest @ solved - 0.5 * np.linalg.slogdet(total)[1])
        centres.append(mean + covariance @ solved)
    weights = np.exp(np.array(evidence) - max(evidence))
    expected = weights @ np.array(centres) / weights.sum()
    assert posterior(PRIOR, scores).mean == pytest.approx(expected, abs=2e-3)


def test_probabilities_are_those_of_counting() -> None:
    """Candidates drawn from one hypothesis of the prior, then kept where they gave the same scores as ours."""
    prior = TrialPrior(np.zeros(2), np.eye(2))
    scores = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    generator = np.random.default_rng(1)
    means, covariances = prior.hypotheses
    picks = generator.integers(len(means), size=2_000_000)
    factors = np.linalg.cholesky(covariances)
    truth = means[picks] + np.einsum("nij,nj->ni", factors[picks], generator.standard_normal((len(picks), 2)))
    drawn = generator.binomial(4, np.clip(truth, 0, 1)) == scores.sum(axis=0)
    alike = truth[drawn.all(axis=1)]
    belief = posterior(prior, scores)
    assert belief.better(0, 1) == pytest.approx((alike[:, 0] > alike[:, 1]).mean(), abs=0.05)
    assert belief.mean == pytest.approx(alike.mean(axis=0), abs=0.06)


def test_without_scores_it_is_the_prior() -> None:
    belief = posterior(PRIOR, np.zeros((0, 3)))
    assert belief.winner == 0
    assert belief.mean.mean() == pytest.approx(LEVEL)
    assert belief.best.sum() == pytest.approx(1)


def test_many_scores_outweigh_the_prior() -> None:
    belief = posterior(PRIOR, answers([0.3, 0.4, 0.8], 400))
    assert belief.winner == 2
    assert belief.best[2] > 0.99
    low, high = belief.interval(2)
    assert low < belief.mean[2] < high
    assert high - low < 0.15


def test_strength_is_shared_between_near_copies() -> None:
    """The second learnware was not asked, but its near-copy did well: it is thought better than the stranger."""
    scores = answers([0.9, 0.9, 0.5], 60)
    scores[:, 1] = np.nan
    mean = posterior(TrialPrior(np.zeros(3), SIMILARITY), scores).mean
    assert mean[1] > mean[2] + 0.1


def test_shared_difficulty_is_no_noise() -> None:
    """The same two candidates, told apart far better where both answer the same examples."""
    ease = np.repeat([0.0, 1.0], 50)[:, None]
    paired = np.clip(ease + np.array([[0.0, -0.1]]) * (np.arange(100) % 5 == 0)[:, None], 0, 1)
    shuffled = paired.copy()
    shuffled[:, 1] = np.random.default_rng(0).permutation(shuffled[:, 1])
    prior = TrialPrior(np.zeros(2), np.eye(2))
    gap = [np.std(np.subtract(*posterior(prior, scores).draws.T)) for scores in (paired, shuffled)]
    assert gap[0] < gap[1] / 3


def test_scores_on_other_tasks_say_who_goes_together() -> None:
    capability = np.array([[0.9, 0.2, 0.9], [0.8, 0.3, 0.8], [0.1, 0.7, np.nan]])
    scores = answers([0.9, 0.4, 0.5], 60)
    scores[:, 2] = np.nan
    alone = posterior(TrialPrior(np.zeros(3), np.eye(3)), scores).mean
    told = posterior(TrialPrior(np.zeros(3), np.eye(3), capability), scores).mean
    assert told[2] - told[1] > alone[2] - alone[1] + 0.05


def test_equal_candidates_and_perfect_scores_are_no_trouble() -> None:
    prior = TrialPrior(np.full(3, 0.5), np.ones((3, 3)))
    for scores in (np.ones((4, 3)), np.zeros((1, 3)), np.ones((1, 3))):
        belief = posterior(prior, scores)
        assert np.isfinite(belief.draws).all()
        assert belief.best.sum() == pytest.approx(1)
    one = posterior(TrialPrior(np.ones(1), np.ones((1, 1))), np.ones((2, 1)))
    assert one.best == pytest.approx([1])


def test_a_shortlist_is_no_row_of_copies() -> None:
    """Nine near-copies fit best; of three places, one at least goes to another."""
    fit = np.array([0.9] * 9 + [0.88, 0.87])
    similarity = np.full((11, 11), 0.05) + 0.95 * np.eye(11)
    similarity[:9, :9] = 0.999
    chosen = shortlist(TrialPrior(fit, similarity), 3)
    assert chosen[0] < 9
    assert max(chosen) >= 9
    assert sorted(shortlist(TrialPrior(fit, similarity), 99)) == list(range(11))


@pytest.mark.parametrize(
    ("fit", "similarity", "scores", "message"),
    [
        (np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0)), "0 candidates"),
        (np.zeros(2), np.eye(3), np.zeros((0, 2)), "similarity"),
        (np.zeros(2), np.eye(2), np.zeros((1, 3)), "scores of shape"),
        (np.zeros(2), np.eye(2), np.array([[0.0, 1.5]]), "outside"),
        (np.zeros(2), np.eye(2), np.array([[0.0, np.inf]]), "outside"),
    ],
)
def test_what_makes_no_sense(fit: np.ndarray, similarity: np.ndarray, scores: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        posterior(TrialPrior(fit, similarity), scores)
