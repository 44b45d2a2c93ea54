"""Hostile submissions through the real indexer: each is refused by name, leaves nothing, and the dock goes on."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalogue import Card
from indexer import BaseModels, Indexer, read_adapter
from slmdock.output import safe
from specification import SentenceEncoder, specify
from specification.errors import DockError, InvalidAdapter
from tests.indexer.hostile import HOSTILE
from tests.indexer.parcels import Good, Hostile, attempt, nested, open_indexer
from tests.serving import tiny

MAX_GROWN = 2**29
MAX_MESSAGE = 1500


@pytest.fixture(scope="module")
def good(adapter: Path, tmp_path_factory: pytest.TempPathFactory, encoder: SentenceEncoder) -> Good:
    texts = [f"How high is hill number {number}?" for number in range(20)]
    return Good(adapter, tiny.build_base(tmp_path_factory.mktemp("model"), seed=1), specify(texts, encoder))


@pytest.fixture(scope="module")
def dock(
    tmp_path_factory: pytest.TempPathFactory, encoder: SentenceEncoder, bases: BaseModels
) -> Iterator[tuple[Path, Indexer]]:
    """One indexer for all of them, and the folder it lies in."""
    folder = tmp_path_factory.mktemp("dock")
    with open_indexer(folder, encoder, bases) as indexer:
        yield folder, indexer


@pytest.fixture(scope="module")
def messages() -> dict[str, str]:
    """Whose message each is."""
    return {}


def test_there_are_enough_and_each_has_its_name() -> None:
    assert len(HOSTILE) >= 60
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_is_refused_by_name_and_leaves_nothing(
    hostile: Hostile, good: Good, dock: tuple[Path, Indexer], messages: dict[str, str]
) -> None:
    folder, indexer = dock
    outcome = attempt(hostile, good, indexer, folder / "place")
    assert isinstance(outcome.error, DockError), repr(outcome.error)
    message = str(outcome.error)
    assert re.search(hostile.words, message), message
    assert safe(message).isprintable(), message
    assert len(message) < MAX_MESSAGE
    assert messages.setdefault(message, hostile.name) == hostile.name
    assert list(outcome.strays) == []
    assert outcome.grown < MAX_GROWN
    assert indexer.catalogue.count() == 0
    assert list(indexer.store.root.iterdir()) == []


def test_the_dock_goes_on(good: Good, dock: tuple[Path, Indexer]) -> None:
    _, indexer = dock
    learnware = indexer.submit(good.adapter, good.specification, Card(name="honest"))
    assert indexer.catalogue.get([learnware.id]) == [learnware]


def test_nesting_is_refused_at_whatever_depth(good: Good, bases: BaseModels, tmp_path: Path) -> None:
    """Also where it can just be read, and whatever looks at it next cannot go as deep."""
    for file in good.adapter.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "adapter_config.json"
    text = config.read_text().rstrip().removesuffix("}")
    for depth in range(700, 1000):
        config.write_text(f'{text}, "x": {nested(depth)}}}')
        with pytest.raises(InvalidAdapter, match=r"field 'x'|nested too deep"):
            read_adapter(tmp_path, bases)
