import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specification import (
    MAX_SPECIFICATION_BYTES,
    ParameterVector,
    Recipe,
    Specification,
    StoredSpecification,
    Tuning,
)
from specification.errors import Incomparable, InvalidSpecification
from specification.parameter_vector import MAX_PARAMETERS, PROJECTED, ParameterSection
from tests.conftest import make_parameters, make_specification


def with_vector(vector: ParameterVector) -> bytes:
    made = make_specification(1)
    return Specification(made.reduced_set, made.section, parameters=vector).to_bytes()


def test_files_keep_the_vector_and_digests_cover_it() -> None:
    vector = make_parameters(1)
    again = Specification.from_bytes(with_vector(vector))
    assert again.parameters is not None
    assert np.array_equal(again.parameters.values, vector.values)
    assert again.parameters.section == vector.section
    assert again.digest != make_specification(1).digest
    alone = StoredSpecification(with_vector(vector)).parameters
    assert alone is not None
    assert alone.cosine(vector) == pytest.approx(1)
    assert StoredSpecification(make_specification(1).to_bytes()).parameters is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(9), "length 0"),
        (np.full(9, np.nan), "length nan"),
        (np.ones(9), "length 3, not 1"),
        (np.full((1, 4), 0.5), "parameters.vector"),
    ],
)
def test_a_vector_that_makes_no_sense_is_refused(values: np.ndarray, message: str) -> None:
    bad = ParameterVector(values.astype(np.float32), make_parameters(1).section)
    with pytest.raises(InvalidSpecification, match=message):
        Specification.from_bytes(with_vector(bad))


@given(st.data())
def test_any_splice_is_refused_or_equal(data: st.DataObject) -> None:
    whole = with_vector(make_parameters(1, size=64))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 200)))
    spliced = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]
    try:
        assert Specification.from_bytes(spliced).to_bytes() == whole
    except InvalidSpecification:
        assert spliced != whole


def test_the_documented_proxys_vector_fits_a_file() -> None:
    """Qwen2.5-0.5B has 24 layers whose q, k and v are 896, 128 and 128 wide."""
    size = 24 * (896 + 128 + 128) * Recipe().rank
    assert len(with_vector(make_parameters(1, size=size))) < 2**20
    assert 2 * MAX_PARAMETERS < MAX_SPECIFICATION_BYTES


def test_only_a_direction_can_be_kept() -> None:
    section = make_parameters(1).section
    for values in (np.zeros(5), np.full(5, np.inf)):
        with pytest.raises(InvalidSpecification, match="says nothing"):
            ParameterVector.of(values.astype(np.float32), section)
    large = ParameterVector.of(np.full(4, 1e6, dtype=np.float32), section)
    assert large.values.tolist() == [0.5] * 4


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"recipe": Recipe(rank=8)}, "rank 8"),
        ({"recipe": Recipe(seed=5)}, "seed 5"),
        ({"recipe": Recipe(form="gradient")}, "gradient"),
        ({"recipe": Recipe(form="tuned", tuning=Tuning(steps=7))}, "7 steps"),
        ({"recipe": Recipe(targets=("o_proj",))}, "o_proj"),
        ({"loss": "texts"}, "loss over texts"),
    ],
)
def test_vectors_made_otherwise_are_not_compared(change: dict[str, object], name: str) -> None:
    vector = make_parameters(1)
    other = ParameterVector(vector.values, vector.section.model_copy(update=change))
    with pytest.raises(Incomparable, match=name) as error:
        vector.cosine(other)
    assert "rank 16 on k_proj+q_proj+v_proj, seed 0, loss over answers" in str(error.value)


def test_another_name_or_sample_is_no_other_space() -> None:
    section = make_parameters(1).section
    renamed = section.proxy.model_copy(update={"name": "other"})
    same = ParameterSection(proxy=renamed, recipe=section.recipe, loss=section.loss, sample_size=99)
    assert same.space == section.space


def test_forms_and_tuning_go_together() -> None:
    with pytest.raises(ValueError, match="without tuning"):
        Recipe(form="tuned")
    with pytest.raises(ValueError, match="with tuning"):
        Recipe(form="gradient", tuning=Tuning())


def test_the_projection_keeps_angles_and_parts_what_may_not_be_compared() -> None:
    errors = []
    for seed in range(40):
        left, right = make_parameters(seed), make_parameters(seed + 1)
        assert left.projection.shape == (PROJECTED,)
        errors.append(float(left.projection @ right.projection) - left.cosine(right))
    assert abs(np.mean(errors)) < 0.03
    assert np.std(errors) < 1.5 / np.sqrt(PROJECTED)
    vector = make_parameters(1)
    assert np.array_equal(vector.projection, make_parameters(1).projection)
    elsewhere = ParameterVector(vector.values, vector.section.model_copy(update={"recipe": Recipe(seed=1)}))
    assert abs(float(vector.projection @ elsewhere.projection)) < 0.3
