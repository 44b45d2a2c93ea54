"""What a task or a learnware is: a sketch of its texts that can be compared and carries none of them.

Usable alone and offline: read examples, ``specify`` them, save the file. Knows no store and no server.
"""

from specification.calibration import Calibration, calibrate, judges, p_values
from specification.comparison import Comparison, compare, evaluate, mmd, self_term
from specification.encoder import Encoder, EncoderIdentity, Progress, no_progress
from specification.examples import Example, check_examples, parse_examples, read_examples
from specification.feature_map import FeatureMap
from specification.kernel import DEFAULT_GAMMA, gaussian
from specification.parameter_vector import PROJECTED, ParameterVector, ProxyIdentity, Recipe, Tuning
from specification.privacy import NO_PRIVACY, Privacy, differential_privacy, private_point
from specification.prompt_sketch import PROMPT_POINTS, PromptSection, PromptSketch
from specification.record import (
    MAX_SPECIFICATION_BYTES,
    Origin,
    Section,
    Specification,
)
from specification.reduced_set import DEFAULT_SIZE, ReducedSet, reduce
from specification.sentence_encoder import DEFAULT_ENCODER, SentenceEncoder
from specification.sketch import SKETCH_VERSION, mark_derived, specify
from specification.stored import StoredSpecification
from specification.views import VIEWS, join_views, views_dimension
from specification.whitening import Whitening

__all__ = [
    "DEFAULT_ENCODER",
    "DEFAULT_GAMMA",
    "DEFAULT_SIZE",
    "MAX_SPECIFICATION_BYTES",
    "NO_PRIVACY",
    "PROJECTED",
    "PROMPT_POINTS",
    "SKETCH_VERSION",
    "VIEWS",
    "Calibration",
    "Comparison",
    "Encoder",
    "EncoderIdentity",
    "Example",
    "FeatureMap",
    "Origin",
    "ParameterVector",
    "Privacy",
    "Progress",
    "PromptSection",
    "PromptSketch",
    "ProxyIdentity",
    "Recipe",
    "ReducedSet",
    "Section",
    "SentenceEncoder",
    "Specification",
    "StoredSpecification",
    "Tuning",
    "Whitening",
    "calibrate",
    "check_examples",
    "compare",
    "differential_privacy",
    "evaluate",
    "gaussian",
    "join_views",
    "judges",
    "mark_derived",
    "mmd",
    "no_progress",
    "p_values",
    "parse_examples",
    "private_point",
    "read_examples",
    "reduce",
    "self_term",
    "specify",
    "views_dimension",
]
