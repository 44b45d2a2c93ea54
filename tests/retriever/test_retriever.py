import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catalogue import EVERYTHING, CatalogueSettings, EdgeCatalogue, Entry, Signal, parse_filter
from retriever import Retriever
from retriever.mixture import UNKNOWN_SCORE
from specification import EncoderIdentity, ReducedSet, Specification, compare, differential_privacy, mmd
from specification.errors import Incomparable, InvalidInput
from tests.conftest import IDENTITY, make_specification, unit_vectors

MakeEntry = Callable[..., Entry]
COUNT = 300


class EncoderDouble:
    """A double of an encoder: sixteen dimensions, a vector drawn by the number that the text is."""

    identity: EncoderIdentity = IDENTITY

    def encode(self, texts: list[str], progress: object = None) -> np.ndarray:
        return np.concatenate([make_specification(int(text)).reduced_set.points[:1] for text in texts])


@pytest.fixture
def retriever(tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry) -> Iterator[Retriever]:
    with EdgeCatalogue.open(tmp_path, settings) as catalogue:
        statuses = {1: "retired"}
        catalogue.upsert(
            [
                make_entry(seed, domain=f"domain-{seed % 10}", status=statuses.get(seed, "published"))
                for seed in range(COUNT)
            ]
        )
        yield Retriever(catalogue, EncoderDouble())  # type: ignore[arg-type]


def test_the_same_specification_is_found_with_fit_one(retriever: Retriever) -> None:
    ranking = retriever.search(make_specification(7))
    assert ranking.ranked[0].learnware.name == "learnware-7"
    assert ranking.ranked[0].fit == pytest.approx(1, abs=1e-4)
    assert ranking.ranked[0].mmd == pytest.approx(0, abs=0.02)
    assert ranking.decision.learnware == ranking.ranked[0].learnware
    assert len(ranking.ranked) == 10
    assert ranking.candidates == 100


def test_agrees_with_the_exact_search_and_with_mmd_written_out(retriever: Retriever) -> None:
    recall = []
    for seed in range(1000, 1020):
        task = make_specification(seed)
        exact = retriever.search_exactly(task)
        assert exact.candidates == COUNT - 1
        distances = sorted(
            (mmd(task.reduced_set, make_specification(other).reduced_set, 2.0), other)
            for other in range(COUNT)
            if other != 1
        )
        assert [item.learnware.name for item in exact.ranked] == [f"learnware-{n}" for _, n in distances[:10]]
        assert [item.mmd for item in exact.ranked] == pytest.approx([d for d, _ in distances[:10]], abs=1e-3)
        found = {item.learnware.id for item in retriever.search(task).ranked}
        recall.append(len(found & {item.learnware.id for item in exact.ranked}) / 10)
    assert np.mean(recall) >= 0.99


def test_retired_learnwares_are_never_chosen(retriever: Retriever) -> None:
    names = [item.learnware.name for item in retriever.search(make_specification(1), limit=50).ranked]
    assert "learnware-1" not in names


def test_filters_bind(retriever: Retriever) -> None:
    ranking = retriever.search(make_specification(7), where=parse_filter("domain=domain-3"))
    assert {item.learnware.domain for item in ranking.ranked} == {"domain-3"}


def test_none_fits_is_an_answer(retriever: Retriever) -> None:
    strict = Retriever(retriever.catalogue, retriever.encoder, threshold=0.999)
    ranking = strict.search(make_specification(5000))
    assert ranking.decision.learnware is None
    assert ranking.decision.p_value < 0.999
    assert "none fits: the nearest" in ranking.decision.reason
    assert len(ranking.ranked) == 10
    empty = retriever.search(make_specification(7), where=parse_filter("domain=none"))
    assert empty.decision.learnware is None
    assert "passes the filter" in empty.decision.reason


def test_a_prompt_is_routed_by_its_own_learnware(retriever: Retriever) -> None:
    right = sum(
        retriever.route(str(seed)).ranked[0].learnware.name == f"learnware-{seed}" for seed in range(2, 42)
    )
    assert right >= 36
    ranking = retriever.route("7", limit=3)
    assert len(ranking.ranked) == 3
    assert np.isnan(ranking.ranked[0].mmd)
    assert ranking.ranked[0].fit >= ranking.ranked[1].fit


@pytest.fixture
def prompt_retriever(retriever: Retriever, make_entry: MakeEntry) -> Retriever:
    """Half of the learnwares have a section for prompts."""
    retriever.catalogue.upsert([make_entry(seed, prompt=True) for seed in range(0, COUNT, 2)])
    return retriever


def test_a_prompt_is_routed_by_likelihood_and_as_the_exact_search_routes_it(prompt_retriever: Retriever) -> None:
    right, recall = 0, []
    for seed in range(2, 42, 2):
        exact = prompt_retriever.route_exactly(str(seed))
        assert exact.candidates == COUNT - 1
        assert exact.ranked[0].learnware.name == f"learnware-{seed}"
        found = prompt_retriever.route(str(seed))
        right += found.ranked[0].learnware == exact.ranked[0].learnware
        recall.append(len({item.learnware.id for item in (*found.ranked, *exact.ranked)}) == 5)
        assert found.decision.learnware == found.ranked[0].learnware
    assert right == 20
    assert np.mean(recall) >= 0.9


def test_a_learnware_can_be_judged_beside_the_best(prompt_retriever: Retriever) -> None:
    everyone = prompt_retriever.route("4", limit=COUNT).ranked
    last = everyone[120]
    beside = prompt_retriever.route("4", 3, EVERYTHING, last.learnware.id)
    assert beside.ranked[:3] == prompt_retriever.route("4", 3).ranked
    assert beside.ranked[3:] == (last,)
    assert len(prompt_retriever.route("4", 3, EVERYTHING, everyone[1].learnware.id).ranked) == 3
    assert len(prompt_retriever.route("4", 3, EVERYTHING, "0" * 64).ranked) == 3


def test_learnwares_without_prompt_section_come_behind_unless_only_they_fit(prompt_retriever: Retriever) -> None:
    ranking = prompt_retriever.route("4", limit=COUNT)
    numbers = [int(item.learnware.name.rpartition("-")[2]) for item in ranking.ranked]
    assert numbers[:150] != sorted(numbers[:150])
    assert {number % 2 for number in numbers[:150]} == {0}
    assert {number % 2 for number in numbers[150:]} == {1}
    other = prompt_retriever.route("5", where=parse_filter("name=learnware-5|learnware-8"))
    assert other.ranked[0].fit >= UNKNOWN_SCORE > other.ranked[1].fit
    assert [item.learnware.name for item in other.ranked] == ["learnware-5", "learnware-8"]


def test_bad_questions_are_refused(retriever: Retriever) -> None:
    with pytest.raises(InvalidInput, match="limit 0"):
        retriever.search(make_specification(1), limit=0)
    with pytest.raises(InvalidInput, match="characters"):
        retriever.route("  ")
    task = make_specification(1)
    other = IDENTITY.model_copy(update={"weights_sha256": "1" * 64, "name": "other"})
    foreign = Specification(task.reduced_set, task.section.model_copy(update={"encoder": other}))
    with pytest.raises(Incomparable, match="other"):
        retriever.search(foreign)


def test_only_the_newest_version_of_a_name_is_found(retriever: Retriever, make_entry: MakeEntry) -> None:
    original = make_entry(7)
    for version, digit in ((2, "0"), (3, "f"), (4, "8")):
        copy = original.learnware.model_copy(update={"id": digit * 64, "version": version})
        retriever.catalogue.upsert([Entry(copy, original.specification, original.text_vector)])
    for ranking in (retriever.search(make_specification(7)), retriever.search_exactly(make_specification(7))):
        found = [item.learnware.version for item in ranking.ranked if item.learnware.name == "learnware-7"]
        assert found == [4]


def test_searches_beside_a_writer_that_replaces_specifications(
    retriever: Retriever, make_entry: MakeEntry
) -> None:
    failures: list[Exception] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            try:
                retriever.search(make_specification(7))
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for seed in range(500, 600):
        new, old = make_entry(seed), make_entry(7).learnware
        record = old.model_copy(update={"specification_digest": new.specification.digest})
        retriever.catalogue.upsert([Entry(record, new.specification, new.text_vector)])
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_equal_distances_go_to_the_smaller_id(retriever: Retriever, make_entry: MakeEntry) -> None:
    original = make_entry(7)
    twins = [
        Entry(
            original.learnware.model_copy(update={"id": digit * 64, "name": f"twin-{digit}"}),
            original.specification,
            unit_vectors(1, 0)[0],
        )
        for digit in "f0"
    ]
    retriever.catalogue.upsert(twins)
    names = [item.learnware.name for item in retriever.search(make_specification(7), limit=3).ranked]
    assert names[0] == "twin-0"
    assert names[2] == "twin-f"


def test_quality_decides_among_learnwares_that_match_cannot_tell_apart(
    retriever: Retriever, make_entry: MakeEntry
) -> None:
    original = make_entry(7)
    twins = [
        _rated(original, digit * 64, f"twin-{digit}", value)
        for digit, value in (("0", 0.2), ("8", 0.9), ("f", 0.5))
    ]
    retriever.catalogue.upsert(twins)
    retriever.catalogue.delete([original.learnware.id])
    ranking = retriever.search(make_specification(7), limit=5)
    assert [item.learnware.name for item in ranking.ranked[:3]] == ["twin-8", "twin-f", "twin-0"]
    assert ranking.ranked[0].expected is not None
    assert ranking.ranked[0].expected > (ranking.ranked[1].expected or 0) > (ranking.ranked[2].expected or 0)
    far = retriever.search(make_specification(8), limit=1)
    assert far.decision.learnware is not None
    assert far.decision.learnware.name == "learnware-8"


def test_the_reason_says_when_quality_decided(retriever: Retriever, make_entry: MakeEntry) -> None:
    original = make_entry(7)
    task = make_specification(7)
    points, weights = task.reduced_set.points, task.reduced_set.weights
    moved = Specification(
        ReducedSet(points, (0.9 * weights + 0.1 * weights[::-1]).astype(np.float32)), task.section
    )
    entries = [_rated(original, "e" * 64, "better", 0.9), _rated(original, "d" * 64, "nearer", 0.1)]
    slightly_off = entries[0].learnware.model_copy(update={"specification_digest": moved.digest})
    entries[0] = Entry(slightly_off, moved, original.text_vector)
    retriever.catalogue.upsert(entries)
    retriever.catalogue.delete([original.learnware.id])
    decision = retriever.search(task).decision
    assert decision.learnware is not None
    assert decision.learnware.name == "better"
    assert "match cannot tell it from nearer, quality on" in decision.reason


def _rated(original: Entry, id: str, name: str, value: float) -> Entry:
    signals = tuple(Signal(kind="capability", task=f"t{n}", value=value, source="a test") for n in range(5))
    record = original.learnware.model_copy(update={"id": id, "name": name, "quality": signals})
    return Entry(record, original.specification, original.text_vector)


def test_parts_far_from_the_whole_task_are_found_in_what_others_leave(retriever: Retriever) -> None:
    narrow = Retriever(retriever.catalogue, retriever.encoder, candidates=1)
    sets = [make_specification(seed).reduced_set for seed in (3, 200)]
    points = np.concatenate([each.points for each in sets])
    weights = np.concatenate([0.65 * sets[0].weights, 0.35 * sets[1].weights])
    task = Specification(ReducedSet(points, weights), make_specification(3).section)
    ranking = narrow.search(task, limit=1)
    near, mixture = {item.learnware.name for item in ranking.ranked}, ranking.mixture
    assert mixture is not None
    assert "learnware-200" not in near
    assert [share.learnware.name for share in mixture.shares] == ["learnware-3", "learnware-200"]


def test_a_private_task_is_ranked_by_cosine_and_has_no_mixture(retriever: Retriever) -> None:
    plain = make_specification(7)
    section = plain.section.model_copy(update={"compression_error": None})
    reduced = ReducedSet(plain.reduced_set.points[:1], np.ones(1, dtype=np.float32))
    ranking = retriever.search(Specification(reduced, section, differential_privacy(8)))
    others = [make_specification(seed).reduced_set for seed in range(COUNT)]
    fits = compare(reduced, others).cosine
    assert ranking.ranked[0].learnware.name == f"learnware-{fits.argmax()}"
    assert [item.fit for item in ranking.ranked] == sorted((item.fit for item in ranking.ranked), reverse=True)
    assert ranking.decision.threshold == retriever.threshold
    assert ranking.mixture is None


def test_the_reason_says_that_a_share_rests_on_no_examples(retriever: Retriever, make_entry: MakeEntry) -> None:
    before = retriever.search(make_specification(7)).decision.reason
    assert "derived" not in before
    retriever.catalogue.upsert([make_entry(7, origin="derived")])
    chosen = retriever.search(make_specification(7)).decision
    assert chosen.learnware is not None
    assert "; a rough share, since learnware-7's specification is derived" in chosen.reason
    far = replace(make_specification(7), reduced_set=make_specification(1007).reduced_set)
    retriever.threshold = 1.0
    nothing = retriever.search(far, where=parse_filter("name=learnware-7")).decision
    assert nothing.learnware is None
    assert "rough share" in nothing.reason
