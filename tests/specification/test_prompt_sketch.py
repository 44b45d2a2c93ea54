import numpy as np
import pytest

from specification import PromptSketch, SentenceEncoder, Specification, StoredSpecification, specify
from specification.errors import InvalidSpecification
from specification.prompt_sketch import PromptSection
from tests.conftest import make_specification


def test_points_average_at_least_two_texts_and_keep_the_mean() -> None:
    views = np.random.default_rng(0).normal(size=(21, 30)).astype(np.float32)
    sketch = PromptSketch.of(views)
    assert sketch.points.shape == (4, 30)
    assert sketch.sizes.tolist() == [6, 5, 5, 5]
    assert sketch.mean == pytest.approx(views.mean(axis=0), abs=1e-3)
    assert len(PromptSketch.of(views[:5]).points) == 2
    assert len(PromptSketch.of(views[:2]).points) == 1
    assert np.array_equal(PromptSketch.of(views).points, sketch.points)


def test_the_scatter_estimates_the_texts_covariance_without_bias() -> None:
    generator = np.random.default_rng(1)
    scale = np.array([1.0, 2.0, 0.5], dtype=np.float32)
    total = np.zeros((3, 3))
    for _ in range(2000):
        scatter = PromptSketch.of((generator.normal(size=(10, 3)) * scale).astype(np.float32)).scatter
        total += scatter.T @ scatter / 3
    assert total / 2000 == pytest.approx(np.diag(scale**2), abs=0.15)


def test_specify_adds_the_section_and_files_keep_it(encoder: SentenceEncoder) -> None:
    made = specify(["Is gold up?", "Is gold down?", "Is it so?", "Was it so?"], encoder)
    assert made.prompt is not None
    again = Specification.from_bytes(made.to_bytes())
    assert again.prompt is not None
    assert again.digest == made.digest
    assert np.array_equal(again.prompt.points, made.prompt.points)
    alone = StoredSpecification(made.to_bytes()).prompt
    assert alone is not None
    assert alone.section == made.prompt.section
    assert StoredSpecification(make_specification(1).to_bytes()).prompt is None


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((2, 7)), "291"),
        (np.zeros((6, 291)), "from 1 to 5"),
        (np.full((2, 291), np.nan), "NaN"),
        (np.full((2, 291), 5), "numbers over"),
        (np.zeros(291), "prompt.points"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(points: np.ndarray, message: str) -> None:
    good = make_specification(1)
    bad = PromptSketch(points.astype(np.float32), PromptSection(sample_size=10))
    with pytest.raises(InvalidSpecification, match=message):
        Specification.from_bytes(Specification(good.reduced_set, good.section, prompt=bad).to_bytes())


def test_a_section_of_other_views_is_kept_as_it_is() -> None:
    good = make_specification(1)
    other = PromptSketch(np.ones((2, 7), dtype=np.float32), PromptSection(views="others-9", sample_size=10))
    again = Specification.from_bytes(Specification(good.reduced_set, good.section, prompt=other).to_bytes())
    assert again.prompt is not None
    assert again.prompt.points.shape == (2, 7)
