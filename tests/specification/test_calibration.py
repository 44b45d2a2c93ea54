import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from specification import Calibration, Specification, StoredSpecification, calibrate, judges, p_values, reduce
from specification.calibration import GENERAL, GENERAL_ENCODER, LEVELS, MAX_ROWS, fits
from specification.errors import InvalidSpecification
from specification.record import Sections
from specification.reduced_set import ReducedSet
from tests.conftest import IDENTITY, make_specification, unit_vectors
from tests.specification.test_record import forge

rows = st.lists(st.floats(0, 1), min_size=len(LEVELS), max_size=len(LEVELS)).map(sorted)
calibrations = st.lists(rows, min_size=1, max_size=MAX_ROWS).map(
    lambda quantiles: Calibration(quantiles=tuple(map(tuple, quantiles)))
)
OWN = calibrate(unit_vectors(100, 1))


def with_calibration(calibration: Calibration | None) -> Specification:
    made = make_specification(1)
    return Specification(made.reduced_set, made.section.model_copy(update={"calibration": calibration}))


def points(sample: np.ndarray) -> ReducedSet:
    return ReducedSet(sample, np.ones(1, dtype=np.float32)) if len(sample) == 1 else reduce(sample)


@pytest.mark.parametrize("texts", [1, 2, 8, 32])
def test_few_genuine_tasks_have_a_small_p_value(texts: int) -> None:
    """Fresh draws from the learnware's own distribution; shifts are allowed for, so p may only be too large."""
    assert OWN is not None
    everything = unit_vectors(1200, 1)
    learnware, fresh = reduce(everything[:100]), everything[100:]
    draws = np.random.default_rng(0).permutation(len(fresh))[: 960 // texts * texts].reshape(-1, texts)[:200]
    found = np.array(
        [OWN.p_value(float(fits(points(fresh[drawn]), texts, [learnware])[0]), texts) for drawn in draws]
    )
    for level in (0.05, 0.1, 0.25):
        assert (found < level).mean() <= level + 2 * np.sqrt(level * (1 - level) / len(draws))


def test_the_p_values_of_single_texts_are_uniform() -> None:
    """For reduced sets made of half the texts, as in calibrating; those of all the texts fit a little better."""
    found = []
    for seed in range(8):
        everything = unit_vectors(240, seed)
        calibration, learnware = calibrate(everything[:40]), reduce(everything[40:60])
        assert calibration is not None
        fitting = [float(fits(points(text[None]), 1, [learnware])[0]) for text in everything[60:]]
        found += [calibration.p_value(fit, 1) for fit in fitting]
    assert np.quantile(found, [0.1, 0.25, 0.5, 0.75]) == pytest.approx([0.1, 0.25, 0.5, 0.75], abs=0.08)


@given(calibrations, st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**9))
def test_a_better_fit_never_has_a_smaller_p_value(
    calibration: Calibration, one: float, other: float, texts: int
) -> None:
    low, high = (calibration.p_value(fit, texts) for fit in sorted((one, other)))
    assert 0 <= low <= high <= 1


@given(calibrations)
def test_comes_back_from_a_file_as_it_was(calibration: Calibration) -> None:
    data = with_calibration(calibration).to_bytes()
    assert Specification.from_bytes(data).section.calibration == calibration
    assert StoredSpecification(data).calibration == calibration


def test_a_file_without_one_is_what_it_was_before() -> None:
    data = make_specification(1).to_bytes()
    assert b"calibration" not in data
    assert StoredSpecification(data).calibration is None


def test_a_quantile_has_its_level_and_between_sizes_and_quantiles_lies_between() -> None:
    first, second = (tuple(np.linspace(low, low + 0.2, len(LEVELS))) for low in (0.1, 0.4))
    calibration = Calibration(quantiles=(first, second, second))
    assert [calibration.p_value(fit, 1) for fit in first] == pytest.approx(LEVELS)
    assert [calibration.p_value(fit, 10**6) for fit in second] == pytest.approx(LEVELS)
    assert calibration.p_value(0.05, 1) == pytest.approx(LEVELS[0] / 2)
    assert calibration.p_value(1.0, 1) == 1
    assert calibration.p_value(0, 1) < 1e-6
    assert LEVELS[2] < calibration.p_value((first[2] + first[3]) / 2, 1) < LEVELS[3]
    whole = Calibration(quantiles=(first, first, second))
    assert whole.p_value(0.3, 4) < whole.p_value(0.3, 3) < whole.p_value(0.3, 2)


@pytest.mark.parametrize(
    ("quantiles", "message"),
    [
        ([[float("nan")] * len(LEVELS)], "finite number"),
        ([[2.0] * len(LEVELS)], "less than or equal to 1"),
        ([[-1.0] * len(LEVELS)], "greater than or equal to 0"),
        ([[0.5] * (len(LEVELS) - 1)], f"at least {len(LEVELS)} items"),
        ([[0.5] * (len(LEVELS) + 1)], f"at most {len(LEVELS)} items"),
        ([sorted(LEVELS, reverse=True)], "must ascend"),
        ([[0.5] * len(LEVELS)] * (MAX_ROWS + 1), f"at most {MAX_ROWS} items"),
        ([], "at least 1 item"),
    ],
)
def test_senseless_quantiles_are_refused_in_a_file(quantiles: list[list[float]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Calibration.model_validate({"quantiles": quantiles})
    broken = Calibration.model_construct(quantiles=tuple(map(tuple, quantiles)))
    section = make_specification(1).section.model_copy(update={"calibration": broken})
    sections = Sections.model_construct(text=section)
    with pytest.raises(InvalidSpecification, match=r"sections\.text\.calibration\.quantiles"):
        Specification.from_bytes(forge(make_specification(1).to_bytes(), sections=sections))


@pytest.mark.parametrize(("count", "expected"), [(7, 0), (8, 3), (15, 3), (16, 4), (130, MAX_ROWS)])
def test_rows_go_up_to_half_the_texts(count: int, expected: int) -> None:
    found = calibrate(unit_vectors(count, 2))
    assert (len(found.quantiles) if found else 0) == expected


def test_the_same_texts_give_the_same_calibration_and_equal_texts_one_too() -> None:
    assert calibrate(unit_vectors(20, 3)) == calibrate(unit_vectors(20, 3))
    same = calibrate(np.repeat(unit_vectors(1, 3), 20, axis=0))
    assert same is not None
    assert same.p_value(0.5, 4) < 0.01


def test_a_small_reduced_set_keeps_its_calibration() -> None:
    sample = unit_vectors(200, 4)
    found = calibrate(sample[:100], size=4)
    assert found is not None
    task, learnware = reduce(sample[100:], 4), reduce(sample[:100], 4)
    assert p_values(task, 100, [learnware], [(found,)])[0] > 0.05


def test_a_learnware_is_judged_by_its_own_calibration_and_the_general_one() -> None:
    assert OWN is not None
    default = IDENTITY.model_copy(update={"weights_sha256": GENERAL_ENCODER})
    assert judges(OWN, default) == (OWN, GENERAL)
    assert judges(OWN, IDENTITY) == (OWN,)
    assert judges(None, IDENTITY) == (GENERAL,)
    never = Calibration(quantiles=((1.0,) * len(LEVELS),))
    task, learnware = make_specification(5).reduced_set, make_specification(6).reduced_set
    alone, general, both = p_values(task, 100, [learnware] * 3, [(never,), (GENERAL,), (never, GENERAL)])
    assert alone < 0.01
    assert both == general > alone
