import numpy as np
import pytest

from specification import FeatureMap, ReducedSet, compare, gaussian, mmd, reduce
from specification.errors import InvalidExamples
from tests.conftest import unit_vectors


def uniform(sample: np.ndarray) -> ReducedSet:
    return ReducedSet(sample, np.full(len(sample), 1 / len(sample), dtype=np.float32))


def test_mmd_equals_the_double_sums_written_out() -> None:
    left, right = make(5, 1), make(7, 2)
    terms = [(left, left, 1), (left, right, -2), (right, right, 1)]
    expected = 0.0
    for a, b, sign in terms:
        for x, wx in zip(a.points, a.weights, strict=True):
            for y, wy in zip(b.points, b.weights, strict=True):
                expected += sign * wx * wy * np.exp(-2.0 * float(((x - y) ** 2).sum()))
    assert mmd(left, right) == pytest.approx(np.sqrt(expected), rel=1e-4)


def test_many_pairs_at_once_equal_one_by_one() -> None:
    task, others = make(5, 1), [make(size, size) for size in (1, 3, 8)]
    together = compare(task, others)
    assert together.mmd == pytest.approx([mmd(task, other) for other in others], abs=1e-6)
    assert ((together.overlap >= 0) & (together.overlap <= 1)).all()
    assert compare(task, [task]).overlap[0] == pytest.approx(1, abs=1e-5)
    assert compare(task, [task]).cosine[0] == pytest.approx(1, abs=1e-5)
    assert len(compare(task, []).mmd) == 0


def test_reduced_set_is_close_to_its_sample_and_closer_than_a_random_subset() -> None:
    sample = np.concatenate([unit_vectors(50, seed) for seed in range(4)])
    reduced = reduce(sample, 8)
    subset = uniform(sample[np.random.default_rng(0).permutation(200)[:8]])
    assert reduced.weights.sum() == pytest.approx(1, abs=1e-5)
    assert (reduced.weights > 0).all()
    assert mmd(uniform(sample), reduced) < 0.7 * mmd(uniform(sample), subset)


def test_more_points_lose_less() -> None:
    sample = unit_vectors(200, 3)
    errors = [mmd(uniform(sample), reduce(sample, size)) for size in (2, 8, 32)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(("count", "size"), [(10, 6), (10, 0), (3, 2)])
def test_refuses_a_reduced_set_that_is_no_sketch(count: int, size: int) -> None:
    with pytest.raises(InvalidExamples, match="no sketch"):
        reduce(unit_vectors(count, 0), size)


def test_refuses_one_example() -> None:
    with pytest.raises(InvalidExamples, match="at least 2"):
        reduce(unit_vectors(1, 0))


def test_equal_texts_make_a_valid_reduced_set() -> None:
    reduced = reduce(np.repeat(unit_vectors(1, 0), 20, axis=0))
    assert reduced.weights.sum() == pytest.approx(1, abs=1e-5)
    assert np.isfinite(reduced.points).all()


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-4, 1e-6])
def test_near_duplicates_make_a_valid_reduced_set(noise: float) -> None:
    generator = np.random.default_rng(0)
    sample = unit_vectors(1, 0) + noise * generator.normal(size=(64, 16))
    sample = (sample / np.linalg.norm(sample, axis=1, keepdims=True)).astype(np.float32)
    reduced = reduce(sample)
    assert reduced.weights.sum() == pytest.approx(1, abs=1e-5)
    assert mmd(uniform(sample), reduced) < 0.05


def test_feature_map_approximates_mmd_and_is_reproducible() -> None:
    pairs = [(make(8, seed), make(8, seed + 50)) for seed in range(20)]
    feature_map = FeatureMap(input_dimension=16, dimension=4096)
    exact = np.array([mmd(*pair) for pair in pairs])
    approximate = np.array([np.linalg.norm(np.subtract(*feature_map.embed([a, b]))) for a, b in pairs])
    assert np.abs(exact - approximate).max() < 0.03
    again = FeatureMap.model_validate_json(feature_map.model_dump_json())
    assert np.array_equal(again.embed(pairs[0]), feature_map.embed(pairs[0]))
    assert not np.allclose(feature_map.model_copy(update={"seed": 1}).embed(pairs[0]), feature_map.embed(pairs[0]))


def test_gaussian_kernel_is_one_on_the_diagonal() -> None:
    vectors = unit_vectors(5, 0)
    assert np.diag(gaussian(vectors, vectors, 4.0)) == pytest.approx(np.ones(5), abs=1e-5)


def make(size: int, seed: int) -> ReducedSet:
    weights = np.random.default_rng(seed).random(size).astype(np.float32)
    return ReducedSet(unit_vectors(size, seed), weights / weights.sum())


def test_no_point_is_a_single_text() -> None:
    outliers = -unit_vectors(1, 5)
    sample = np.concatenate([unit_vectors(40, 1), np.repeat(outliers, 3, axis=0), unit_vectors(20, 2)])
    for size in (1, 4, 16, 31):
        points = reduce(sample, size).points
        assert (points @ sample.T).max() < 0.9999


def test_the_same_text_alone_is_one_point() -> None:
    assert len(reduce(np.repeat(unit_vectors(1, 1), 8, axis=0), 4)) == 1
