"""Learnwares on their way into a catalogue, and as it keeps them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalogue.learnware import Learnware
from specification import Specification

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Entry:
    """One learnware on its way in: record, specification, and what may be known besides.

    ``text_vector`` is the encoder's vector of the record's description, float32 [text_dimension]; without it the
    learnware is found by the words of its description and not by their meaning.
    """

    learnware: Learnware
    specification: Specification
    text_vector: Vector | None = None


@dataclass(frozen=True)
class Row:
    """One learnware as a catalogue keeps it: as ``Entry``, with the bytes of the specification's checked file."""

    learnware: Learnware
    file: bytes
    text_vector: Vector | None = None
