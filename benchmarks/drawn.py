"""Learnwares by the million, drawn from real embeddings: subsets and mixtures, so that many near neighbours exist.

The texts of each source fall into topics, by k-means. A learnware's texts come from one source, and within it from
a few topics in proportions drawn by a Dirichlet distribution; one in ten mixes two sources. Sources are of unequal
popularity (Zipf). Of TEXTS texts drawn so, with repetition, a reduced set is made by rounds of spherical k-means,
its weights the shares of texts. A task is drawn in the same way.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specification import Progress, ReducedSet, no_progress
from specification.kernel import Floats

TEXTS = 64
POINTS = 8
ROUNDS = 3
TOPICS = 16
CONCENTRATION = 0.3
MIXED = 0.1
POPULARITY = 0.7
BATCH = 1000

Halves = NDArray[np.float16]


@dataclass(frozen=True)
class Drawn:
    """c reduced sets of POINTS points: float16 [c, POINTS, d] and float32 [c, POINTS], weights may be 0."""

    points: Halves
    weights: Floats

    def __len__(self) -> int:
        return len(self.weights)

    def reduced(self, place: int) -> ReducedSet:
        """Returns one of them, without points of no weight."""
        kept = self.weights[place] > 0
        return ReducedSet(self.points[place][kept].astype(np.float32), self.weights[place][kept])


class Source:
    """Draws learnwares. ``embeddings`` is float32 [n, d], ``labels`` [n] says which source a text is of."""

    def __init__(self, embeddings: Floats, labels: NDArray[np.int64], seed: int = 0) -> None:
        from sklearn.cluster import KMeans

        self.embeddings = embeddings
        self.topics: list[NDArray[np.int64]] = []
        self.of_source: list[NDArray[np.int64]] = []
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            count = min(TOPICS, len(own) // 4)
            groups = KMeans(count, n_init=1, random_state=seed).fit(embeddings[own]).labels_
            found = [own[groups == group] for group in range(count) if (groups == group).any()]
            self.of_source.append(np.arange(len(self.topics), len(self.topics) + len(found)))
            self.topics += found

    def draw(self, count: int, generator: np.random.Generator, progress: Progress = no_progress) -> Drawn:
        """Draws reduced sets."""
        points = np.empty((count, POINTS, self.embeddings.shape[1]), dtype=np.float16)
        weights = np.empty((count, POINTS), dtype=np.float32)
        for start in range(0, count, BATCH):
            part = self._batch(min(BATCH, count - start), generator)
            points[start : start + BATCH], weights[start : start + BATCH] = part.points, part.weights
            progress(start + len(part), count)
        return Drawn(points, weights)

    def _batch(self, count: int, generator: np.random.Generator) -> Drawn:
        sample = self.embeddings[np.stack([self._texts(generator) for _ in range(count)])]
        centres = sample[:, :POINTS].copy()
        for _ in range(ROUNDS):
            nearest = np.matmul(sample, centres.transpose(0, 2, 1)).argmax(axis=2)
            member = (nearest[:, :, None] == np.arange(POINTS)).astype(np.float32)
            sums = np.matmul(member.transpose(0, 2, 1), sample)
            lengths = np.linalg.norm(sums, axis=2, keepdims=True)
            centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-9), centres)
        return Drawn(centres.astype(np.float16), member.mean(axis=1))

    def _texts(self, generator: np.random.Generator) -> NDArray[np.int64]:
        popularity = 1 / np.arange(1, len(self.of_source) + 1) ** POPULARITY
        number = 2 if generator.random() < MIXED else 1
        sources = generator.choice(len(self.of_source), number, replace=False, p=popularity / popularity.sum())
        topics = np.concatenate([self.of_source[source] for source in sources])
        shares = generator.dirichlet(np.full(len(topics), CONCENTRATION))
        counts = generator.multinomial(TEXTS, shares)
        chosen = [
            self.topics[topic][generator.integers(len(self.topics[topic]), size=n)]
            for topic, n in zip(topics, counts, strict=True)
            if n
        ]
        texts: NDArray[np.int64] = generator.permutation(np.concatenate(chosen))
        return texts
