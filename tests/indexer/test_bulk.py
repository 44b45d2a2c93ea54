import json
from pathlib import Path

import pytest

from indexer import Indexer, ingest
from specification import SentenceEncoder, Specification
from specification.errors import CatalogueError, InvalidInput


def examples(folder: Path, topic: str) -> Path:
    file = folder / f"{topic}.jsonl"
    file.write_text("\n".join(json.dumps({"text": f"Tell me about {topic}, part {part}."}) for part in range(12)))
    return file


@pytest.fixture
def manifest(tmp_path: Path, adapters: list[Path]) -> Path:
    topics = ["wheat", "bones", "primes"]
    lines = [
        json.dumps({"name": topic, "adapter": str(adapter), "examples": examples(tmp_path, topic).name})
        for topic, adapter in zip(topics, adapters, strict=True)
    ]
    bad = [
        "not json",
        json.dumps({"name": "lost", "examples": "x"}),
        json.dumps({"name": "gone", "adapter": "no-such-folder", "examples": "wheat.jsonl"}),
        json.dumps({"name": "bare", "adapter": str(adapters[0])}),
        json.dumps({"name": "odd", "adapter": str(adapters[0]), "examples": "wheat.jsonl", "colour": "red"}),
        json.dumps({"name": "long", "adapter": "x" * 300, "examples": "wheat.jsonl"}),
        json.dumps({"name": "dir", "adapter": str(adapters[0]), "specification": "."}),
    ]
    file = tmp_path / "learnwares.jsonl"
    file.write_text("\n".join([lines[0], *bad, *lines[1:]]))
    return file


def test_the_good_go_in_and_the_rest_is_reported(
    manifest: Path, indexer: Indexer, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    report = ingest(manifest, encoder, tmp_path / "cache", indexer.submit, lambda *at: seen.append(at))
    assert [item.name for item in report.accepted] == ["wheat", "bones", "primes"]
    assert indexer.catalogue.count() == 3
    assert seen[-1] == (10, 10)
    reasons = dict(report.refused)
    assert list(reasons) == [f"learnwares.jsonl, line {number}" for number in range(2, 9)]
    for words, reason in zip(
        [
            "not a JSON object",
            "'adapter' is missing",
            "no such folder",
            "no examples and no spec",
            "field 'colour'",
            "cannot be read",
            "not a regular file",
        ],
        reasons.values(),
        strict=True,
    ):
        assert words in reason


def test_a_second_run_writes_nothing_and_encodes_nothing(
    manifest: Path, indexer: Indexer, encoder: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ingest(manifest, encoder, tmp_path / "cache", indexer.submit)
    monkeypatch.setattr("indexer.bulk.specify", None)
    monkeypatch.setattr(indexer.catalogue, "_write", None)
    assert ingest(manifest, encoder, tmp_path / "cache", indexer.submit).accepted == first.accepted


def test_an_interrupted_run_is_resumed(
    manifest: Path, indexer: Indexer, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    def stop_at_second(done: int, total: int) -> None:
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(manifest, encoder, tmp_path / "cache", indexer.submit, stop_at_second)
    assert indexer.catalogue.count() == 2
    report = ingest(manifest, encoder, tmp_path / "cache", indexer.submit)
    assert len(report.accepted) == 3
    assert indexer.catalogue.count() == 3


def test_what_is_in_under_another_name_is_refused_and_stops_nothing(
    manifest: Path, indexer: Indexer, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    """As a model that lies in two repositories of a hub."""
    first, *rest = manifest.read_text().splitlines()
    twin = json.dumps(json.loads(first) | {"name": "twin"})
    manifest.write_text("\n".join([first, twin, *rest[-2:]]))
    for _ in range(2):
        report = ingest(manifest, encoder, tmp_path / "cache", indexer.submit)
        assert [item.reference for item in report.accepted] == ["wheat@1", "bones@1", "primes@1"]
        ((label, reason),) = report.refused
        assert label == "learnwares.jsonl, line 2"
        assert reason.startswith("twin: the same content is in already as wheat; ")


def test_a_failing_catalogue_stops_the_run(manifest: Path, encoder: SentenceEncoder, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise CatalogueError("gone")

    with pytest.raises(CatalogueError, match="gone"):
        ingest(manifest, encoder, tmp_path / "cache", fail)  # type: ignore[arg-type]


def test_a_folder_of_adapters_with_their_cards_and_examples(
    tmp_path: Path, adapters: list[Path], indexer: Indexer, encoder: SentenceEncoder
) -> None:
    root = tmp_path / "root"
    for number, adapter in enumerate(adapters):
        place = root / f"learnware-{number}"
        place.mkdir(parents=True)
        for file in adapter.iterdir():
            (place / file.name).write_bytes(file.read_bytes())
        examples(tmp_path, f"topic {number}").rename(place / "examples.jsonl")
    card = {"name": "zero", "domain": "numbers", "examples": "mine.jsonl"}
    (root / "learnware-0" / "learnware.json").write_text(json.dumps(card))
    (root / "learnware-0" / "examples.jsonl").rename(root / "learnware-0" / "mine.jsonl")
    (root / "empty").mkdir()
    (root / "linked").symlink_to(root / "learnware-1")
    report = ingest(root, encoder, tmp_path / "cache", indexer.submit)
    assert sorted(item.name for item in report.accepted) == ["learnware-1", "learnware-2", "zero"]
    assert [label for label, _ in report.refused] == ["empty", "linked"]


def test_a_damaged_cache_is_made_anew(
    manifest: Path, indexer: Indexer, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    ingest(manifest, encoder, tmp_path / "cache", indexer.submit)
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b"damaged")
    assert len(ingest(manifest, encoder, tmp_path / "cache", indexer.submit).accepted) == 3
    assert all(Specification.load(file) for file in (tmp_path / "cache").iterdir())


@pytest.mark.parametrize("name", ["none", "empty.jsonl", "empty-folder"])
def test_a_source_that_names_nothing_is_refused(tmp_path: Path, encoder: SentenceEncoder, name: str) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "empty-folder").mkdir()
    with pytest.raises(InvalidInput, match=name):
        ingest(tmp_path / name, encoder, tmp_path / "cache", lambda *_: pytest.fail("nothing to submit"))
