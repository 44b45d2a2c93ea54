from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from catalogue import CatalogueSettings, EdgeCatalogue, Entry
from retriever import Retriever
from retriever.parameter_match import fused
from specification import ParameterVector, Recipe, Specification
from tests.conftest import make_parameters, make_specification
from tests.retriever.test_retriever import EncoderDouble

MakeEntry = Callable[..., Entry]


@pytest.fixture
def retriever(tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry) -> Iterator[Retriever]:
    """Forty learnwares, the even ones with parameters."""
    with EdgeCatalogue.open(tmp_path, settings) as catalogue:
        catalogue.upsert([make_entry(seed, parameters=seed % 2 == 0) for seed in range(40)])
        yield Retriever(catalogue, EncoderDouble(), candidates=5)  # type: ignore[arg-type]


def task(text: int, parameters: ParameterVector | None) -> Specification:
    return replace(make_specification(text), parameters=parameters)


def test_where_no_cosine_is_known_nothing_is_fused() -> None:
    assert fused([0.3, 0.1], [None, None]) == [None, None]
    assert fused([], []) == []


def test_distances_are_scaled_by_their_medians_and_missing_ones_keep_the_texts() -> None:
    assert fused([0.2, 0.4, 0.6, 0.8], [0.5, None, 1.0, -1.0]) == [
        pytest.approx((0.2 / 0.6 + 1) / 2, abs=1e-5),
        pytest.approx(0.4 / 0.6, abs=1e-5),
        pytest.approx(0.5, abs=1e-5),
        pytest.approx((0.8 / 0.6 + 2) / 2, abs=1e-5),
    ]


def test_an_exact_copy_of_all_is_no_division_by_zero() -> None:
    assert fused([0.0], [1.0]) == [0.0]


def test_parameters_decide_between_near_texts(retriever: Retriever) -> None:
    text = retriever.search(make_specification(1000), limit=10)
    second = next(item for item in text.ranked[1:] if int(item.learnware.name.split("-")[1]) % 2 == 0)
    seed = int(second.learnware.name.split("-")[1])
    both = retriever.search(task(1000, make_parameters(seed)), limit=10)
    assert both.ranked[0].learnware == second.learnware
    assert both.ranked[0].parameters == pytest.approx(1, abs=1e-3)
    assert both.ranked == tuple(sorted(both.ranked, key=lambda item: item.apart))
    assert all((item.parameters is None) == (item.learnware.name[-1] in "13579") for item in both.ranked)


def test_parameters_find_what_text_does_not_reach(retriever: Retriever) -> None:
    far = retriever.search_exactly(make_specification(7), limit=40).ranked[-12:]
    seed = next(int(item.learnware.name.split("-")[1]) for item in far if item.learnware.name[-1] in "02468")
    names = [item.learnware.name for item in retriever.search(make_specification(7), limit=5).ranked]
    assert f"learnware-{seed}" not in names
    found = retriever.search(task(7, make_parameters(seed)), limit=20)
    assert f"learnware-{seed}" in [item.learnware.name for item in found.ranked]


def test_parameters_that_cannot_be_compared_never_hurt(retriever: Retriever) -> None:
    vector = make_parameters(4)
    other = ParameterVector(vector.values, vector.section.model_copy(update={"recipe": Recipe(seed=3)}))
    plain = retriever.search_exactly(make_specification(7), limit=40).ranked
    assert retriever.search_exactly(task(7, other), limit=40).ranked == plain
    shorter = make_parameters(4, size=100)
    assert retriever.search_exactly(task(7, shorter), limit=40).ranked == plain
