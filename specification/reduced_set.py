"""Reduced sets: a few weighted points whose kernel mean embedding stays close to that of a sample.

Source: Wu et al., "Model Reuse with Reduced Kernel Mean Embedding Specification" (TKDE 2023), eq. 6:
min ‖(1/n)Σk(x_i,·) - Σβ_j k(z_j,·)‖. Here the points z are spherical k-means centres and the weights
β ≥ 0 come from non-negative least squares, by SciPy.
"""

from dataclasses import dataclass

import numpy as np

from specification.errors import InvalidExamples
from specification.kernel import DEFAULT_GAMMA, Floats, gaussian

DEFAULT_SIZE = 32
MAX_SIZE = 1024
SAME_TEXT = 1 - 1e-4
"""The cosine from which on two embeddings are taken for those of one text."""
RIDGE = 1e-6
ROUNDS = 10
FIRST_CENTRES_FROM = 16
"""Texts a point, among which k-means++ looks for the first centres."""


@dataclass(frozen=True, eq=False)
class ReducedSet:
    """m weighted points. ``points`` is float32 [m, d] (exact float16 values), ``weights`` float32 [m], sum 1."""

    points: Floats
    weights: Floats

    def __len__(self) -> int:
        return len(self.weights)


def reduce(sample: Floats, size: int | None = None, gamma: float = DEFAULT_GAMMA, seed: int = 0) -> ReducedSet:
    """Sketches a sample of unit vectors, float32 [n, d], by at most ``size`` weighted points.

    Without a size, min(32, n // 2) points are used. Points whose weight comes out as zero are
    dropped, and so are those that would be the average of a single text.

    Raises:
        InvalidExamples: fewer than two vectors, or a size over n / 2, which would be no sketch.
    """
    count = len(sample)
    if count < 2:
        raise InvalidExamples(f"{count} examples, at least 2 are needed to make a reduced set")
    size = min(DEFAULT_SIZE, count // 2) if size is None else size
    if not 1 <= size <= min(count // 2, MAX_SIZE):
        raise InvalidExamples(
            f"a reduced set of {size} points for {count} examples is no sketch of them; "
            f"choose between 1 and {min(count // 2, MAX_SIZE)} or give more examples"
        )
    points = _centres(sample, size, seed).astype(np.float16).astype(np.float32)
    weights = _weights(sample, points, gamma)
    kept = weights > 0
    return ReducedSet(points[kept], weights[kept])


def _centres(sample: Floats, size: int, seed: int) -> Floats:
    """Spherical k-means (Dhillon & Modha, Machine Learning 2001) from k-means++ on a part of the sample.

    On the unit sphere, where the sample lies, centres lose a fifth less than inside it, and ten rounds of matrix
    products lose no more than scikit-learn's k-means run to its end (docs/log.md).
    """
    from scipy.sparse import csr_matrix
    from sklearn.cluster import kmeans_plusplus

    count = len(sample)
    part = np.random.default_rng(seed).permutation(count)[: FIRST_CENTRES_FROM * size]
    centres: Floats = kmeans_plusplus(sample[part], size, random_state=seed)[0].astype(np.float32)
    ones, rows = np.ones(count, dtype=np.float32), np.arange(count)
    for _ in range(ROUNDS):
        nearest = (sample @ centres.T).argmax(axis=1)
        sums = csr_matrix((ones, (nearest, rows)), shape=(size, count)) @ sample
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, np.finfo(np.float32).tiny), centres)
    return _merged(sample, centres)


def _merged(sample: Floats, centres: Floats) -> Floats:
    """Gives up centres that stand for one text, however often; the text goes to the next centre. [<= m, d].

    Such a centre is the text's embedding, from which much of the text can be told (docs/privacy.md).
    """
    similarity = sample @ centres.T
    kept = np.arange(len(centres))
    while True:
        nearest = similarity[:, kept].argmax(axis=1)
        sums = np.stack([sample[nearest == place].sum(axis=0) for place in range(len(kept))])
        means: Floats = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        least = np.ones(len(kept), dtype=np.float32)
        np.minimum.at(least, nearest, (sample * means[nearest]).sum(axis=1))
        if len(kept) == 1 or least.max() < SAME_TEXT:
            return means
        kept = np.delete(kept, least.argmax())


def _weights(sample: Floats, points: Floats, gamma: float) -> Floats:
    """Solves min_β≥0 βᵀKβ - 2βᵀc, then scales to Σβ = 1; K = LLᵀ makes it a least-squares problem."""
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    # In float64: between near-duplicates the rounding of float32 exceeds the ridge.
    exact = points.astype(np.float64)
    own = gaussian(exact, exact, gamma) + RIDGE * np.eye(len(points))
    target = gaussian(exact, sample.astype(np.float64), gamma).mean(axis=1)
    lower = np.linalg.cholesky(own)
    weights, _ = nnls(lower.T, solve_triangular(lower, target, lower=True))
    result: Floats = (weights / weights.sum()).astype(np.float32)
    return result
