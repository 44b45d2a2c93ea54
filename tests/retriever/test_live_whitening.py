import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from catalogue import Catalogue, CatalogueSettings, EdgeCatalogue, Entry
from catalogue.server import ServerCatalogue
from retriever import LiveWhitening, Retriever
from retriever.prompt_match import Sketch
from specification import Whitening
from specification.errors import CatalogueError
from specification.kernel import Floats
from specification.whitening import Doubles
from tests.retriever.test_retriever import EncoderDouble

MakeEntry = Callable[..., Entry]


@pytest.fixture(params=["edge", "memory"])
def catalogue(
    request: pytest.FixtureRequest, tmp_path: Path, settings: CatalogueSettings, make_entry: MakeEntry
) -> Iterator[Catalogue]:
    edge = request.param == "edge"
    opened: Catalogue = (
        EdgeCatalogue.open(tmp_path / "catalogue", settings)
        if edge
        else ServerCatalogue(QdrantClient(":memory:"), settings)
    )
    with opened:
        opened.upsert([make_entry(seed, prompt=seed > 0) for seed in range(10)])
        yield opened


def refreshed(live: LiveWhitening, learnwares: int) -> Whitening:
    """Waits until the whitening covers so many learnwares."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (current := live.current()).learnwares == learnwares:
            return current
        time.sleep(0.01)
    raise AssertionError(f"the whitening still covers {live.current().learnwares} learnwares")


def test_it_is_made_from_the_sections_there_are_and_kept(catalogue: Catalogue, tmp_path: Path) -> None:
    live = LiveWhitening(catalogue, tmp_path / "whitening")
    assert (live.current().learnwares, live.current().freedom) == (10, 27)
    stamp = (tmp_path / "whitening").stat().st_mtime_ns
    again = LiveWhitening(catalogue, tmp_path / "whitening")
    assert again.current().version == live.current().version
    assert (tmp_path / "whitening").stat().st_mtime_ns == stamp
    (tmp_path / "whitening").write_bytes(b"broken")
    assert LiveWhitening(catalogue, tmp_path / "whitening").current().version == live.current().version


def test_searches_go_on_while_it_is_made_anew(catalogue: Catalogue, make_entry: MakeEntry, tmp_path: Path) -> None:
    if isinstance(catalogue, ServerCatalogue):
        pytest.skip("the in-memory mode of qdrant-client has no protection against threads")
    live = LiveWhitening(catalogue, tmp_path / "whitening", check_seconds=0)
    retriever = Retriever(catalogue, EncoderDouble())  # type: ignore[arg-type]
    retriever.whitening = live
    before = live.current()
    right: list[bool] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            right.append(retriever.route("7").ranked[0].learnware.name == "learnware-7")

    thread = threading.Thread(target=search)
    thread.start()
    catalogue.upsert([make_entry(seed, prompt=True) for seed in range(10, 40)])
    after = refreshed(live, 40)
    done.set()
    thread.join()
    assert right
    assert all(right)
    assert after.version != before.version
    assert LiveWhitening(catalogue, tmp_path / "whitening").current().version == after.version


def test_a_search_during_which_it_changes_uses_one_of_the_two_throughout(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveWhitening(catalogue)
    retriever = Retriever(catalogue, EncoderDouble())  # type: ignore[arg-type]
    retriever.whitening = live
    versions = [live.current(), Whitening.estimate([], catalogue.settings.encoder, 0)]
    expected = [item.learnware.id for item in retriever.route("7").ranked]
    used: list[Whitening] = []
    map_means, score = Sketch.whitened, Whitening.log_likelihoods_of

    def change(whitening: Whitening) -> None:
        used.append(whitening)
        live._use(versions[len(used) % 2])

    def whitened(self: Sketch, whitening: Whitening) -> Floats:
        change(whitening)
        return map_means(self, whitening)

    def scored(self: Whitening, prompts: Floats, means: Floats, sizes: Doubles) -> Doubles:
        change(self)
        return score(self, prompts, means, sizes)

    monkeypatch.setattr(Sketch, "whitened", whitened)
    monkeypatch.setattr(Whitening, "log_likelihoods_of", scored)
    assert [item.learnware.id for item in retriever.route("7").ranked] == expected
    assert len(used) > 2
    assert all(each is versions[0] for each in used)


def test_little_growth_changes_nothing(catalogue: Catalogue, make_entry: MakeEntry) -> None:
    live = LiveWhitening(catalogue, check_seconds=0)
    before = live.current()
    catalogue.upsert([make_entry(99, prompt=True)])
    assert live.current() is before


def test_a_catalogue_that_fails_leaves_the_old_one_in_place(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    live = LiveWhitening(catalogue)
    before = live.current()

    def fail(*_: object) -> None:
        raise CatalogueError("gone")

    monkeypatch.setattr(catalogue, "scroll", fail)
    live.refresh()
    assert live.current() is before
    assert "could not be refreshed" in caplog.text
