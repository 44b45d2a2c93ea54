import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specification import join_views, views_dimension
from specification.views import LAYOUT, MAX_CHARACTERS, WORDS

DIMENSION = 8
LAYOUT_OF_THE_QUESTION = [
    0.699, 0.22, 0.644, 0.416, 0.416, 0.139, 0, 0.22, 0, 0, 0, 0, 0.125, 0.125, 0, 0, 0, 0.4, 0,
]  # fmt: skip
WORDS_OF_THE_QUESTION = [
    10, 40, 50, 60, 73, 85, 89, 106, 109, 149, 150, 180, 206, 224, 228, 250, 251, 252, 255,
]  # fmt: skip


def views(*texts: str) -> np.ndarray:
    return join_views(texts, np.ones((len(texts), DIMENSION), dtype=np.float32))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=4))
def test_any_texts_give_finite_bounded_vectors_that_do_not_depend_on_each_other(texts: list[str]) -> None:
    joined = views(*texts)
    assert joined.shape == (len(texts), views_dimension(DIMENSION))
    assert joined.dtype == np.float32
    assert np.isfinite(joined).all()
    assert np.abs(joined).max() <= 4
    assert np.array_equal(joined, np.concatenate([views(text) for text in texts]))


def test_a_huge_text_is_read_up_to_its_limit() -> None:
    huge = "word 7? " * 200_000
    assert np.array_equal(views(huge), views(huge[:MAX_CHARACTERS]))
    assert np.array_equal(views(f"\n {huge[:100]} "), views(huge[:100]))


def test_layout_and_words_are_told_apart() -> None:
    first, second, third = views("Is it so?\nA. yes\nB. no", "Is it so?\nA. no\nB. yes", "It is so!")
    words = slice(DIMENSION + LAYOUT, None)
    layout = slice(DIMENSION, DIMENSION + LAYOUT)
    assert first[layout] == pytest.approx(second[layout], abs=0.2)
    assert np.linalg.norm(first[layout] - third[layout]) > 0.3
    assert np.linalg.norm(first[words]) == pytest.approx(1, abs=1e-5)
    assert first[words] @ second[words] > 0.4 > first[words] @ third[words]
    assert len(first[words]) == WORDS


def test_the_numbers_are_pinned_to_the_version() -> None:
    """Changes of these numbers need another VIEWS: specifications made before would be compared wrongly."""
    joined = views("Question: what is 7 + 5?\nAnswer:")[0]
    layout = joined[DIMENSION : DIMENSION + LAYOUT]
    assert layout == pytest.approx(LAYOUT_OF_THE_QUESTION, abs=1e-3)
    places = np.flatnonzero(joined[DIMENSION + LAYOUT :])
    assert places.tolist() == WORDS_OF_THE_QUESTION
