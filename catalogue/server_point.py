"""Rows as points of a Qdrant server, and filters in its form.

A learnware's specification file travels in its point's payload, so that one upsert is atomic.
"""

import base64

import numpy as np
from qdrant_client import models

from catalogue.filters import Filter, Match
from catalogue.keywords import document_keywords
from catalogue.row import Row
from catalogue.schema import (
    KEYWORD_VECTOR,
    PARAMETER_VECTOR,
    PROMPT_VECTOR,
    SPECIFICATION_VECTOR,
    TEXT_VECTOR,
    description_of,
    point_id,
    read_record,
)
from catalogue.vectors import Vectors

FILE_KEY = "specification_file"
SPELLING_KEY = "name_lower_case"
BESIDE_RECORD = (FILE_KEY, SPELLING_KEY)
"""What a point's payload holds beside the record."""


def to_point(row: Row, vectors: Vectors) -> models.PointStruct:
    """Returns a row as a point."""
    keywords = document_keywords(description_of(row.learnware))
    payload = row.learnware.model_dump(mode="json")
    payload[SPELLING_KEY] = row.learnware.name.lower()
    payload[FILE_KEY] = base64.b64encode(row.file).decode()
    named: dict[str, models.Vector] = {
        SPECIFICATION_VECTOR: vectors.specification.tolist(),
        KEYWORD_VECTOR: models.SparseVector(indices=keywords.indices, values=keywords.values),
    }
    for name, vector in (
        (TEXT_VECTOR, row.text_vector), (PROMPT_VECTOR, vectors.prompt), (PARAMETER_VECTOR, vectors.parameters)
    ):  # fmt: skip
        if vector is not None:
            named[name] = vector.tolist()
    return models.PointStruct(id=point_id(row.learnware.id), vector=named, payload=payload)


def to_row(record: models.Record) -> Row:
    """Returns the row of a point that was read with its payload."""
    payload = dict(record.payload or {})
    file = base64.b64decode(payload.pop(FILE_KEY, ""))
    payload.pop(SPELLING_KEY, None)
    vectors = record.vector if isinstance(record.vector, dict) else {}
    text = vectors.get(TEXT_VECTOR)
    return Row(read_record(payload), file, None if text is None else np.array(text, dtype=np.float32))


def to_filter(where: Filter) -> models.Filter | None:
    """Returns the server's form of a filter."""
    conditions: list[models.Condition] = [
        models.FieldCondition(key=item.field, match=models.MatchAny(any=list(item.values)))
        if isinstance(item, Match)
        else models.FieldCondition(key=item.field, range=models.Range(gte=item.at_least, lte=item.at_most))
        for item in where.conditions
    ]
    return models.Filter(must=conditions) if conditions else None
