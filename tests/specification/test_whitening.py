import numpy as np
import pytest
from scipy.stats import multivariate_normal

from specification import PromptSketch, Whitening
from specification.views import views_dimension
from specification.whitening import LARGEST_TRACE
from tests.conftest import DIMENSION, IDENTITY, make_specification

WIDTH = views_dimension(DIMENSION)


def sketches(count: int) -> list[PromptSketch]:
    found = (make_specification(seed, prompt=True).prompt for seed in range(count))
    return [sketch for sketch in found if sketch is not None]


def covariance(parts: list[PromptSketch]) -> np.ndarray:
    """The shrunk pooled covariance, written out."""
    freedom = sum(len(part.points) - 1 for part in parts)
    total = sum(np.outer(row, row) for part in parts for row in part.scatter.astype(np.float64))
    trace = np.trace(total) / freedom
    return np.asarray((total + trace * np.eye(WIDTH)) / (freedom + WIDTH))


def test_likelihoods_agree_with_the_predictive_density_written_out() -> None:
    parts = sketches(30)
    whitening = Whitening.estimate(parts, IDENTITY, 30)
    prompt = parts[3].points[0]
    means, sizes = np.stack([part.mean for part in parts]), np.array([2.0, 9.0, 500.0] * 10)
    found = whitening.log_likelihoods(prompt[None], means, sizes)[0]
    shrunk = covariance(parts)
    written = [
        multivariate_normal.logpdf(prompt, mean, shrunk * (1 + 1 / size))
        for mean, size in zip(means, sizes, strict=True)
    ]
    assert found - found[0] == pytest.approx(np.array(written) - written[0], abs=0.05)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_tiny_catalogue_compares_nearly_as_without_whitening(count: int) -> None:
    whitening = Whitening.estimate(sketches(count), IDENTITY, count)
    lengths = np.linalg.norm(np.linalg.qr(whitening.transform.T.astype(np.float64))[1].diagonal())
    values = np.linalg.svd(whitening.transform, compute_uv=False)
    assert lengths > 0
    assert np.median(values) / values.max() > 0.9


def test_one_learnware_that_lies_cannot_outweigh_the_others() -> None:
    loud = PromptSketch(
        np.eye(4, WIDTH, dtype=np.float32) * 4, make_specification(1, prompt=True).prompt.section  # type: ignore[union-attr]
        .model_copy(update={"sample_size": 10**9}),
    )  # fmt: skip
    whitening = Whitening.estimate([*sketches(9), loud], IDENTITY, 10)
    inverse = np.linalg.inv((whitening.transform @ whitening.transform.T).astype(np.float64))
    assert np.trace(inverse) < LARGEST_TRACE


def test_files_come_back_and_others_are_left_aside() -> None:
    whitening = Whitening.estimate(sketches(5), IDENTITY, 5)
    again = Whitening.from_bytes(whitening.to_bytes(), IDENTITY)
    assert again is not None
    assert (again.version, again.learnwares, again.freedom) == (whitening.version, 5, 15)
    other = IDENTITY.model_copy(update={"weights_sha256": "1" * 64})
    assert Whitening.from_bytes(whitening.to_bytes(), other) is None
    damaged = bytearray(whitening.to_bytes())
    damaged[-1] ^= 1
    for data in (bytes(damaged), b"", b"\0" * 100, whitening.to_bytes()[:-5]):
        assert Whitening.from_bytes(data, IDENTITY) is None
