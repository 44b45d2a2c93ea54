"""The specification record and its file format, version 1.

A file is one safetensors file. Its metadata holds one JSON document under the key ``slmdock`` with a
description of each section; a section's tensors are named ``<section>.<tensor>``. Version 1 requires the
section ``text``: ``text.points`` (float16 [m, d]) and ``text.weights`` (float32 [m]). The digest is the SHA-256
over the document without it and without what is absent, and over every tensor.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from specification.calibration import Calibration
from specification.encoder import EncoderIdentity
from specification.errors import InvalidSpecification, TooLarge
from specification.files import read_file, write_atomically
from specification.parameter_vector import ParameterSection, ParameterVector
from specification.privacy import NO_PRIVACY, Privacy
from specification.prompt_sketch import PromptSection, PromptSketch
from specification.reduced_set import MAX_SIZE, ReducedSet

MAX_SPECIFICATION_BYTES = 16 * 2**20
MAX_HEADER_BYTES = 2**16
METADATA_KEY = "slmdock"
DTYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}
TENSORS: dict[str, dict[str, str]] = {
    "text": {"points": "F16", "weights": "F32"},
    "prompt": {"points": "F16"},
    "parameters": {"vector": "F16"},
}
"""The tensors of each section and their types."""
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
WEIGHT_TOLERANCE = 1e-3
MAX_NORM = 1.01
MAX_SAMPLE_SIZE = 10**9
MAX_SHOWN = 200

Origin = Literal["examples", "derived"]
"""What a specification was made of: examples of its task, or texts that the model itself wrote."""


class Section(BaseModel):
    """What is known of one reduced set in the file.

    ``sample_size`` counts the texts behind it, ``compression_error`` is the MMD between the reduced set
    and that sample under the Gaussian kernel ``gamma``; a private specification does not tell it.
    ``calibration`` says how near the texts' own subsets come; files of tasks, of small samples, private and
    derived ones have none. ``origin`` is there where the texts are no examples, see ``mark_derived``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["reduced_set"] = "reduced_set"
    encoder: EncoderIdentity
    sample_size: Annotated[int, Field(ge=2, le=MAX_SAMPLE_SIZE)]
    compression_error: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    gamma: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    calibration: Calibration | None = None
    origin: Literal["derived"] | None = None

    @model_validator(mode="after")
    def _calibrated_by_examples(self) -> Self:
        if self.origin and self.calibration:
            raise ValueError("a derived section has no calibration, which only examples give")
        return self


class Sections(BaseModel):
    """The sections of a file, by name. Absent ones are left out of the file and of its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: Section
    prompt: PromptSection | None = None
    parameters: ParameterSection | None = None


class Document(BaseModel):
    """The JSON document in a file's metadata."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["slmdock-specification"] = "slmdock-specification"
    version: Literal[1] = 1
    sections: Sections
    privacy: Privacy = NO_PRIVACY
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = "0" * 64


@dataclass(frozen=True, eq=False)
class Specification:
    """A sketch of a task or a learnware: its reduced set and what is known of it. Holds no text."""

    reduced_set: ReducedSet
    section: Section
    privacy: Privacy = NO_PRIVACY
    prompt: PromptSketch | None = None
    parameters: ParameterVector | None = None

    @property
    def sample_size(self) -> int:
        """The number of texts behind the sketch."""
        return self.section.sample_size

    @property
    def origin(self) -> Origin:
        """What the texts behind the sketch are."""
        return self.section.origin or "examples"

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything the file says, in hex."""
        return _digest(self._document(), self._tensors())

    def require_encoder(self, encoder: EncoderIdentity) -> None:
        """Raises Incomparable unless ``encoder`` made this specification."""
        encoder.require(self.section.encoder)

    def to_bytes(self) -> bytes:
        """Returns the specification as a file of format version 1."""
        document = self._document().model_copy(update={"digest": self.digest})
        text = document.model_dump_json(exclude_none=True)
        return safetensors.numpy.save(self._tensors(), {METADATA_KEY: text})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Specification":
        """Reads and checks a file of format version 1.

        Raises:
            InvalidSpecification: truncated, altered (digest), of another version, with points that are NaN,
                Inf or outside the unit ball, or with weights that are negative or do not sum to 1.
            TooLarge: more than MAX_SPECIFICATION_BYTES bytes.
        """
        if len(data) > MAX_SPECIFICATION_BYTES:
            raise TooLarge(f"specification of {len(data)} bytes, the limit is {MAX_SPECIFICATION_BYTES}")
        document = _read_document(data)
        tensors = _read_tensors(data, [name for name in TENSORS if getattr(document.sections, name) is not None])
        found = _digest(document, tensors)
        if found != document.digest:
            raise InvalidSpecification(
                f"specification: field 'digest' says {document.digest[:12]}… but the content has {found[:12]}…; "
                "the file was altered or damaged, make it again"
            )
        section = document.sections.text
        reduced = _checked_reduced_set(tensors, section)
        _check_privacy(document, reduced)
        prompt, parameters = _prompt(document, tensors), _parameters(document, tensors)
        specification = cls(reduced, section, document.privacy, prompt, parameters)
        # Known by now, and the dearest to find out.
        vars(specification)["digest"] = found
        return specification

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the file so that a crash leaves either the old file or the new one."""
        write_atomically(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Specification":
        """Reads a file; raises as ``from_bytes`` does, with the path in front, and InvalidInput if unreadable."""
        data = read_file(Path(path), MAX_SPECIFICATION_BYTES)
        try:
            return cls.from_bytes(data)
        except InvalidSpecification as error:
            raise InvalidSpecification(f"{path}: {error}") from None

    def _document(self) -> Document:
        prompt = None if self.prompt is None else self.prompt.section
        parameters = None if self.parameters is None else self.parameters.section
        sections = Sections(text=self.section, prompt=prompt, parameters=parameters)
        return Document(sections=sections, privacy=self.privacy)

    def _tensors(self) -> dict[str, NDArray[Any]]:
        return {
            "text.points": self.reduced_set.points.astype(DTYPES["F16"]),
            "text.weights": self.reduced_set.weights.astype(DTYPES["F32"]),
            **({} if self.prompt is None else _named("prompt", self.prompt.tensors())),
            **({} if self.parameters is None else _named("parameters", self.parameters.tensors())),
        }


def _prompt(document: Document, tensors: Mapping[str, NDArray[Any]]) -> PromptSketch | None:
    section = document.sections.prompt
    if section is None:
        return None
    points = {"points": tensors["prompt.points"]}
    return PromptSketch.read(section, points, document.sections.text.encoder.dimension)


def _parameters(document: Document, tensors: Mapping[str, NDArray[Any]]) -> ParameterVector | None:
    section = document.sections.parameters
    if section is None:
        return None
    return ParameterVector.read(section, {"vector": tensors["parameters.vector"]})


def _named(section: str, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{section}.{name}": tensor for name, tensor in tensors.items()}


def _read_document(data: bytes) -> Document:
    try:
        return Document.model_validate_json(_read_text(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))[:MAX_SHOWN] or "metadata"
        raise InvalidSpecification(f"specification: field '{field}': {first['msg']}") from None


def _read_text(data: bytes) -> str:
    """The JSON document in a file's header."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        if length > MAX_HEADER_BYTES:
            raise InvalidSpecification(f"specification: header of {length} bytes, limit {MAX_HEADER_BYTES}")
        text = json.loads(data[8 : 8 + length])["__metadata__"][METADATA_KEY]
    except (struct.error, ValueError, KeyError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise InvalidSpecification(
            "specification: truncated, or not a specification file; make it again with 'slmdock spec'"
        )
    return text


def _read_tensors(data: bytes, sections: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Reads the tensors of these sections, and refuses a file with others or with other types."""
    expected = {f"{section}.{name}": dtype for section in sections for name, dtype in TENSORS[section].items()}
    try:
        found = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise InvalidSpecification(f"specification: truncated or damaged ({str(error)[:MAX_SHOWN]})") from None
    if found.keys() != expected.keys():
        names = str(sorted(found))[:MAX_SHOWN]
        raise InvalidSpecification(f"specification: tensors {names}, expected {sorted(expected)}")
    tensors = {}
    for name, dtype in expected.items():
        if found[name]["dtype"] != dtype:
            raise InvalidSpecification(f"specification: tensor {name} is {found[name]['dtype']}, not {dtype}")
        flat = np.frombuffer(found[name]["data"], dtype=DTYPES[dtype])
        try:
            tensors[name] = flat.reshape(found[name]["shape"])
        except (ValueError, OverflowError):
            shape = str(found[name]["shape"])[:MAX_SHOWN]
            raise InvalidSpecification(f"specification: tensor {name} has the impossible shape {shape}") from None
    return tensors


def _checked_reduced_set(tensors: Mapping[str, NDArray[Any]], section: Section) -> ReducedSet:
    points = tensors["text.points"].astype(np.float32)
    weights = tensors["text.weights"].astype(np.float32)
    size, dimension = len(weights.ravel()), section.encoder.dimension
    if weights.ndim != 1 or points.shape != (size, dimension):
        raise InvalidSpecification(
            f"specification: points {points.shape} and weights {weights.shape} != [m, {dimension}] and [m]"
        )
    if not 1 <= size <= min(MAX_SIZE, section.sample_size // 2):
        raise InvalidSpecification(
            f"specification: {size} points for {section.sample_size} texts; at most half as many are allowed"
        )
    # NaN is within no limit, so that one pass over the numbers finds it too. Their squares cannot overflow.
    if not float(np.vecdot(points, points).max()) <= MAX_NORM**2:
        raise InvalidSpecification("specification: 'text.points' holds NaN, Inf or points outside the unit ball")
    # Of so few numbers a list is faster.
    values = weights.tolist()
    total = sum(values)
    if not (abs(total - 1) <= WEIGHT_TOLERANCE and min(values) >= 0):
        raise InvalidSpecification(
            f"specification: 'text.weights' must be non-negative and sum to 1, they sum to {total:.6g}"
        )
    return ReducedSet(points, weights)


def _check_privacy(document: Document, reduced: ReducedSet) -> None:
    """Refuses a file that says more of its texts than the mechanism it names would have told."""
    section = document.sections.text
    if not document.privacy.promised:
        if section.compression_error is None:
            raise InvalidSpecification("specification: field 'sections.text.compression_error' is missing")
        return
    if len(reduced) != 1:
        raise InvalidSpecification(
            f"specification: {len(reduced)} points; privacy mechanism '{document.privacy.mechanism}' makes one"
        )
    allowed = Section(encoder=section.encoder, sample_size=section.sample_size, gamma=section.gamma)
    if document.sections != Sections(text=allowed):
        raise InvalidSpecification(
            f"specification: privacy mechanism '{document.privacy.mechanism}' does not cover all of its fields; "
            "only the point may depend on the texts"
        )


def _digest(document: Document, tensors: Mapping[str, NDArray[Any]]) -> str:
    fields = document.model_dump(mode="json", exclude={"digest"}, exclude_none=True)
    total = hashlib.sha256(CANONICAL.encode(fields).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype.str} {list(tensor.shape)}".encode())
        total.update(tensor.tobytes())
    return total.hexdigest()
