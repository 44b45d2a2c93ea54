"""From texts to a specification: encode, reduce, and measure what the reduction lost."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from specification.calibration import calibrate
from specification.comparison import mmd
from specification.encoder import Encoder, Progress, no_progress
from specification.errors import InvalidExamples, InvalidInput
from specification.examples import MIN_EXAMPLES
from specification.kernel import DEFAULT_GAMMA, Floats
from specification.privacy import NO_PRIVACY, Privacy, private_point, require_enough
from specification.prompt_sketch import PromptSketch
from specification.record import Section, Specification
from specification.reduced_set import ReducedSet, reduce
from specification.views import join_views

MAX_SAMPLE = 512
MAX_PRIVATE_SAMPLE = 4096
SKETCH_VERSION = 4
"""Changes when the same texts and encoder would give another specification."""


def specify(
    texts: Sequence[str],
    encoder: Encoder,
    size: int | None = None,
    progress: Progress = no_progress,
    privacy: Privacy = NO_PRIVACY,
    calibrated: bool = True,
) -> Specification:
    """Sketches a task from its texts, on this machine; the result carries none of them.

    At most MAX_SAMPLE texts are used, an even sample in file order; ``sample_size`` says how many. A learnware's
    sketch is ``calibrated``, so that "none fits" can be decided, and has a prompt section. A task's needs neither;
    without them it tells much less of its texts (docs/privacy.md).

    With ``privacy``, see ``differential_privacy``, the sketch is one point with noise on it, made of up to
    MAX_PRIVATE_SAMPLE texts since more of them need less noise; another one each time, so make it once.

    Raises:
        InvalidExamples: fewer than two texts, ``size`` over half their number, or too few for the privacy.
        InvalidInput: ``privacy`` with a ``size`` over 1.
        EncoderError: the encoder fails.
    """
    if privacy.promised:
        return _specify_privately(_evenly(texts, MAX_PRIVATE_SAMPLE), encoder, size, progress, privacy)
    chosen = _evenly(texts, MAX_SAMPLE)
    sample = encoder.encode(chosen, progress)
    reduced = reduce(sample, size)
    section = Section(
        encoder=encoder.identity,
        sample_size=len(chosen),
        compression_error=_compression_error(sample, reduced),
        gamma=DEFAULT_GAMMA,
        calibration=calibrate(sample, size) if calibrated else None,
    )
    prompt = PromptSketch.of(join_views(chosen, sample)) if calibrated else None
    return Specification(reduced, section, prompt=prompt)


def mark_derived(made: Specification) -> Specification:
    """Returns a sketch of texts that a model wrote, marked so.

    It loses its calibration: how near such texts come to each other says nothing of how near genuine tasks come.
    """
    section = made.section.model_copy(update={"origin": "derived", "calibration": None})
    return replace(made, section=section)


def _specify_privately(
    texts: Sequence[str], encoder: Encoder, size: int | None, progress: Progress, privacy: Privacy
) -> Specification:
    if size not in (None, 1):
        raise InvalidInput(f"size {size}: a private specification has one point; leave the size out")
    if len(texts) < MIN_EXAMPLES:
        raise InvalidExamples(f"{len(texts)} examples, at least {MIN_EXAMPLES} are needed")
    require_enough(len(texts), encoder.identity.dimension, privacy)
    reduced = private_point(encoder.encode(texts, progress), privacy)
    section = Section(encoder=encoder.identity, sample_size=len(texts), gamma=DEFAULT_GAMMA)
    return Specification(reduced, section, privacy)


def _evenly(texts: Sequence[str], limit: int) -> list[str]:
    if len(texts) <= limit:
        return list(texts)
    return [texts[int(index)] for index in np.linspace(0, len(texts) - 1, limit)]


def _compression_error(sample: Floats, reduced: ReducedSet) -> float:
    uniform = np.full(len(sample), 1 / len(sample), dtype=np.float32)
    return round(mmd(ReducedSet(sample, uniform), reduced), 6)
