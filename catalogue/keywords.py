"""Descriptions as sparse vectors: the BM25 of Qdrant's engine, the same for both engines."""

from dataclasses import dataclass
from functools import cache

from qdrant_edge import Bm25, Bm25Config, SparseVector


@dataclass(frozen=True)
class Keywords:
    """A sparse vector: hashed words and their weights, of equal length."""

    indices: list[int]
    values: list[float]


def document_keywords(text: str) -> Keywords:
    """Returns the keywords of a description that is stored; empty for an empty text."""
    return _keywords(_bm25().embed_document(text))


def query_keywords(text: str) -> Keywords:
    """Returns the keywords of a search query."""
    return _keywords(_bm25().embed_query(text))


@cache
def _bm25() -> Bm25:
    return Bm25(Bm25Config())


def _keywords(vector: SparseVector) -> Keywords:
    return Keywords(list(vector.indices), list(vector.values))
