"""Tasks whose parts are known: points far apart, drawn samples, and what must not be told apart."""

import numpy as np
import pytest

from retriever.separation import MIN_WEIGHT, Sketch, Solution, separate
from specification import ReducedSet, mmd, reduce
from tests.conftest import DIMENSION, unit_vectors

GAMMA = 2.0
EVERY = 6


def exact(points: np.ndarray, weights: list[float], sample_size: int = 10**9) -> Sketch:
    """A sketch without any noise."""
    return Sketch(ReducedSet(points.astype(np.float32), np.array(weights, dtype=np.float32)), sample_size)


def sketched(sample: np.ndarray, size: int = 16) -> Sketch:
    """A sketch as ``specify`` makes it."""
    reduced = reduce(sample, size)
    uniform = ReducedSet(sample, np.full(len(sample), 1 / len(sample), dtype=np.float32))
    error = mmd(uniform, reduced)
    return Sketch(reduced, len(sample), error)


def cloud(source: int, count: int, draw: int) -> np.ndarray:
    """Texts of one of several overlapping sources."""
    centre = unit_vectors(1, source)[0]
    noise = np.random.default_rng((source, draw)).normal(size=(count, DIMENSION))
    vectors = centre + 0.25 * noise
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def weights(solution: Solution) -> dict[int, float]:
    return {part.place: part.weight for part in solution.parts}


AXES = np.eye(DIMENSION)


def test_weights_of_separate_points_are_exact() -> None:
    task = exact(AXES[:3], [0.5, 0.3, 0.2])
    solution = separate(task, [exact(AXES[[place]], [1]) for place in (4, 2, 0, 1)], GAMMA)
    assert weights(solution) == pytest.approx({2: 0.5, 3: 0.3, 1: 0.2}, abs=1e-5)
    assert [part.place for part in solution.parts] == [2, 3, 1]
    assert solution.unknown == pytest.approx(0, abs=1e-5)
    assert solution.residual == pytest.approx(0, abs=1e-5)


def test_what_no_candidate_has_is_unknown() -> None:
    task = exact(AXES[:2], [0.7, 0.3])
    solution = separate(task, [exact(AXES[[0]], [1])], GAMMA)
    # exp(-2γ) is what the two points still have in common.
    assert weights(solution) == pytest.approx({0: 0.7}, abs=2 * np.exp(-2 * GAMMA))
    assert solution.unknown == pytest.approx(0.3, abs=2 * np.exp(-2 * GAMMA))


def test_nothing_to_choose_from() -> None:
    solution = separate(exact(AXES[:2], [0.7, 0.3]), [], GAMMA)
    assert (solution.parts, solution.unknown) == ((), 1.0)


def test_a_copy_takes_no_part() -> None:
    learnware = exact(AXES[:2], [0.5, 0.5], sample_size=100)
    solution = separate(learnware, [learnware, learnware], GAMMA)
    assert list(weights(solution)) == [0]


def test_parts_under_the_least_weight_are_pruned_with_a_reason() -> None:
    task = exact(AXES[:2], [1 - MIN_WEIGHT / 2, MIN_WEIGHT / 2])
    solution = separate(task, [exact(AXES[[0]], [1]), exact(AXES[[1]], [1])], GAMMA)
    assert list(weights(solution)) == [0]
    assert [(part.place, part.reason) for part in solution.pruned] == [(1, "its weight of 0.03 is under 0.05")]


def test_parts_smaller_than_what_fits_nothing_are_pruned() -> None:
    task = exact(AXES[:3], [0.5, 0.3, 0.2])
    solution = separate(task, [exact(AXES[[0]], [1]), exact(AXES[[2]], [1])], GAMMA)
    assert list(weights(solution)) == [0]
    assert "less than what fits nothing" in solution.pruned[0].reason


@pytest.mark.parametrize("count", [24, 64, 200])
def test_pure_samples_stay_pure(count: int) -> None:
    candidates = [sketched(cloud(source, 100, 0)) for source in range(EVERY)]
    found = [separate(sketched(cloud(source, count, 1), 12), candidates, GAMMA) for source in range(EVERY)]
    assert [list(weights(solution)) for solution in found] == [[source] for source in range(EVERY)]
    # Noise explains the residual: it stops there although every candidate more would lower it.
    assert all(solution.residual < 2 * solution.noise for solution in found)


def test_mixed_samples_get_their_shares() -> None:
    candidates = [sketched(cloud(source, 100, 0)) for source in range(EVERY)]
    errors = []
    for source in range(EVERY):
        other = (source + 1) % EVERY
        task = np.concatenate([cloud(source, 90, 1), cloud(other, 60, 1)])
        found = weights(separate(sketched(task), candidates, GAMMA))
        assert set(found) == {source, other}
        errors.append(abs(found[source] - 0.6) + abs(found[other] - 0.4))
    assert np.mean(errors) < 0.1


def test_the_standard_error_is_that_of_repeated_samples() -> None:
    candidates = [exact(np.eye(DIMENSION)[[place]], [1], 10**6) for place in (0, 1)]
    generator, found, errors = np.random.default_rng(0), [], []
    for _ in range(200):
        share = generator.binomial(50, 0.5) / 50
        solution = separate(exact(AXES[:2], [share, 1 - share], 50), candidates, GAMMA)
        part = next(part for part in solution.parts if part.place == 0)
        found.append(part.weight)
        errors.append(part.error)
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.15)
