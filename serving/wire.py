"""The JSON that goes over the wire: errors in OpenAI's shape, and our records in and out."""

import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from catalogue import Filter, Learnware, Match, Page, Signal
from catalogue.quality import Signals
from indexer import Change
from retriever import Ranking
from serving.keys import Key
from serving.verification_queue import Job
from specification import Example
from specification.errors import DockError, InvalidInput

PAGE: TypeAdapter[Page] = TypeAdapter(Page)
RANKING: TypeAdapter[Ranking] = TypeAdapter(Ranking)
SIGNALS: TypeAdapter[tuple[Signal, ...]] = TypeAdapter(Signals)


class MeasuredTask(BaseModel):
    """The digest under which a measured task's specification was kept."""

    model_config = ConfigDict(frozen=True)

    digest: str


class ModelEntry(BaseModel):
    """One line of ``/v1/models``: ``id`` can be sent as ``model``; ``learnware`` is the catalogue's id."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "slmdock"
    learnware: str | None = None

    @classmethod
    def of(cls, learnware: Learnware) -> "ModelEntry":
        return cls(
            id=learnware.engine_name,
            created=learnware.created,
            owned_by=learnware.owner,
            learnware=learnware.id,
        )


class ModelList(BaseModel):
    """A page of ``/v1/models``; ``next`` goes into ``after`` for the page behind it."""

    model_config = ConfigDict(frozen=True)

    object: Literal["list"] = "list"
    data: list[ModelEntry]
    has_more: bool
    next: str | None


class KeyList(BaseModel):
    """The keys of a dock, oldest first."""

    model_config = ConfigDict(frozen=True)

    object: Literal["list"] = "list"
    data: list[Key]


class ChangeList(BaseModel):
    """A page of the history, newest first; ``next`` goes into ``before`` for the page behind it."""

    model_config = ConfigDict(frozen=True)

    data: list[Change]
    next: int | None


class VerificationRequest(BaseModel):
    """Examples that the learnware was not trained on, and how to go about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    examples: list[Example]
    chat: bool | None = None
    publish: bool = False


class Verification(BaseModel):
    """A job, and whether this gateway works them off."""

    model_config = ConfigDict(frozen=True)

    job: Job
    verifying: bool


class MapProgress(BaseModel):
    """How many learnwares the map that is being made has by now."""

    model_config = ConfigDict(frozen=True)

    done: int = Field(ge=0)


class MapPlace(BaseModel):
    """Where a task lies, in the map's whole numbers."""

    model_config = ConfigDict(frozen=True)

    x: int
    y: int


class VerificationList(BaseModel):
    """The last jobs, newest first."""

    model_config = ConfigDict(frozen=True)

    data: list[Job]
    verifying: bool


class Readiness(BaseModel):
    """Which parts of the dock can do their work."""

    model_config = ConfigDict(frozen=True)

    ready: bool
    engine: bool
    catalogue: bool


class FacetCounts(BaseModel):
    """How often each value of a field occurs."""

    model_config = ConfigDict(frozen=True)

    field: str
    values: dict[str, int]


class ErrorFields(BaseModel):
    """What went wrong: ``message`` for people, ``code`` for programs."""

    model_config = ConfigDict(frozen=True)

    message: str
    type: str | None = None
    param: str | None = None
    code: str | int | None = None


class ErrorAnswer(BaseModel):
    """An error as a client reads it, see ``error_body``."""

    model_config = ConfigDict(frozen=True)

    error: ErrorFields


def error_body(message: str, kind: str, code: str, param: str | None = None) -> dict[str, Any]:
    """Returns an error as OpenAI's clients understand it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_code(error: type[DockError]) -> str:
    """Returns the code of an error class: ``InvalidSpecification`` is ``invalid_specification``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", error.__name__).lower()


def parse_object(data: bytes) -> dict[str, object]:
    """Returns the JSON object in ``data``.

    Raises:
        InvalidInput: not UTF-8, not JSON, not an object, nested too deeply, or with NaN or Infinity in it.
    """
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the request's body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidInput(f"the request's body is a JSON {type(found).__name__}, expected an object")
    return found


def filter_text(where: Filter) -> str:
    """Returns a filter as ``catalogue.parse_filter`` reads it.

    Raises:
        InvalidInput: a value holds a comma or a bar, which the text form cannot carry.
    """
    parts: list[str] = []
    for condition in where.conditions:
        if isinstance(condition, Match):
            if any(mark in value for value in condition.values for mark in ",|"):
                raise InvalidInput(f"filter on {condition.field}: a value with ',' or '|' cannot be sent")
            parts.append(f"{condition.field}={'|'.join(condition.values)}")
            continue
        bounds = {">=": condition.at_least, "<=": condition.at_most}
        parts += [f"{condition.field}{sign}{bound}" for sign, bound in bounds.items() if bound is not None]
    return ",".join(parts)


def encodable(label: str, text: str) -> str:
    """Returns ``text`` as it is.

    Raises:
        InvalidInput: it holds a lone surrogate, half of a character, which JSON can spell and UTF-8 cannot.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{label} {text[:200]!r}: not encodable as UTF-8 ({error.reason})") from None
    return text


def header_safe(text: str, limit: int = 500) -> str:
    """Returns ``text`` as one line that any HTTP header can carry."""
    return " ".join(text.split())[:limit].encode("ascii", "replace").decode("ascii")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
