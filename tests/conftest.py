"""Fixtures for all tests: the real sentence encoder, and learnwares made with real numbers."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from catalogue import CatalogueSettings, Entry, IndexPlan, Learnware
from specification import (
    EncoderIdentity,
    FeatureMap,
    ParameterVector,
    PromptSketch,
    ProxyIdentity,
    Recipe,
    ReducedSet,
    Section,
    SentenceEncoder,
    Specification,
    join_views,
)
from specification.parameter_vector import ParameterSection

DIMENSION = 16
IDENTITY = EncoderIdentity(name="sixteen", dimension=DIMENSION, weights_sha256="0" * 64, max_tokens=8)


@pytest.fixture(scope="session")
def encoder() -> SentenceEncoder:
    """The default encoder, loaded once."""
    return SentenceEncoder()


@pytest.fixture
def settings() -> CatalogueSettings:
    return CatalogueSettings(
        encoder=IDENTITY,
        plan=IndexPlan(feature_map=FeatureMap(input_dimension=DIMENSION, dimension=256)),
        text_dimension=DIMENSION,
    )


def unit_vectors(count: int, seed: int) -> np.ndarray:
    """Clustered unit vectors: a centre drawn by seed, and noise around it."""
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=DIMENSION) + 0.5 * generator.normal(size=(count, DIMENSION))
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def make_parameters(seed: int, size: int = 2000) -> ParameterVector:
    """A parameter vector as if of a proxy; neighbouring seeds have a cosine of about one half."""
    drawn = [np.random.default_rng(each).normal(size=size) for each in (seed, seed + 1)]
    proxy = ProxyIdentity(name="proxy", weights_sha256="0" * 64, max_tokens=64)
    section = ParameterSection(proxy=proxy, recipe=Recipe(), loss="answers", sample_size=100)
    return ParameterVector.of(np.sum(drawn, axis=0).astype(np.float32), section)


def make_specification(seed: int, size: int = 4, prompt: bool = False, parameters: bool = False) -> Specification:
    """A specification of ``size`` points whose encoder is IDENTITY; if asked for, with further sections."""
    weights = np.random.default_rng(seed).random(size).astype(np.float32) + 0.1
    points = unit_vectors(size, seed).astype(np.float16).astype(np.float32)
    section = Section(encoder=IDENTITY, sample_size=100, compression_error=0.1, gamma=2.0)
    sketch = PromptSketch.of(join_views([str(seed)] * 9, unit_vectors(9, seed))) if prompt else None
    vector = make_parameters(seed) if parameters else None
    return Specification(ReducedSet(points, weights / weights.sum()), section, prompt=sketch, parameters=vector)


@pytest.fixture
def make_entry() -> Callable[..., Entry]:
    """Makes catalogue entries, on request with further sections; fields of the record can be given."""

    def make(seed: int, prompt: bool = False, parameters: bool = False, **fields: object) -> Entry:
        specification = make_specification(seed, prompt=prompt, parameters=parameters)
        record = {
            "id": hashlib.sha256(str(seed).encode()).hexdigest(),
            "name": f"learnware-{seed}",
            "version": 1,
            "base_model": "base",
            "rank": 8,
            "adapter_bytes": 1000,
            "sample_size": 100,
            "created": 1_700_000_000,
            "specification_digest": specification.digest,
        }
        learnware = Learnware.model_validate({**record, **fields})
        return Entry(learnware, specification, unit_vectors(1, seed)[0])

    return make
