"""Filters over a catalogue's records, the same for every engine."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from specification.errors import InvalidInput

KEYWORD_FIELDS = (
    "name", "domain", "task_type", "base_model", "licence", "languages", "tags", "status", "owner",
    "origin",
)  # fmt: skip
NUMBER_FIELDS = ("version", "rank", "adapter_bytes", "sample_size", "created")
OPERATORS = (">=", "<=", "=")


class Match(BaseModel):
    """The field holds one of ``values``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: Literal[
        "name", "domain", "task_type", "base_model", "licence", "languages", "tags", "status", "owner", "origin"
    ]
    values: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]


class Range(BaseModel):
    """``at_least`` <= field <= ``at_most``; a bound that is None does not bind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: Literal["version", "rank", "adapter_bytes", "sample_size", "created"]
    at_least: int | None = None
    at_most: int | None = None


class Filter(BaseModel):
    """All conditions must hold. An empty filter lets everything through."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conditions: Annotated[tuple[Match | Range, ...], Field(max_length=50)] = ()

    def __and__(self, other: "Filter") -> "Filter":
        return Filter(conditions=self.conditions + other.conditions)


EVERYTHING = Filter()
PUBLISHED = Filter(conditions=(Match(field="status", values=("published",)),))


def parse_filter(text: str) -> Filter:
    """Reads ``domain=finance|healthcare,rank<=16``: conditions joined by commas, alternatives by bars.

    Raises:
        InvalidInput: an unknown field, a missing operator, or a bound that is no whole number.
    """
    if not text.isprintable():
        raise InvalidInput(f"filter {text[:80]!r}: holds characters that cannot be printed")
    try:
        return Filter(conditions=tuple(_condition(part.strip()) for part in text.split(",") if part.strip()))
    except ValidationError as error:
        raise InvalidInput(f"filter of {len(text)} characters: {error.errors()[0]['msg']}") from None


def _condition(text: str) -> Match | Range:
    operator = next((candidate for candidate in OPERATORS if candidate in text), None)
    if operator is None:
        raise InvalidInput(f"filter {text!r}: no operator; write field=value, number>=1 or number<=1")
    field, value = (part.strip() for part in text.split(operator, 1))
    if field in KEYWORD_FIELDS and operator == "=" and value:
        return Match.model_validate({"field": field, "values": tuple(value.split("|"))})
    if field in NUMBER_FIELDS and value.isdecimal() and len(value) < 19:
        number = int(value)
        return Range.model_validate(
            {
                "field": field,
                "at_least": None if operator == "<=" else number,
                "at_most": None if operator == ">=" else number,
            }
        )
    raise InvalidInput(
        f"filter {text!r}: give one of {', '.join(KEYWORD_FIELDS)} with '=', "
        f"or one of {', '.join(NUMBER_FIELDS)} with '=', '>=' or '<=' and a whole number"
    )
