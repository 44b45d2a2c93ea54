"""The collection's schema, the same for both engines: vectors, payload indexes, point ids."""

from uuid import UUID

from pydantic import ValidationError

from catalogue.filters import KEYWORD_FIELDS, NUMBER_FIELDS
from catalogue.learnware import Learnware, describe, is_id
from specification.errors import CatalogueError, InvalidInput

COLLECTION = "learnwares"
SPECIFICATION_VECTOR = "specification"
PROMPT_VECTOR = "prompt"
PARAMETER_VECTOR = "parameters"
TEXT_VECTOR = "text"
KEYWORD_VECTOR = "keywords"
OPTIONAL_VECTORS = (PROMPT_VECTOR, PARAMETER_VECTOR, TEXT_VECTOR)
INDEXED_FIELDS = (*KEYWORD_FIELDS, *NUMBER_FIELDS)
GRAPH_FIELDS = ("domain", "task_type", "base_model", "licence", "languages", "tags")
"""Fields whose values get links of their own in the graphs, so that filters by them find near points fast."""


def point_id(id: str) -> str:
    """Returns the point's UUID: the first 128 bits of the learnware's id, so that points sort as ids do."""
    return str(UUID(hex=checked_id(id)[:32]))


def checked_id(id: str) -> str:
    """Returns ``id``; raises InvalidInput if it has not the form of a learnware's."""
    if not is_id(id):
        raise InvalidInput(f"{id[:80]!r} is no learnware id; an id has 64 lower-case hex digits")
    return id


def read_record(payload: object) -> Learnware:
    """Returns the record in a point's payload.

    Raises:
        CatalogueError: the payload is none, so the catalogue was altered from outside.
    """
    try:
        return Learnware.model_validate(payload)
    except ValidationError as error:
        raise CatalogueError(f"the catalogue holds a damaged record: {describe(error)}") from None


def read_json(text: str) -> Learnware:
    """As ``read_record``, from JSON."""
    try:
        return Learnware.model_validate_json(text)
    except ValidationError as error:
        raise CatalogueError(f"the catalogue holds a damaged record: {describe(error)}") from None


def description_of(learnware: Learnware) -> str:
    """Returns what a free-text search looks at: the words of the record that a person would search by."""
    words = [learnware.name, learnware.description, learnware.domain, learnware.task_type, *learnware.tags]
    return " ".join(word for word in words if word)


def require_keyword_field(field: str) -> None:
    """Raises InvalidInput unless ``field`` can be counted by value."""
    if field not in KEYWORD_FIELDS:
        raise InvalidInput(f"field {field!r} has no facets; choose one of {', '.join(KEYWORD_FIELDS)}")
