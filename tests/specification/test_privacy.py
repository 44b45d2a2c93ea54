from math import erf, erfc, exp, sqrt
from random import Random

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import kstest

from specification import NO_PRIVACY, Privacy, SentenceEncoder, Specification, differential_privacy, specify
from specification.errors import InvalidExamples, InvalidInput, InvalidSpecification
from specification.privacy import MAX_NOISE, gaussian_delta, gaussian_scale, private_point, refit, sensitivity
from specification.record import Section
from specification.reduced_set import ReducedSet
from tests.conftest import IDENTITY, make_specification, unit_vectors

PRIVATE = differential_privacy(4.0, 1e-5)


def specification(privacy: Privacy = PRIVATE, points: int = 1, **fields: object) -> Specification:
    reduced = ReducedSet(unit_vectors(points, 1), np.full(points, 1 / points, dtype=np.float32))
    known = {"encoder": IDENTITY, "sample_size": 100, "gamma": 2.0, **fields}
    return Specification(reduced, Section.model_validate(known), privacy)


def test_the_scale_agrees_with_the_formula_written_out() -> None:
    def normal(x: float) -> float:
        return erfc(-x / sqrt(2)) / 2

    for epsilon in (0.01, 0.1, 1.0, 4.0, 8.0, 20.0):
        for delta in (1e-3, 1e-5, 1e-8):
            scale = gaussian_scale(epsilon, delta, 1)
            near, far = 0.5 / scale - epsilon * scale, -0.5 / scale - epsilon * scale
            assert normal(near) - exp(epsilon) * normal(far) == pytest.approx(delta, rel=1e-6)


def test_the_scale_is_the_one_other_libraries_give() -> None:
    assert gaussian_scale(1.0, 1e-5, 1) == pytest.approx(3.730632, rel=1e-6)


def test_at_epsilon_zero_delta_is_the_total_variation_of_two_gaussians() -> None:
    for ratio in (0.01, 0.5, 3.0):
        assert gaussian_delta(0, ratio) == pytest.approx(erf(ratio / (2 * sqrt(2))))


def test_the_scale_is_below_the_classical_one_and_never_breaks_the_promise() -> None:
    for epsilon in (0.01, 0.1, 0.5, 0.99):
        for delta in (1e-12, 1e-5, 0.1):
            scale = gaussian_scale(epsilon, delta, 1)
            assert scale < sqrt(2 * np.log(1.25 / delta)) / epsilon
            assert gaussian_delta(epsilon, 1 / scale) <= delta


def test_the_scale_is_proportional_to_the_sensitivity() -> None:
    assert PRIVATE.noise(50) == pytest.approx(2 * PRIVATE.noise(100))
    assert NO_PRIVACY.noise(50) == 0


@pytest.mark.parametrize("count", [2, 5, 40])
def test_no_neighbour_moves_the_mean_further_than_the_sensitivity(count: int) -> None:
    sample = unit_vectors(count, 3)
    furthest = 0.0
    for place in range(count):
        for other in (*unit_vectors(50, 4), -sample[place], 9 * unit_vectors(1, 5)[0]):
            neighbour = sample.copy()
            neighbour[place] = other
            moved = _noiseless(neighbour) - _noiseless(sample)
            furthest = max(furthest, float(np.linalg.norm(moved)))
    assert furthest == pytest.approx(sensitivity(count), rel=1e-6)


def _noiseless(sample: np.ndarray) -> np.ndarray:
    from specification.privacy import _mean

    return _mean(sample.astype(np.float32))


def test_noise_has_the_promised_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    sample, seen = unit_vectors(500, 6), []
    monkeypatch.setattr("specification.privacy.refit", lambda noisy: seen.append(noisy))
    source = Random(7)
    for _ in range(200):
        private_point(sample, PRIVATE, source)
    noise = (np.array(seen) - _noiseless(sample)) / PRIVATE.noise(500)
    assert kstest(noise.ravel(), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(noise.T) - np.eye(noise.shape[1])).max() < 0.35


def test_the_file_follows_from_the_noisy_mean_alone() -> None:
    noisy = np.random.default_rng(8).normal(size=16)
    once, again = (Specification(refit(noisy), specification().section, PRIVATE).to_bytes() for _ in range(2))
    assert once == again
    # Other texts, and noise that leads to the same noisy mean: the same point.
    left, right = unit_vectors(300, 9), unit_vectors(300, 10)
    target = refit(noisy).points[0].astype(np.float64)

    class Leading(Random):
        def __init__(self, sample: np.ndarray) -> None:
            super().__init__(0)
            self.rest = iter(target - _noiseless(sample))

        def gauss(self, mu: float = 0, sigma: float = 1) -> float:
            return float(next(self.rest))

    first, second = (private_point(sample, PRIVATE, Leading(sample)).points for sample in (left, right))
    assert np.array_equal(first, second)


def test_two_makings_differ_and_hold_one_unit_vector(encoder: SentenceEncoder) -> None:
    texts = [f"the harvest of wheat, case {number}" for number in range(60)]
    once, again = (specify(texts, encoder, privacy=differential_privacy(8)) for _ in range(2))
    assert once.digest != again.digest
    assert once.sample_size == 60
    assert once.section.compression_error is None
    assert np.linalg.norm(once.reduced_set.points[0]) == pytest.approx(1, abs=1e-3)


def test_comes_back_as_it_was() -> None:
    made = specification()
    again = Specification.from_bytes(made.to_bytes())
    assert (again.digest, again.privacy, again.section) == (made.digest, made.privacy, made.section)
    assert b"compression_error" not in made.to_bytes()


def test_files_without_privacy_keep_their_digest() -> None:
    assert make_specification(1).privacy.model_dump(exclude_none=True) == {"mechanism": "none"}


@pytest.mark.parametrize(
    "fields",
    [
        {"mechanism": "laplace"},
        {"mechanism": "gaussian"},
        {"mechanism": "none", "epsilon": 1.0},
        PRIVATE.model_dump() | {"epsilon": 0.0},
        PRIVATE.model_dump() | {"epsilon": float("nan")},
        PRIVATE.model_dump() | {"epsilon": float("inf")},
        PRIVATE.model_dump() | {"delta": 0.0},
        PRIVATE.model_dump() | {"delta": 1.0},
        PRIVATE.model_dump() | {"neighbours": "add_one"},
        PRIVATE.model_dump() | {"seed": 1},
    ],
)
def test_senseless_privacy_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Privacy.model_validate(fields)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (specification(points=4), "4 points; privacy mechanism 'gaussian' makes one"),
        (specification(compression_error=0.1), "does not cover all of its fields"),
        (specification(NO_PRIVACY), "compression_error' is missing"),
    ],
)
def test_files_that_tell_more_or_less_than_they_promise_are_refused(made: Specification, message: str) -> None:
    with pytest.raises(InvalidSpecification, match=message):
        Specification.from_bytes(made.to_bytes())


@pytest.mark.parametrize(("epsilon", "delta"), [(0, 1e-5), (-1, 1e-5), (float("nan"), 1e-5), (1, 0), (1, 1)])
def test_impossible_promises_are_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(InvalidInput, match="is not in"):
        differential_privacy(epsilon, delta)


def test_too_few_texts_are_refused_with_the_number_that_would_do(encoder: SentenceEncoder) -> None:
    privacy = differential_privacy(1.0)
    with pytest.raises(InvalidExamples, match="give at least 74 texts, or a larger epsilon"):
        specify(["a", "b", "c"] * 10, encoder, privacy=privacy)
    assert privacy.noise(74) * sqrt(384) <= MAX_NOISE < privacy.noise(73) * sqrt(384)


def test_sizes_are_refused(encoder: SentenceEncoder) -> None:
    with pytest.raises(InvalidInput, match="a private specification has one point"):
        specify(["a", "b"] * 100, encoder, 8, privacy=PRIVATE)
