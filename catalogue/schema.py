"""The collection's schema, the same for both engines: vectors, payload indexes, point ids."""

from uuid import UUID

from catalogue.filters import KEYWORD_FIELDS, NUMBER_FIELDS
from catalogue.learnware import Learnware
from specification.errors import InvalidInput

COLLECTION = "learnwares"
SPECIFICATION_VECTOR = "specification"
TEXT_VECTOR = "text"
KEYWORD_VECTOR = "keywords"
INDEXES = {
    **dict.fromkeys((*KEYWORD_FIELDS, "specification_digest"), "Keyword"),
    **dict.fromkeys(NUMBER_FIELDS, "Integer"),
}


def point_id(id: str) -> str:
    """Returns the point's UUID: the first 128 bits of the learnware's id, so that points sort as ids do."""
    return str(UUID(hex=id[:32]))


def description_of(learnware: Learnware) -> str:
    """Returns what a free-text search looks at: the words of the record that a person would search by."""
    words = [learnware.name, learnware.description, learnware.domain, learnware.task_type, *learnware.tags]
    return " ".join(word for word in words if word)


def require_keyword_field(field: str) -> None:
    """Raises InvalidInput unless ``field`` can be counted by value."""
    if field not in KEYWORD_FIELDS:
        raise InvalidInput(f"field {field!r} has no facets; choose one of {', '.join(KEYWORD_FIELDS)}")
