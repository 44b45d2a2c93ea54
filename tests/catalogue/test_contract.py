"""The same tests for every engine: Edge, qdrant-client's in-memory mode, and a server if QDRANT_URL is set."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from qdrant_client import QdrantClient

from catalogue import (
    EVERYTHING,
    PUBLISHED,
    Catalogue,
    CatalogueSettings,
    EdgeCatalogue,
    Entry,
    ServerAddress,
    parse_filter,
)
from catalogue.schema import PARAMETER_VECTOR, PROMPT_VECTOR
from catalogue.server import ServerCatalogue
from specification import StoredSpecification
from specification.errors import Incomparable, InvalidInput, NotFound
from tests.conftest import IDENTITY, make_parameters, make_specification, unit_vectors

ENGINES = ["edge", "memory", *(["server"] if os.environ.get("QDRANT_URL") else [])]
MakeEntry = Callable[..., Entry]


@pytest.fixture(params=ENGINES)
def catalogue(request: pytest.FixtureRequest, tmp_path: Path, settings: CatalogueSettings) -> Iterator[Catalogue]:
    opened: Catalogue
    if request.param == "edge":
        opened = EdgeCatalogue.open(tmp_path / "catalogue", settings)
    elif request.param == "memory":
        opened = ServerCatalogue(QdrantClient(":memory:"), settings)
    else:
        key = os.environ.get("QDRANT_API_KEY")
        address = ServerAddress(os.environ["QDRANT_URL"], key, collection=f"test-{uuid.uuid4().hex}")
        opened = ServerCatalogue.open(address, settings)
    with opened:
        yield opened
        if request.param == "server" and isinstance(opened, ServerCatalogue):
            opened._client.delete_collection(opened._in_use.collection)


@pytest.fixture
def filled(catalogue: Catalogue, make_entry: MakeEntry) -> Catalogue:
    domains = ["finance", "healthcare", "mathematics"]
    catalogue.upsert(
        [
            make_entry(seed, domain=domains[seed % 3], rank=4 + seed, tags=("odd" if seed % 2 else "even", "all"))
            for seed in range(30)
        ]
    )
    return catalogue


def test_what_goes_in_comes_out(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    entry = make_entry(1, description="Sentiment of headlines", tags=("a", "b"), languages=("en",))
    catalogue.upsert([entry])
    assert catalogue.get([entry.learnware.id]) == [entry.learnware]
    assert catalogue.named("learnware-1") == entry.learnware
    assert catalogue.specification_file(entry.learnware) == entry.specification.to_bytes()
    assert np.array_equal(
        catalogue.reduced_sets([entry.learnware])[entry.learnware.id].points,
        entry.specification.reduced_set.points,
    )


def test_get_keeps_the_order_and_leaves_out_what_is_not_there(filled: Catalogue, make_entry: MakeEntry) -> None:
    wanted = [make_entry(seed).learnware.id for seed in (7, 99, 3)]
    assert [item.name for item in filled.get(wanted)] == ["learnware-7", "learnware-3"]
    assert filled.get([]) == []


def test_whole_models_stand_beside_adapters(filled: Catalogue, make_entry: MakeEntry) -> None:
    whole = make_entry(40, base_model="none", rank=0, adapter_bytes=3 * 2**30)
    filled.upsert([whole])
    assert whole.learnware.whole
    assert filled.get([whole.learnware.id]) == [whole.learnware]
    for text in ("base_model=none", "rank=0", "adapter_bytes>=1073741824"):
        assert filled.scroll(parse_filter(text)).learnwares == (whole.learnware,)
    assert filled.facets("base_model") == {"base": 30, "none": 1}
    assert filled.count(parse_filter("base_model=base|none,rank<=4")) == 2


@pytest.mark.parametrize(("base_model", "rank"), [("none", 8), ("base", 0), ("none", -1)])
def test_rank_0_is_a_whole_model_s_alone(make_entry: MakeEntry, base_model: str, rank: int) -> None:
    with pytest.raises(ValidationError, match="rank"):
        make_entry(1, base_model=base_model, rank=rank)


def test_a_second_upsert_replaces(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    old = make_entry(1)
    new_specification = make_specification(2)
    new = Entry(
        old.learnware.model_copy(update={"description": "new", "specification_digest": new_specification.digest}),
        new_specification,
        old.text_vector,
    )
    catalogue.upsert([old])
    catalogue.upsert([new])
    assert catalogue.count() == 1
    assert catalogue.get([old.learnware.id]) == [new.learnware]
    assert catalogue.specification_file(new.learnware) == new_specification.to_bytes()
    with pytest.raises(NotFound, match="specified anew"):
        catalogue.specification_file(old.learnware)


def test_delete(filled: Catalogue, make_entry: MakeEntry) -> None:
    gone = make_entry(3).learnware
    assert filled.delete([gone.id, "f" * 64]) == 1
    assert filled.count() == 29
    assert filled.get([gone.id]) == []
    with pytest.raises(NotFound):
        filled.specification_file(gone)
    assert filled.delete([gone.id]) == 0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 30),
        ("domain=finance", 10),
        ("domain=finance|healthcare", 20),
        ("domain=finance,tags=odd", 5),
        ("rank>=30", 4),
        ("rank<=10,rank>=6", 5),
        ("rank=7", 1),
        ("domain=law", 0),
        ("name=learnware-4", 1),
    ],
)
def test_filters(filled: Catalogue, text: str, count: int) -> None:
    where = parse_filter(text)
    assert filled.count(where) == count
    assert len(filled.scroll(where, limit=100).learnwares) == count
    assert len(filled.nearest_task(make_specification(1).reduced_set, 100, where)) == count


def test_scroll_pages_through_everything_once_in_order(filled: Catalogue) -> None:
    seen: list[str] = []
    after = None
    while True:
        page = filled.scroll(EVERYTHING, limit=7, after=after)
        assert len(page.learnwares) <= 7
        seen += [item.id for item in page.learnwares]
        after = page.next
        if after is None:
            break
    assert seen == sorted(seen)
    assert len(seen) == 30


def test_facets(filled: Catalogue) -> None:
    assert filled.facets("domain") == {"finance": 10, "healthcare": 10, "mathematics": 10}
    assert filled.facets("tags", parse_filter("domain=finance"), limit=1) == {"all": 10}
    with pytest.raises(InvalidInput, match="'rank' has no facets"):
        filled.facets("rank")


def test_nearest_agrees_with_brute_force(filled: Catalogue, make_entry: MakeEntry) -> None:
    task = make_specification(100).reduced_set
    entries = [make_entry(seed) for seed in range(30)]
    embed = filled.settings.feature_map.embed
    vectors = embed([entry.specification.reduced_set for entry in entries])
    apart = np.linalg.norm(vectors - embed([task]), axis=1)
    distances = {entry.learnware.id: float(each) for entry, each in zip(entries, apart, strict=True)}
    expected = sorted(distances, key=lambda id: (distances[id], id))[:10]
    for exact in (True, False):
        hits = filled.nearest_task(task, 10, exact=exact)
        assert [hit.id for hit in hits] == expected
        assert [hit.score for hit in hits] == pytest.approx([distances[id] for id in expected], abs=1e-3)


def test_parameter_vectors_are_searched_apart_and_may_be_missing(
    catalogue: Catalogue, make_entry: MakeEntry
) -> None:
    having = [make_entry(seed, parameters=True) for seed in range(12)]
    catalogue.upsert([*having, *(make_entry(seed) for seed in range(12, 20))])
    query = make_parameters(3)
    for exact in (True, False):
        hits = catalogue.nearest(query.projection, 100, PUBLISHED, exact, PARAMETER_VECTOR)
        assert {hit.id for hit in hits} == {entry.learnware.id for entry in having}
        assert hits[0].id == having[3].learnware.id
        assert hits[0].score == pytest.approx(0, abs=1e-3)
    found = catalogue.read_files([entry.learnware for entry in having], StoredSpecification)
    vectors = {id: stored.parameters for id, stored in found.items()}
    cosines = {id: vector.cosine(query) for id, vector in vectors.items() if vector}
    best = sorted(cosines, key=lambda id: -cosines[id])[:3]
    assert {hit.id for hit in hits[:3]} == set(best)


def test_prompt_vectors_are_searched_apart_and_may_be_missing(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    with_section = [make_entry(seed, prompt=True) for seed in range(12)]
    catalogue.upsert([*with_section, *(make_entry(seed) for seed in range(12, 20))])
    vectors = {entry.learnware.id: _prompt(entry) for entry in with_section}
    query = _prompt(make_entry(99, prompt=True))
    distances = {id: float(np.linalg.norm(vector - query)) for id, vector in vectors.items()}
    for exact in (True, False):
        hits = catalogue.nearest(query, 100, PUBLISHED, exact, PROMPT_VECTOR)
        assert [hit.id for hit in hits] == sorted(distances, key=lambda id: (distances[id], id))
        assert [hit.score for hit in hits] == pytest.approx(sorted(distances.values()), abs=1e-3)
    records = [entry.learnware for entry in (with_section[0], make_entry(12))]
    found = list(catalogue.read_files(records, lambda file: StoredSpecification(file).prompt).values())
    assert found[0] is not None
    assert found[0].mean.tolist() == _prompt(with_section[0]).tolist()
    assert found[1] is None
    # A learnware that loses its section is no longer found by it.
    catalogue.upsert([make_entry(0)])
    assert len(catalogue.nearest(query, 100, using=PROMPT_VECTOR)) == 11


def _prompt(entry: Entry) -> np.ndarray:
    assert entry.specification.prompt is not None
    return entry.specification.prompt.mean


def test_a_description_that_was_not_encoded_is_found_by_its_words(
    catalogue: Catalogue, make_entry: MakeEntry
) -> None:
    entry = make_entry(1, description="Triage of patients")
    catalogue.upsert([Entry(entry.learnware, entry.specification), make_entry(2)])
    assert catalogue.matching_text("triage", unit_vectors(1, 2)[0], 2)[0].id == entry.learnware.id
    assert catalogue.fetch([entry.learnware.id])[0].text_vector is None


def test_rows_come_back_and_go_into_another_catalogue(
    catalogue: Catalogue, make_entry: MakeEntry, tmp_path: Path
) -> None:
    entries = [make_entry(seed, prompt=seed % 2 == 0) for seed in range(20)]
    catalogue.upsert(entries)
    rows = catalogue.fetch([entry.learnware.id for entry in entries])
    assert [row.file for row in rows] == [entry.specification.to_bytes() for entry in entries]
    with EdgeCatalogue.open(tmp_path / "other", catalogue.settings) as other:
        other.load(rows)
        other.settle()
        task = make_specification(50).reduced_set
        found, expected = other.nearest_task(task, 5), catalogue.nearest_task(task, 5)
        assert [hit.id for hit in found] == [hit.id for hit in expected]


def test_versions(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    catalogue.upsert([make_entry(1, name="x"), make_entry(2, name="x", version=4), make_entry(3, name="y")])
    assert catalogue.versions(["x", "y", "z"]) == {"x": 4, "y": 1}
    assert catalogue.versions([]) == {}


def test_spellings(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    names = ["Finance", "finance", "fin-ance", "LAW", "LAW"]
    catalogue.upsert([make_entry(seed, name=name, version=1 + seed) for seed, name in enumerate(names)])
    assert catalogue.spellings(["FINANCE", "law", "nobody"]) == {"finance": {"Finance", "finance"}, "law": {"LAW"}}
    assert catalogue.spellings([]) == {}
    assert catalogue.spellings(["x"] * 1001 + ["Law"]) == {"law": {"LAW"}}
    assert [catalogue.other_spelling(name) for name in ("law", "LAW", "finance", "FINANCE", "laws")] == [
        "LAW", None, None, "Finance", None,
    ]  # fmt: skip
    catalogue.delete([make_entry(0).learnware.id])
    assert catalogue.other_spelling("FINANCE") == "finance"
    (row,) = catalogue.fetch([make_entry(1).learnware.id])
    assert row.learnware.name == "finance"


def test_text_search_fuses_keywords_and_vectors(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    texts = ["Sentiment of finance headlines", "Triage of patients", "Adding two numbers", "Risk of a loan"]
    catalogue.upsert([make_entry(seed, description=text) for seed, text in enumerate(texts)])
    by_keyword = catalogue.matching_text("triage", unit_vectors(1, 99)[0], 4)
    assert catalogue.get([by_keyword[0].id])[0].description == "Triage of patients"
    by_vector = catalogue.matching_text("zzz", unit_vectors(1, 3)[0], 4)
    assert catalogue.get([by_vector[0].id])[0].description == "Risk of a loan"
    assert len(catalogue.matching_text("", unit_vectors(1, 1)[0], 2)) == 2


def test_named_is_the_newest_published_version(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    catalogue.upsert(
        [
            make_entry(1, name="x", version=1),
            make_entry(2, name="x", version=2),
            make_entry(3, name="x", version=3, status="retired"),
        ]
    )
    found = catalogue.named("x")
    assert found is not None
    assert found.version == 2
    assert catalogue.count(PUBLISHED) == 2


def test_a_poisonous_batch_is_refused_whole(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    good, bad = make_entry(1), make_entry(2)
    for vector, message in [
        (np.full(16, np.nan), "NaN"),
        (np.full(16, 1e6), "beyond float16"),
        (np.zeros(15), r"shape \(15,\) != \(16,\)"),
    ]:
        poison = Entry(bad.learnware, bad.specification, vector.astype(np.float32))
        with pytest.raises(InvalidInput, match=message):
            catalogue.upsert([good, poison])
    wrong_digest = Entry(bad.learnware, make_specification(9), bad.text_vector)
    with pytest.raises(InvalidInput, match="different digests"):
        catalogue.upsert([good, wrong_digest])
    assert catalogue.count() == 0


def test_another_encoders_specification_is_refused(
    tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry
) -> None:
    other = settings.model_copy(update={"encoder": IDENTITY.model_copy(update={"weights_sha256": "1" * 64})})
    with EdgeCatalogue.open(tmp_path / "other", other) as opened, pytest.raises(Incomparable):
        opened.upsert([make_entry(1)])


def test_what_is_no_id_is_refused(filled: Catalogue) -> None:
    with pytest.raises(InvalidInput, match="'zzz' is no learnware id"):
        filled.scroll(after="zzz")
    with pytest.raises(InvalidInput, match="is no learnware id"):
        filled.get(["../.."])
    assert filled.named("\ud800") is None


@pytest.mark.parametrize(
    "text", [",".join(["rank>=1"] * 51), "domain=" + "|".join(["x"] * 1001), "domain=\ud800", "domain=\x1b"]
)
def test_a_filter_that_is_too_long_or_unprintable_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="filter"):
        parse_filter(text)


@pytest.mark.parametrize("text", ["domain", "domain>=3", "rank=many", "colour=red", "rank>=-1", "domain="])
def test_a_bad_filter_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(InvalidInput, match="filter"):
        parse_filter(text)


def test_quality_signals_come_back_as_they_were(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    signals = [
        {"kind": "capability", "task": f"t{number}", "value": number / 7, "examples": 970, "source": "x"}
        for number in range(100)
    ]
    entry = make_entry(1, quality=signals)
    catalogue.upsert([entry])
    assert catalogue.get([entry.learnware.id]) == [entry.learnware]
