"""Parts of a specification file that was checked before it was stored, each read when it is asked for.

Nothing is checked again: a search reads a hundred files, and checks would take longer than all the rest of it.
"""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from specification.calibration import Calibration
from specification.encoder import EncoderIdentity
from specification.kernel import Floats
from specification.parameter_vector import ParameterSection, ParameterVector
from specification.prompt_sketch import PromptSection, PromptSketch
from specification.record import DTYPES, METADATA_KEY, Section
from specification.reduced_set import ReducedSet


class StoredSpecification:
    """A file as ``Specification.to_bytes`` makes it."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @cached_property
    def reduced_set(self) -> ReducedSet:
        """The weighted points."""
        return ReducedSet(self._tensor("text.points"), self._tensor("text.weights"))

    @cached_property
    def section(self) -> Section:
        """What the file says of its reduced set."""
        fields = self._sections["text"]
        known: dict[str, Any] = {"encoder": EncoderIdentity.model_construct(**fields["encoder"])}
        if fields.get("calibration") is not None:
            rows = tuple(tuple(row) for row in fields["calibration"]["quantiles"])
            known["calibration"] = Calibration.model_construct(quantiles=rows)
        return Section.model_construct(**(fields | known))

    @property
    def compression_error(self) -> float | None:
        """``section.compression_error``, without reading the rest of the section."""
        error: float | None = self._sections["text"].get("compression_error")
        return error

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

    @cached_property
    def _start(self) -> int:
        return 8 + int.from_bytes(self.data[:8], "little")

    @cached_property
    def _header(self) -> dict[str, Any]:
        header: dict[str, Any] = from_json(self.data[8 : self._start])
        return header

    @cached_property
    def _sections(self) -> dict[str, Any]:
        sections: dict[str, Any] = from_json(self._header["__metadata__"][METADATA_KEY])["sections"]
        return sections

    def _tensor(self, name: str) -> Floats:
        entry = self._header[name]
        begin, end = entry["data_offsets"]
        flat: NDArray[Any] = np.frombuffer(
            self.data, DTYPES[entry["dtype"]], offset=self._start + begin,
            count=(end - begin) // DTYPES[entry["dtype"]].itemsize,
        )  # fmt: skip
        values: Floats = flat.reshape(entry["shape"]).astype(np.float32)
        return values
