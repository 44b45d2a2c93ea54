"""An ingest whose Qdrant server vanishes: it stops, nothing is refused for it, and a second run finishes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from catalogue import CatalogueSettings, ServerAddress, open_catalogue, retries
from indexer import AdapterStore, BaseModels, Indexer, ingest
from specification import SentenceEncoder
from specification.errors import CatalogueError
from tests.catalogue.fake_qdrant import KEY, FakeQdrant, serving
from tests.indexer.test_bulk import examples


def test_it_stops_and_goes_on_where_it_was(
    tmp_path: Path,
    adapters: list[Path],
    bases: BaseModels,
    encoder: SentenceEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(retries, "sleep", pauses.append)
    (tmp_path / "store").mkdir()
    topics = ["wheat", "bones", "primes"]
    lines = [
        {"name": topic, "adapter": str(adapter), "examples": examples(tmp_path, topic).name}
        for topic, adapter in zip(topics, adapters, strict=True)
    ]
    manifest = tmp_path / "learnwares.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    settings, fake = CatalogueSettings.of(encoder.identity), FakeQdrant()

    def run(at: Callable[[int, int], None]) -> list[str]:
        with open_catalogue(ServerAddress(fake.url, KEY, retries=2), settings) as catalogue:
            indexer = Indexer(catalogue, AdapterStore(tmp_path / "store"), bases, encoder)
            report = ingest(manifest, encoder, tmp_path / "cache", indexer.submit, at)
        assert report.refused == []
        return [item.name for item in report.accepted]

    server = serving(fake)
    server.__enter__()

    def vanish(done: int, total: int) -> None:
        if done == 1:
            server.__exit__(None, None, None)

    with pytest.raises(
        CatalogueError, match=r"was asked 3 times and gave no answer .* run the same command again"
    ):
        run(vanish)
    assert len(pauses) == 2
    assert [point["payload"]["name"] for point in fake.points.values()] == ["wheat"]
    with serving(fake, port=int(fake.url.rpartition(":")[2])):
        assert run(lambda done, total: None) == topics
    assert [point["payload"]["name"] for point in fake.points.values()] == topics
    assert len(pauses) == 2
