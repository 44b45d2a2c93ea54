"""One prompt against learnwares: who most likely got it, and how well it fits."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from specification import (
    VIEWS,
    PromptSketch,
    ReducedSet,
    Whitening,
    compare,
    read_sketches,
)
from specification.kernel import Floats

Sketch = tuple[ReducedSet, PromptSketch | None]
Doubles = NDArray[np.float64]


def read_sketch(file: bytes) -> Sketch:
    """Reads what a prompt is compared with from a stored specification file."""
    reduced, prompt = read_sketches(file)
    return reduced, prompt if prompt is not None and prompt.section.views == VIEWS else None


def log_likelihoods(prompt: Floats, sketches: Sequence[Sketch], whitening: Whitening) -> Doubles:
    """Returns float64 [c]: the log likelihood of joined views under each learnware; -inf: no prompt section."""
    scores = np.full(len(sketches), -np.inf)
    found = [place for place, (_, sketch) in enumerate(sketches) if sketch is not None]
    known = [sketch for _, sketch in sketches if sketch is not None]
    if known:
        sizes = np.array([sketch.section.sample_size for sketch in known], dtype=np.float64)
        means = np.stack([sketch.mean for sketch in known])
        scores[found] = whitening.log_likelihoods(prompt[None], means, sizes)[0]
    return scores


def fits(meaning: Floats, sketches: Sequence[Sketch], gamma: float) -> Doubles:
    """Returns float64 [c] in [0, 1]: the RKHS cosine of a prompt's encoding, [d], with each text section."""
    point = ReducedSet(meaning[None], np.ones(1, dtype=np.float32))
    return compare(point, [reduced for reduced, _ in sketches], gamma).cosine


def order(scores: Doubles, fit: Doubles, ids: Sequence[str], threshold: float) -> list[int]:
    """Returns places from best to worst: by likelihood, and behind them, by fit, those without prompt section.

    Where the most likely one does not fit and one of the others does, the others come first.
    """
    places = range(len(ids))
    likely = sorted((place for place in places if scores[place] > -np.inf), key=lambda p: (-scores[p], ids[p]))
    others = sorted((place for place in places if scores[place] == -np.inf), key=lambda p: (-fit[p], ids[p]))
    if likely and others and fit[likely[0]] < threshold <= fit[others[0]]:
        return others + likely
    return likely + others
