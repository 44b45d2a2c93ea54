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
"""Eight would do for all but mixtures, and tell less of single texts (docs/log.md)."""
MAX_SIZE = 1024
SAME_TEXT = 1 - 1e-4
"""The cosine from which on two embeddings are taken for those of one text."""
RIDGE = 1e-6
ROUNDS = 6
PART = 16
"""Texts a point that all rounds but the last look at."""
FIRST_CENTRES_FROM = 8
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
    """Spherical k-means (Dhillon & Modha, Machine Learning 2001) from k-means++, its last round over all texts.

    On the unit sphere, where the sample lies, centres lose a fifth less than inside it, and a few rounds of matrix
    products on a part of a large sample lose no more than scikit-learn's k-means run to its end (docs/log.md).
    """
    from scipy.sparse import csr_matrix
    from sklearn.cluster import kmeans_plusplus

    part = sample[np.random.default_rng(seed).permutation(len(sample))[: PART * size]]
    # In float64, which scikit-learn would otherwise make of every batch again.
    first = part[: FIRST_CENTRES_FROM * size].astype(np.float64)
    centres: Floats = kmeans_plusplus(first, size, random_state=seed)[0].astype(np.float32)
    ones, rows = np.ones(len(part), dtype=np.float32), np.arange(len(part))
    for _ in range(ROUNDS):
        nearest = (part @ centres.T).argmax(axis=1)
        sums = csr_matrix((ones, (nearest, rows)), shape=(size, len(part))) @ part
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, np.finfo(np.float32).tiny), centres)
    return _merged(sample, centres)


def _merged(sample: Floats, centres: Floats) -> Floats:
    """Gives up centres that stand for one text, however often; the text goes to the next centre. [<= m, d].

    Such a centre is the text's embedding, from which much of the text can be told (docs/privacy.md).
    """
    similarity = sample @ centres.T
    nearest = similarity.argmax(axis=1)
    means: Floats = centres.copy()
    # How far the farthest text of a centre is from their mean, as a cosine: 1 where all are one text.
    least = np.ones(len(centres), dtype=np.float32)
    kept, changed = np.ones(len(centres), dtype=bool), set(range(len(centres)))
    while True:
        for place in changed:
            own = sample[nearest == place]
            if len(own):
                total = own.sum(axis=0)
                means[place] = total / max(np.linalg.norm(total), np.finfo(np.float32).tiny)
                least[place] = (own @ means[place]).min()
        worst = int(np.where(kept, least, -np.inf).argmax())
        if kept.sum() == 1 or least[worst] < SAME_TEXT:
            remaining: Floats = means[kept]
            return remaining
        kept[worst], similarity[:, worst] = False, -np.inf
        moved = np.flatnonzero(nearest == worst)
        nearest[moved] = similarity[moved].argmax(axis=1)
        changed = set(nearest[moved].tolist())


def _weights(sample: Floats, points: Floats, gamma: float) -> Floats:
    """Solves min_β≥0 βᵀKβ - 2βᵀc, then scales to Σβ = 1; K = LLᵀ makes it a least-squares problem."""
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    # In float64: between near-duplicates the rounding of float32 exceeds the ridge. A mean evens it out.
    exact = points.astype(np.float64)
    own = gaussian(exact, exact, gamma) + RIDGE * np.eye(len(points))
    target = gaussian(points, sample, gamma).mean(axis=1, dtype=np.float64)
    lower = np.linalg.cholesky(own)
    weights, _ = nnls(lower.T, solve_triangular(lower, target, lower=True))
    result: Floats = (weights / weights.sum()).astype(np.float32)
    return result
