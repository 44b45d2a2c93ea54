"""Fixtures for the indexer: a tiny base model, adapters that PEFT wrote, and an indexer over Edge."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalogue import CatalogueSettings, EdgeCatalogue, IndexPlan
from indexer import AdapterStore, BaseModels, Indexer
from specification import FeatureMap, SentenceEncoder
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
    identity = encoder.identity
    settings = CatalogueSettings(
        encoder=identity, text_dimension=384, plan=IndexPlan(feature_map=FeatureMap(input_dimension=384))
    )
    (tmp_path / "store").mkdir()
    with EdgeCatalogue.open(tmp_path / "catalogue", settings) as catalogue:
        yield Indexer(catalogue, AdapterStore(tmp_path / "store"), bases, encoder)
