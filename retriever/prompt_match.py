"""One prompt against learnwares: who most likely got it, and how well it fits."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from specification import (
    VIEWS,
    Calibration,
    PromptSketch,
    ReducedSet,
    StoredSpecification,
    Whitening,
    evaluate,
    self_term,
)
from specification.kernel import Floats

Doubles = NDArray[np.float64]


@dataclass(eq=False)
class Sketch:
    """What a prompt is compared with; ``own`` is ‖μ‖² of ``reduced`` by the catalogue's kernel."""

    reduced: ReducedSet
    prompt: PromptSketch | None
    calibration: Calibration | None
    own: float
    _whitened: tuple[Whitening, Floats] | None = field(default=None, repr=False)

    @classmethod
    def read(cls, file: bytes, gamma: float) -> "Sketch":
        """Reads a stored specification file."""
        stored = StoredSpecification(file)
        reduced, prompt, calibration = stored.reduced_set, stored.prompt, stored.calibration
        known = prompt if prompt is not None and prompt.section.views == VIEWS else None
        return cls(reduced, known, calibration, self_term(reduced, gamma))

    def whitened(self, whitening: Whitening) -> Floats:
        """The mean of the texts' views under a whitening, float32 [d]; kept for the last whitening asked for."""
        assert self.prompt is not None
        kept = self._whitened
        if kept is None or kept[0] is not whitening:
            kept = self._whitened = (whitening, self.prompt.mean @ whitening.transform)
        return kept[1]


def log_likelihoods(prompt: Floats, sketches: Sequence[Sketch], whitening: Whitening) -> Doubles:
    """Returns float64 [c]: the log likelihood of joined views under each learnware; -inf: no prompt section."""
    scores = np.full(len(sketches), -np.inf)
    found = [place for place, sketch in enumerate(sketches) if sketch.prompt is not None]
    if found:
        known = [sketches[place] for place in found]
        counts = [sketch.prompt.section.sample_size for sketch in known if sketch.prompt is not None]
        means = np.stack([sketch.whitened(whitening) for sketch in known])
        scores[found] = whitening.log_likelihoods_of(prompt[None], means, np.array(counts, dtype=np.float64))[0]
    return scores


def fits(meaning: Floats, sketches: Sequence[Sketch], gamma: float) -> Doubles:
    """Returns float64 [c] in [0, 1]: the RKHS cosine of a prompt's encoding, [d], with each text section."""
    values = evaluate(meaning[None], [sketch.reduced for sketch in sketches], gamma)[0]
    result: Doubles = np.clip(values / np.sqrt([sketch.own for sketch in sketches]), 0, 1)
    return result


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
