import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retriever.layout import Layout
from specification.kernel import Floats


def groups(count: int, each: int, spread: float = 0.05) -> tuple[Floats, NDArray[np.int64]]:
    """Vectors about ``count`` orthogonal axes of 32 dimensions, and which axis each is about."""
    labels = np.repeat(np.arange(count), each)
    noise = np.random.default_rng(3).normal(scale=spread, size=(len(labels), 32))
    return (np.eye(32)[labels] + noise).astype(np.float32), labels


def nearest(places: Floats, count: int) -> NDArray[np.int64]:
    distances = np.square(places[:, None] - places[None]).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    found: NDArray[np.int64] = distances.argsort(axis=1)[:, :count]
    return found


def test_neighbours_stay_together_and_newcomers_join_them() -> None:
    vectors, labels = groups(5, 60)
    first = np.arange(len(vectors)) % 2 == 0
    layout = Layout.of(vectors[first])
    places = layout.put(vectors)
    assert (labels[nearest(places, 5)] == labels[:, None]).mean() > 0.95
    assert np.abs(places).max() <= 1
    np.testing.assert_allclose(places[first], layout.places, atol=1e-3)


def test_the_same_vectors_get_the_same_places() -> None:
    vectors, _ = groups(3, 20)
    np.testing.assert_array_equal(Layout.of(vectors).places, Layout.of(vectors).places)


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_a_few_have_places_too(count: int, equal: bool) -> None:
    vectors = np.ones((count, 8), dtype=np.float32) if equal else np.eye(8, dtype=np.float32)[:count]
    layout = Layout.of(vectors)
    assert layout.places.shape == (count, 2)
    assert np.isfinite(layout.places).all()
    assert len(np.unique(layout.places.round(3), axis=0)) == count
    assert np.isfinite(layout.put(np.ones((2, 8), dtype=np.float32))).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_everybody_is_put_among_the_landmarks(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    landmarks = generator.normal(size=(count, 6)).astype(np.float32)
    layout = Layout(landmarks, generator.uniform(-1, 1, size=(count, 2)).astype(np.float32))
    put = layout.put(generator.normal(scale=3, size=(9, 6)).astype(np.float32))
    low, high = layout.places.min(axis=0), layout.places.max(axis=0)
    assert ((put >= low - 1e-5) & (put <= high + 1e-5)).all()
