"""Records and sketches in memory: fresh after every write, bounded; a learnware judged beside the best."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from catalogue import Catalogue, CatalogueSettings, Entry, Learnware, Row, open_catalogue
from retriever import prompt_memory
from retriever.prompt_memory import PromptMemory

MakeEntry = Callable[..., Entry]


@pytest.fixture
def catalogue(settings: CatalogueSettings, make_entry: MakeEntry, tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path, settings) as opened:
        opened.upsert([make_entry(seed, prompt=seed % 2 == 0) for seed in range(6)])
        yield opened


def count_reads(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns a list that gets the number of records, or files, of every reading."""
    reads = list[int]()
    get, fetch = catalogue.get, catalogue.fetch

    def counted_get(ids: Sequence[str]) -> list[Learnware]:
        reads.append(len(ids))
        return get(ids)

    def counted_fetch(ids: Sequence[str]) -> list[Row]:
        reads.append(len(ids))
        return fetch(ids)

    monkeypatch.setattr(catalogue, "get", counted_get)
    monkeypatch.setattr(catalogue, "fetch", counted_fetch)
    return reads


def test_what_is_known_is_not_read_again(
    catalogue: Catalogue, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, ids = PromptMemory(catalogue), [make_entry(seed).learnware.id for seed in range(4)]
    reads = count_reads(catalogue, monkeypatch)
    assert [item.id for item in memory.get(ids[:3])] == ids[:3]
    assert [item.id for item in memory.get([*ids, "0" * 64])] == ids
    assert reads == [3, 2]
    found = memory.sketches(memory.get(ids))
    assert [found[id].prompt is not None for id in ids] == [True, False, True, False]
    assert memory.sketches(memory.get(ids))[ids[0]] is found[ids[0]]
    assert reads == [3, 2, 4]


def test_writes_are_seen_at_once(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    memory, entry = PromptMemory(catalogue), make_entry(1)
    before = catalogue.revision
    assert memory.get([entry.learnware.id])[0].status == "published"
    catalogue.upsert([make_entry(1, status="retired")])
    assert memory.get([entry.learnware.id])[0].status == "retired"
    catalogue.delete([entry.learnware.id])
    assert memory.get([entry.learnware.id]) == []
    assert catalogue.revision == before + 2


def test_other_processes_writes_are_seen_after_a_while(
    catalogue: Catalogue, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, id = PromptMemory(catalogue), make_entry(1).learnware.id
    memory.get([id])
    entry = make_entry(1, status="retired")
    catalogue._write([Row(entry.learnware, entry.specification.to_bytes())])
    assert memory.get([id])[0].status == "published"
    monkeypatch.setattr(prompt_memory, "RECORD_SECONDS", -1.0)
    assert memory.get([id])[0].status == "retired"


def test_sketches_are_bounded(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_memory, "MAX_SKETCHES", 2)
    memory = PromptMemory(catalogue)
    assert len(memory.sketches(list(catalogue.everything()))) == 6
    assert len(memory._sketches) == 2


def test_a_record_that_did_not_change_stays_one_object(
    catalogue: Catalogue, make_entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_memory, "RECORD_SECONDS", -1.0)
    memory, ids = PromptMemory(catalogue), [make_entry(seed).learnware.id for seed in range(2)]
    first = memory.get(ids)
    catalogue.upsert([make_entry(1, status="retired")])
    again = memory.get(ids)
    assert again[0] is first[0]
    assert again[1].status == "retired"
