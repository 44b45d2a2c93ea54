"""A catalogue in two dimensions, for people: learnwares with like texts lie beside each other.

Landmarks are laid out by t-SNE (van der Maaten & Hinton, JMLR 2008); everybody else, a user's task among them,
is put between the landmarks nearest to it. Distances on the map mean little, neighbourhoods much.
"""

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from specification.kernel import Floats

LANDMARKS = 2000
NEAREST = 3
PERPLEXITY = 30.0
FEW = 4
"""Fewer are put on a circle: t-SNE has nothing to say of them."""
SMALLEST = 1e-9


@dataclass(frozen=True)
class Layout:
    """m landmarks: their vectors, float32 [m, d], and their places in [-1, 1], float32 [m, 2]."""

    vectors: Floats
    places: Floats

    @classmethod
    def of(cls, vectors: Floats) -> "Layout":
        """Lays out landmarks: float32 [m, d], at best LANDMARKS of them. The same vectors get the same places."""
        if len(vectors) < FEW:
            turns = 2 * np.pi * np.arange(len(vectors)) / max(len(vectors), 1)
            return cls(vectors, 0.5 * np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32))
        from sklearn.manifold import TSNE

        perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
        # Equal vectors have equal components, and t-SNE never parts what begins at one place.
        noise = np.random.default_rng(0).normal(scale=1e-5, size=(len(vectors), 2)).astype(np.float32)
        start = noise + 1e-4 * _principal(vectors)
        with threadpool_limits(1):
            found = TSNE(2, perplexity=perplexity, init=start, n_jobs=1).fit_transform(vectors)
        found -= (found.max(axis=0) + found.min(axis=0)) / 2
        return cls(vectors, (found / max(np.abs(found).max(), SMALLEST)).astype(np.float32))

    def put(self, vectors: Floats) -> Floats:
        """Returns the places of c vectors, float32 [c, d], as float32 [c, 2] in [-1, 1].

        Each is the mean of the NEAREST landmarks', weighted by the inverse fourth power of the distance; so a
        landmark's vector has the landmark's place. Without landmarks everybody is in the middle.
        """
        if not len(self.vectors):
            return np.zeros((len(vectors), 2), dtype=np.float32)
        squares = np.square(vectors).sum(axis=1)[:, None] + np.square(self.vectors).sum(axis=1)
        distances = np.maximum(squares - 2 * vectors @ self.vectors.T, SMALLEST)
        count = min(NEAREST, len(self.vectors))
        nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
        weights = np.take_along_axis(distances, nearest, axis=1) ** -2.0
        weights /= weights.sum(axis=1, keepdims=True)
        places: Floats = np.einsum("ck,ckp->cp", weights, self.places[nearest]).astype(np.float32)
        return places


def _principal(vectors: Floats) -> Floats:
    """The first two principal components, scaled to a deviation of 1 along the first."""
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    found: Floats = centred @ axes[:2].T
    return found / max(float(found[:, 0].std()), SMALLEST)
