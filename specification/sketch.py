"""From texts to a specification: encode, reduce, and measure what the reduction lost."""

from collections.abc import Sequence

import numpy as np

from specification.comparison import mmd
from specification.encoder import Encoder, Progress, no_progress
from specification.kernel import DEFAULT_GAMMA, Floats
from specification.prompt_sketch import PromptSketch
from specification.record import Section, Specification
from specification.reduced_set import ReducedSet, reduce
from specification.views import join_views

MAX_SAMPLE = 512
SKETCH_VERSION = 2
"""Changes when the same texts and encoder would give another specification."""


def specify(
    texts: Sequence[str], encoder: Encoder, size: int | None = None, progress: Progress = no_progress
) -> Specification:
    """Sketches a task from its texts, on this machine; the result carries none of them.

    At most MAX_SAMPLE texts are used, an even sample in file order; ``sample_size`` says how many.

    Raises:
        InvalidExamples: fewer than two texts, or ``size`` over half their number.
        EncoderError: the encoder fails.
    """
    chosen = list(texts)
    if len(chosen) > MAX_SAMPLE:
        chosen = [chosen[int(index)] for index in np.linspace(0, len(chosen) - 1, MAX_SAMPLE)]
    sample = encoder.encode(chosen, progress)
    reduced = reduce(sample, size)
    section = Section(
        encoder=encoder.identity,
        sample_size=len(chosen),
        compression_error=_compression_error(sample, reduced),
        gamma=DEFAULT_GAMMA,
    )
    return Specification(reduced, section, prompt=PromptSketch.of(join_views(chosen, sample)))


def _compression_error(sample: Floats, reduced: ReducedSet) -> float:
    uniform = np.full(len(sample), 1 / len(sample), dtype=np.float32)
    return round(mmd(ReducedSet(sample, uniform), reduced), 6)
