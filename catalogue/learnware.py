"""What the catalogue holds about a learnware: the provider's card and what the dock added to it."""

import re
from reprlib import Repr
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalogue.labels import ID_PATTERN, MAX_NUMBER, Label, Labels, printable
from catalogue.quality import Signals, rounded
from specification import Origin
from specification.errors import InvalidInput

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
RESERVED_NAMES = frozenset({"auto", "task", "base", "none", "facets"})
WHOLE_MODEL = "none"
"""The base model of a learnware that stands on none, since it is a whole model."""
ENGINE_ID_LENGTH = 16
MAX_COMPLAINTS = 5
MAX_SHOWN = 80
# Neither long nor deep values are gone through: a stranger chose their length and depth.
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = MAX_SHOWN
MAX_DESCRIPTION = 4000
MAX_NEAR_DUPLICATES = 5

State = Literal["submitted", "checked", "verified", "published", "retired", "quarantined"]
"""Where a learnware stands in its life; searches find, and engines serve, what is published."""


def _not_reserved(name: str) -> str:
    if name.lower() in RESERVED_NAMES:
        raise ValueError(f"{name!r} is reserved; choose another name")
    return name


class Card(BaseModel):
    """What a provider says of a learnware. Everything but the name is optional."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME_PATTERN), AfterValidator(_not_reserved)]
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION), AfterValidator(printable)] = ""
    domain: Label = ""
    task_type: Label = ""
    licence: Label = "unknown"
    languages: Labels = ()
    tags: Labels = ()
    owner: Label = "local"


class NearDuplicate(BaseModel):
    """Another learnware on the same base model, almost the same as the one that came in after it.

    ``likeness`` is 1 for equal ones: of weights the cosine between what both add to the base model's weights, of
    specifications the fit, 1 - MMD²/(‖μ_P‖²+‖μ_Q‖²). ``id`` and ``reference`` name it as it was then.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=ID_PATTERN)]
    reference: Label
    by: Literal["weights", "specification"]
    likeness: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), AfterValidator(rounded)]

    def __str__(self) -> str:
        return f"{self.reference} by {self.by} ({self.likeness:.4f})"


class Learnware(Card):
    """A catalogue record. ``id`` is the SHA-256 of the adapter's content and its base model, or of a whole model.

    A whole model has the base model ``none`` and the rank 0; ``adapter_bytes`` is then the size of its files.
    ``rank``, ``adapter_bytes`` (bytes), ``sample_size`` (texts behind the specification) and ``created``
    (Unix seconds) are the numbers that filters can compare. ``quality`` is what is known of how good it is,
    ``privacy`` what its specification promises, ``origin`` what that was made of. ``near_duplicates`` were there
    when it came in, likest first.
    """

    id: Annotated[str, Field(pattern=ID_PATTERN)]
    version: Annotated[int, Field(ge=1, le=MAX_NUMBER)]
    base_model: Label
    status: State = "published"
    rank: Annotated[int, Field(ge=0, le=MAX_NUMBER)]
    adapter_bytes: Annotated[int, Field(ge=0, le=MAX_NUMBER)]
    sample_size: Annotated[int, Field(ge=1, le=MAX_NUMBER)]
    created: Annotated[int, Field(ge=0, le=MAX_NUMBER)]
    specification_digest: Annotated[str, Field(pattern=ID_PATTERN)]
    quality: Signals = ()
    privacy: Label = "none"
    origin: Origin = "examples"
    near_duplicates: Annotated[tuple[NearDuplicate, ...], Field(max_length=MAX_NEAR_DUPLICATES)] = ()

    @model_validator(mode="after")
    def _rank_of_an_adapter(self) -> Self:
        if (self.rank == 0) != self.whole:
            raise ValueError(f"rank {self.rank} on base model {self.base_model!r}: 0 is a whole model's alone")
        return self

    @property
    def whole(self) -> bool:
        """Whether it is a model of its own and no adapter."""
        return self.base_model == WHOLE_MODEL

    @property
    def reference(self) -> str:
        """What people call this very version."""
        return f"{self.name}@{self.version}"

    @property
    def engine_name(self) -> str:
        """Its name inside a serving engine: another content is another name."""
        return f"{self.name}@{self.id[:ENGINE_ID_LENGTH]}"

    @property
    def warning(self) -> str:
        """What people should know of its near-duplicates; empty if there are none."""
        found = ", ".join(map(str, self.near_duplicates))
        return f"almost the same as {found}" if found else ""


def parse_card(fields: object) -> Card:
    """Returns the card in ``fields``, a mapping as read from JSON.

    Raises:
        InvalidInput: a field is unknown, missing or has a bad value; the message names it.
    """
    try:
        return Card.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput(f"learnware card: {describe(error)}") from None


def describe(error: ValidationError) -> str:
    """Returns pydantic's first complaints: field, complaint, and the value, cut where it is long or deep."""
    complaints = []
    for item in error.errors(include_url=False)[:MAX_COMPLAINTS]:
        field = ".".join(str(part)[:MAX_SHOWN] for part in item["loc"]) or "value"
        shown = "" if item["type"] == "missing" else f" (got {short(item['input'])})"
        complaints.append(f"field '{field}': {item['msg']}{shown}")
    more = error.error_count() - len(complaints)
    return "; ".join(complaints) + (f"; and {more} more" if more else "")


def short(value: object) -> str:
    """Returns ``repr(value)``, cut where it is long or nested deep."""
    text = _SHORT.repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def other_case(name: str, there: str) -> str:
    """Returns the complaint about a name that differs from one that is there in case alone."""
    return (
        f"field 'name': {name!r} differs from {there!r}, which is there, in case alone; use that, or another name"
    )


def is_id(text: str) -> bool:
    """Tells whether ``text`` has the form of a learnware id."""
    return re.fullmatch(ID_PATTERN, text) is not None
