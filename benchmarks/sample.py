"""Embeddings to measure with: real ones of ``--data``, or drawn ones where there is no data."""

from pathlib import Path

import numpy as np

from benchmarks.data import read_domain
from benchmarks.report import progress_bar
from benchmarks.shelf import CachedEncoder
from specification.kernel import Floats

DIMENSION = 384
CLUSTERS = 64


def embeddings(count: int, data: Path | None, seed: int = 0) -> tuple[Floats, str]:
    """Returns float32 [count, 384] unit vectors, and in words what they are.

    Without data they are drawn around CLUSTERS centres, which lie around one direction as sentences do.
    """
    if data is None:
        return _drawn(count, seed), f"{count} unit vectors drawn around {CLUSTERS} centres, seed {seed}"
    domains = [
        read_domain(data, path.name, count, seed) for path in sorted(data.iterdir()) if (path / "user").is_dir()
    ]
    paths = [(domain, path) for domain in domains for path in (*domain.train.values(), *domain.user.values())]
    share = -(-count // len(paths))
    texts = [example.text for domain, path in paths for example in domain.examples(path)[:share]]
    while len(texts) < count:
        share *= 2
        texts = [example.text for domain, path in paths for example in domain.examples(path)[:share]]
    order = np.random.default_rng(seed).permutation(len(texts))[:count]
    with progress_bar("encoding", "texts") as progress:
        vectors = CachedEncoder().encode([texts[int(place)] for place in order], progress)
    return vectors, f"{count} texts of {len(paths)} files, seed {seed}"


def _drawn(count: int, seed: int) -> Floats:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=DIMENSION) + 2.0 * generator.normal(size=(CLUSTERS, DIMENSION))
    vectors = centres[generator.integers(CLUSTERS, size=count)] + 1.2 * generator.normal(size=(count, DIMENSION))
    unit: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit
