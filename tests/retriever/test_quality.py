import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from retriever.quality import (
    INDISTINGUISHABLE,
    Results,
    expect,
    nearest_ones,
    nearness,
    standings,
)

COUNT = 4
UNKNOWN = np.full(COUNT, np.nan)


def results(scores: list[list[float]], near: float = 0.0, likeness: list[float] | None = None) -> Results:
    values = np.array(scores).reshape(-1, COUNT)
    return Results(
        np.array([standings(row) for row in values]).reshape(-1, COUNT),
        np.ones_like(values),
        np.full_like(values, near),
        np.ones(len(values)) if likeness is None else np.array(likeness),
    )


def test_standings_are_normal_scores_of_ranks() -> None:
    found = standings(np.array([10.0, np.nan, 30.0, 20.0, 20.0]))
    assert np.isnan(found[1])
    assert found[2] == -found[0] == pytest.approx(1.150, abs=1e-3)
    assert found[3] == found[4] == pytest.approx(0)
    assert standings(np.array([7.0]))[0] == 0


@given(some.lists(some.floats(0, 1), min_size=COUNT, max_size=COUNT))
def test_without_results_the_expectation_is_the_nearness(near: list[float]) -> None:
    expected = expect(np.array(near), results([]), UNKNOWN)
    assert expected.mean == pytest.approx(near)
    assert expected.tasks == pytest.approx(0)


def test_good_elsewhere_is_expected_to_be_good_and_the_more_so_the_more_was_measured() -> None:
    once = expect(np.zeros(COUNT), results([[1, 2, 3, 4]]), UNKNOWN)
    often = expect(np.zeros(COUNT), results([[1, 2, 3, 4]] * 10), UNKNOWN)
    assert list(often.mean) == sorted(often.mean)
    assert 0 < once.mean[-1] < often.mean[-1] < 1.2
    assert often.deviation[0] < once.deviation[0]


def test_tasks_that_are_like_the_one_asked_about_count_more() -> None:
    rows = [[1.0, 2, 3, 4], [4.0, 3, 2, 1]]
    assert expect(np.zeros(COUNT), results(rows, likeness=[0.9, 0.1]), UNKNOWN).mean[-1] > 0
    assert expect(np.zeros(COUNT), results(rows, likeness=[0.1, 0.9]), UNKNOWN).mean[-1] < 0


def test_results_at_home_tell_what_nearness_is_worth_and_nothing_else() -> None:
    near = np.array([0.9, 0, 0, 0])
    good, bad = results([[9, 1, 2, 3]] * 3), results([[1, 2, 3, 9]] * 3)
    for found in (good, bad):
        found.near[:, 0] = 1
    assert expect(near, good, UNKNOWN).mean[0] > 0.9 > expect(near, bad, UNKNOWN).mean[0]
    assert expect(np.zeros(COUNT), good, UNKNOWN).mean[0] == 0


def test_a_verified_gain_raises_the_expectation_at_home_only() -> None:
    gains = np.array([1.0, np.nan, -1.0, np.nan])
    home = expect(np.full(COUNT, 0.8), results([]), gains).mean
    assert list(home) == pytest.approx([1.2, 0.8, 0.4, 0.8])
    assert not expect(np.zeros(COUNT), results([]), gains).mean.any()


def test_nearness_falls_with_what_cannot_be_chance() -> None:
    fit, mmd, noise = np.array([0.9, 0.85, 0.5, 0.1]), np.array([0.1, 0.12, 0.7, 1.2]), np.full(COUNT, 0.02)
    near = nearness(fit, mmd, noise)
    assert near[0] == pytest.approx(0.81)
    assert 0.5 < near[1] < near[0]
    assert near[2] < 1e-9
    assert near[3] == 0
    assert list(nearest_ones(fit, mmd, noise)) == [True, True, False, False]
    assert not nearest_ones(fit / 3, mmd, noise).any()
    few = np.full(COUNT, 0.5 / INDISTINGUISHABLE)
    assert list(nearest_ones(fit, mmd, few)) == [True, True, True, False]
