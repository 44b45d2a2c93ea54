"""The vectors that a learnware is searched by, made from its specification file."""

from collections.abc import Sequence
from typing import NamedTuple

from catalogue.row import Row, Vector
from specification import VIEWS, FeatureMap, StoredSpecification


class Vectors(NamedTuple):
    """``specification`` is float32 [feature_map.dimension]; the others are None where a file has no such section.

    A prompt section of other views than this program's is kept in the file and not searched by.
    """

    specification: Vector
    prompt: Vector | None
    parameters: Vector | None


def vectors_of(rows: Sequence[Row], feature_map: FeatureMap) -> list[Vectors]:
    """Returns the vectors of many rows; their files were checked before."""
    files = [StoredSpecification(row.file) for row in rows]
    mapped = feature_map.embed([file.reduced_set for file in files])
    return [
        Vectors(
            vector,
            file.prompt.mean if file.prompt is not None and file.prompt.section.views == VIEWS else None,
            None if file.parameters is None else file.parameters.projection,
        )
        for vector, file in zip(mapped, files, strict=True)
    ]
