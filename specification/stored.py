"""Parts of a specification file that was checked before it was stored, each read when it is asked for.

Nothing is checked again: a search reads a hundred files, and checks would take longer than all the rest of it.
"""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from specification.calibration import Calibration
from specification.kernel import Floats
from specification.parameter_vector import ParameterSection, ParameterVector
from specification.prompt_sketch import PromptSection, PromptSketch
from specification.record import DTYPES, METADATA_KEY
from specification.reduced_set import ReducedSet


class StoredSpecification:
    """A file as ``Specification.to_bytes`` makes it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._start = 8 + int.from_bytes(data[:8], "little")
        self._header: dict[str, Any] = from_json(data[8 : self._start])
        self._sections: dict[str, Any] = from_json(self._header["__metadata__"][METADATA_KEY])["sections"]

    @cached_property
    def reduced_set(self) -> ReducedSet:
        """The weighted points."""
        return ReducedSet(self._tensor("text.points"), self._tensor("text.weights"))

    @property
    def compression_error(self) -> float | None:
        """As in the section of the reduced set."""
        error: float | None = self._sections["text"].get("compression_error")
        return error

    @property
    def calibration(self) -> Calibration | None:
        """As in the section of the reduced set."""
        fields = self._sections["text"].get("calibration")
        if fields is None:
            return None
        return Calibration.model_construct(quantiles=tuple(map(tuple, fields["quantiles"])))

    @cached_property
    def prompt(self) -> PromptSketch | None:
        """The prompt sketch, if there is one."""
        fields = self._sections.get("prompt")
        if fields is None:
            return None
        return PromptSketch(self._tensor("prompt.points"), PromptSection.model_construct(**fields))

    @cached_property
    def parameters(self) -> ParameterVector | None:
        """The parameter vector, if there is one."""
        fields = self._sections.get("parameters")
        if fields is None:
            return None
        return ParameterVector(self._tensor("parameters.vector"), ParameterSection.model_validate(fields))

    def _tensor(self, name: str) -> Floats:
        entry = self._header[name]
        values: NDArray[Any] = np.ndarray(
            entry["shape"], DTYPES[entry["dtype"]], self._data, self._start + entry["data_offsets"][0]
        )
        return values.astype(np.float32)
