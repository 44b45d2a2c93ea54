"""A mixture found in a real catalogue by real texts, and prompts handed to its parts."""

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.shelf import shelve
from catalogue import parse_filter
from retriever import Retriever
from retriever.mixture import posterior, prompt_scores
from specification import ReducedSet, SentenceEncoder, gaussian, specify
from specification.errors import InvalidInput, NotFound
from tests.conftest import unit_vectors
from tests.serving.conftest import sentences

TOPICS = ("cooking", "law", "space")


@pytest.fixture(scope="module")
def retriever(encoder: SentenceEncoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retriever]:
    shelf = {topic: specify(sentences(topic)[::2], encoder) for topic in TOPICS}
    retriever = shelve(tmp_path_factory.mktemp("shelf"), encoder, shelf)
    yield retriever
    retriever.catalogue.close()


def test_a_mixture_is_found_and_its_prompts_reach_their_own(
    retriever: Retriever, encoder: SentenceEncoder
) -> None:
    texts = [*sentences("cooking")[1::2], *sentences("space")[1::4]]
    mixture = retriever.search(specify(texts, encoder), limit=1).mixture
    assert mixture is not None
    assert mixture.planned
    assert [share.learnware.name for share in mixture.shares] == ["cooking", "space"]
    assert [share.weight for share in mixture.shares] == pytest.approx([2 / 3, 1 / 3], abs=0.07)
    members = [(share.learnware, share.weight) for share in mixture.shares]
    for topic in ("cooking", "space"):
        decision = retriever.assign(sentences(topic)[3], members, mixture.unknown)
        assert decision.learnware is not None
        assert decision.learnware.name == topic
        assert decision.fit > 0.9


def test_pure_tasks_are_no_mixture(retriever: Retriever, encoder: SentenceEncoder) -> None:
    for topic in TOPICS:
        mixture = retriever.search(specify(sentences(topic)[1::2], encoder)).mixture
        assert mixture is not None
        assert [share.learnware.name for share in mixture.shares] == [topic]
        assert not mixture.planned


def test_a_task_that_fits_nothing_is_no_mixture(retriever: Retriever, encoder: SentenceEncoder) -> None:
    mixture = retriever.search(specify(sentences("harmed"), encoder)).mixture
    assert mixture is not None
    assert not mixture.planned
    assert mixture.unknown > 0.5
    assert mixture.reason.endswith("fits nothing")


def test_filters_bind_a_mixture(retriever: Retriever, encoder: SentenceEncoder) -> None:
    texts = [*sentences("cooking")[1::2], *sentences("space")[1::2]]
    mixture = retriever.search(specify(texts, encoder), where=parse_filter("name=cooking|law")).mixture
    assert mixture is not None
    assert "space" not in [share.learnware.name for share in mixture.shares]
    assert mixture.unknown > 0.2


def test_a_prompt_that_fits_no_part(retriever: Retriever) -> None:
    law = retriever.catalogue.named("law")
    assert law is not None
    assert retriever.assign("zzzz 0101 qqqq", [(law, 0.6)], 0.4).learnware is None
    assert retriever.assign("zzzz 0101 qqqq", [(law, 1.0)], 0.0).learnware == law


def test_what_cannot_be_assigned(retriever: Retriever) -> None:
    law = retriever.catalogue.named("law")
    assert law is not None
    with pytest.raises(InvalidInput, match="0 characters"):
        retriever.assign("", [(law, 1.0)], 0.0)
    with pytest.raises(NotFound, match="gone"):
        retriever.assign("text", [(law.model_copy(update={"specification_digest": "0" * 64}), 1.0)], 0.0)


def test_prompt_scores_are_the_cosine_written_out() -> None:
    points, weights = unit_vectors(4, 1), np.array([0.4, 0.3, 0.2, 0.1], dtype=np.float32)
    prompts = unit_vectors(3, 2)
    kernel = gaussian(points, points, 2.0)
    expected = gaussian(prompts, points, 2.0) @ weights / np.sqrt(weights @ kernel @ weights)
    assert prompt_scores(prompts, [ReducedSet(points, weights)] * 2, 2.0)[:, 1] == pytest.approx(
        expected, rel=1e-5
    )


def test_the_posterior_weighs_equal_scores_by_their_weights() -> None:
    assert posterior(np.array([[0.5, 0.5], [1.0, 0.0]]), [0.7, 0.3]) == pytest.approx(
        np.array([[0.7, 0.3], [1.0, 0.0]])
    )
