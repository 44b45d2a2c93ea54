"""Fixtures for the indexer: a tiny base model, adapters that PEFT wrote, and an indexer over Edge."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer import BaseModels, Indexer
from specification import SentenceEncoder
from tests.indexer.parcels import open_indexer
from tests.serving import tiny


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def bases(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseModels:
    known = BaseModels(tmp_path_factory.mktemp("bases") / "bases.json")
    known.add(tiny.BASE_NAME, base_folder)
    return known


@pytest.fixture(scope="session")
def adapters(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters."""
    root = tmp_path_factory.mktemp("adapters")
    return [tiny.build_adapter(base_folder, root / f"adapter-{seed}", seed) for seed in range(3)]


@pytest.fixture(scope="session")
def adapter(adapters: list[Path]) -> Path:
    return adapters[0]


@pytest.fixture
def indexer(tmp_path: Path, bases: BaseModels, encoder: SentenceEncoder) -> Iterator[Indexer]:
    with open_indexer(tmp_path, encoder, bases) as opened:
        yield opened
