"""Who takes part in a trial, and what is known before it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from catalogue import CatalogueSettings, EdgeCatalogue, Entry, Signal, parse_filter
from retriever import Retriever, TrialPrior, trial_candidates, with_base
from retriever.candidates import capability
from tests.conftest import make_specification
from tests.retriever.test_retriever import EncoderDouble

MakeEntry = Callable[..., Entry]


def test_candidates_come_with_their_prior(
    tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry
) -> None:
    with EdgeCatalogue.open(tmp_path, settings) as catalogue:
        catalogue.upsert([make_entry(seed) for seed in range(30)])
        retriever = Retriever(catalogue, EncoderDouble())  # type: ignore[arg-type]
        found = trial_candidates(retriever, make_specification(7), 5)
        assert found is not None
        assert found.ranked[0].learnware.name == "learnware-7"
        assert found.prior.fit.tolist() == [item.fit for item in found.ranked]
        assert np.diag(found.prior.similarity) == pytest.approx(np.ones(5), abs=1e-3)
        assert trial_candidates(retriever, make_specification(7), 5, parse_filter("domain=none")) is None


def test_signals_from_other_tasks_are_capability(make_entry: MakeEntry) -> None:
    def signal(task: str, value: float, **fields: object) -> Signal:
        return Signal.model_validate({"kind": "capability", "task": task, "value": value, "source": "x", **fields})

    first = make_entry(1, quality=(signal("a", 0.5), signal("b", 0.1), signal("c", 70)))
    second = make_entry(2, quality=(signal("a", 0.7), signal("c", 80), signal("d", 0.2, specification="0" * 64)))
    third = make_entry(3, quality=(signal("d", 0.3, specification="0" * 64), signal("a", 0.9, subject="base")))
    learnwares = [entry.learnware for entry in (first, second, third)]
    rows = capability(learnwares, "0" * 64)
    assert rows is not None
    np.testing.assert_array_equal(rows, [[0.5, 0.7, np.nan]])
    assert capability(learnwares[:1], "0" * 64) is None


def test_the_base_model_is_like_nobody() -> None:
    prior = with_base(TrialPrior(np.array([0.9]), np.ones((1, 1)), np.array([[0.5]])))
    assert prior.fit.tolist() == [0.9, 0.0]
    assert prior.similarity.tolist() == [[1, 0], [0, 1]]
    np.testing.assert_array_equal(prior.capability, [[0.5, np.nan]])
