"""Trials in rounds, on simulated scores with a fixed seed."""

import numpy as np
import pytest

from retriever.halving import HalvingRule, Round, Trial, simulate
from retriever.trial import TrialPrior
from specification.errors import InvalidInput

COUNT = 8
FLAT = TrialPrior(np.zeros(COUNT), np.eye(COUNT))


def drawn(truth: np.ndarray, examples: int, seed: int) -> np.ndarray:
    result: np.ndarray = (np.random.default_rng(seed).random((examples, len(truth))) < truth).astype(float)
    return result


def test_the_best_is_dropped_no_more_often_than_the_risk() -> None:
    """Truths drawn from the model itself, so that the promise holds exactly but for the draws."""
    rule = HalvingRule(risk=0.1, tolerance=0)
    generator = np.random.default_rng(3)
    dropped, saved, runs = 0, [], 150
    for run in range(runs):
        truth = np.clip(0.5 + generator.normal(0, 0.16, COUNT), 0.02, 0.98)
        trial = Trial(FLAT, 128, rule)
        simulate(trial, drawn(truth, 128, run))
        dropped += int(truth.argmax()) not in trial.alive
        saved.append(1 - trial.spent / (128 * COUNT))
    assert dropped / runs <= rule.risk
    assert np.mean(saved) > 0.4


def test_without_risk_everyone_answers_everything() -> None:
    trial = Trial(FLAT, 20, HalvingRule(risk=0, tolerance=0))
    simulate(trial, drawn(np.linspace(0.1, 0.9, COUNT), 20, 0))
    assert (trial.spent, trial.stopped, trial.winner) == (20 * COUNT, "examples", COUNT - 1)


def test_rounds_double_until_the_examples_end() -> None:
    trial = Trial(FLAT, 20, HalvingRule(risk=0, tolerance=0))
    rounds = []
    while (asked := trial.next()) is not None:
        rounds.append((asked.start, asked.stop))
        trial.add(np.full((asked.stop - asked.start, len(asked.candidates)), 0.5))
    assert rounds == [(0, 8), (8, 16), (16, 20)]
    assert Trial(FLAT, 3).next() == Round(0, 3, tuple(range(COUNT)))


def test_a_clear_winner_ends_the_trial_early() -> None:
    trial = Trial(FLAT, 1024)
    simulate(trial, drawn(np.array([0.95] + [0.2] * (COUNT - 1)), 1024, 0))
    assert trial.winner == 0
    assert trial.stopped in ("alone", "clear")
    assert trial.asked <= 64


def test_candidates_that_are_all_alike_end_the_trial_early() -> None:
    trial = Trial(FLAT, 4096, HalvingRule(tolerance=0.02))
    simulate(trial, np.repeat(drawn(np.full(1, 0.7), 4096, 0), COUNT, axis=1))
    assert trial.stopped == "clear"
    assert trial.asked < 4096


def test_who_fails_never_wins() -> None:
    trial = Trial(FLAT, 16, HalvingRule(risk=0))
    asked = trial.next()
    assert asked is not None
    scores = np.tile(np.linspace(0, 1, COUNT), (8, 1))
    scores[4:, -1] = np.nan
    trial.add(scores)
    assert trial.winner == COUNT - 2
    following = trial.next()
    assert following is None or COUNT - 1 not in following.candidates


def test_mistakes_are_named() -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        Trial(FLAT, 0)
    with pytest.raises(InvalidInput, match="shape"):
        Trial(FLAT, 8).add(np.zeros((8, COUNT - 1)))
    with pytest.raises(InvalidInput, match="no candidate could answer"):
        Trial(FLAT, 8).add(np.full((8, COUNT), np.nan))
