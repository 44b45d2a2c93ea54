"""One index of the embedded catalogue: two shards of Qdrant Edge in a folder, made from the ledger.

Only what is searched by lies in it: vectors, and the fields that filters ask for. Every learnware is in the first
shard; the second has those with a vector that not all have, since missing vectors take as much space.
"""

import contextlib
import shutil
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import qdrant_edge as edge

from catalogue.contract import CatalogueSettings
from catalogue.filters import NUMBER_FIELDS, Filter, Match
from catalogue.keywords import document_keywords
from catalogue.ledger import Change, Key, Ledger
from catalogue.plan import IndexPlan
from catalogue.row import Row
from catalogue.schema import (
    GRAPH_FIELDS,
    INDEXED_FIELDS,
    KEYWORD_VECTOR,
    OPTIONAL_VECTORS,
    PARAMETER_VECTOR,
    PROMPT_VECTOR,
    SPECIFICATION_VECTOR,
    TEXT_VECTOR,
    description_of,
)
from catalogue.vectors import Vectors, vectors_of
from specification.errors import CatalogueError

MAIN = "main"
EXTRA = "extra"
NUMBERS = "numbers"
BATCH = 256
"""Changes applied at once."""
FLUSH = 5_000
"""Changes that are applied again after a crash at most."""


class EdgeIndex:
    """An index in use. The engine holds Python's lock in every call, so calls are kept short.

    ``applied`` is the number of the last change of the ledger that is in it, ``made`` that of the last one that
    has its place in the graphs; points that came later are compared one by one.
    """

    def __init__(self, folder: Path, plan: IndexPlan) -> None:
        """Opens an index."""
        self.folder = folder
        self.plan = plan
        self.made, self.applied = numbers_of(folder)
        self._flushed = self.applied
        self._main, self._extra = (_open(folder / name) for name in (MAIN, EXTRA))

    @classmethod
    def create(cls, folder: Path, settings: CatalogueSettings) -> None:
        """Makes an empty index in place of whatever was there."""
        shutil.rmtree(folder, ignore_errors=True)
        for part, vectors in _vectors(settings).items():
            (folder / part).mkdir(parents=True)
            shard = edge.EdgeShard.create(str(folder / part), _config(part, vectors))
            for name in INDEXED_FIELDS:
                shard.update(edge.UpdateOperation.create_field_index(name, _field_index(name)))
            shard.flush()
            shard.close()

    def close(self) -> None:
        self.flush()
        for shard in self._shards:
            shard.close()

    @property
    def _shards(self) -> tuple[edge.EdgeShard, edge.EdgeShard]:
        return self._main, self._extra

    def retire(self) -> None:
        """Closes and removes the index when nobody searches it any longer."""
        weakref.finalize(self, _remove, self._shards, self.folder)

    def flush(self) -> None:
        """Makes what was applied durable; what was not is applied again after a crash."""
        for shard in self._shards:
            shard.flush()
        self._flushed = self.applied
        self._note()

    def finish(self, graphs: bool) -> None:
        """Builds the graphs of what was applied, which takes minutes and Python's lock; or leaves them out."""
        for shard in self._shards if graphs else ():
            shard.optimize()
        self.made = self.applied
        self.flush()

    @property
    def unflushed(self) -> int:
        """How many changes would be applied again after a crash."""
        return self.applied - self._flushed

    def advance(self, ledger: Ledger) -> None:
        """Applies what the ledger holds now and the index does not."""
        last = ledger.last
        while self.applied < last and (changes := ledger.changes(self.applied, BATCH)):
            self.apply(changes)
            if self.unflushed >= FLUSH:
                self.flush()

    def apply(self, changes: Sequence[Change]) -> None:
        """Brings the index up to date with the next changes of the ledger; applied twice they do no harm."""
        rows = [change.row for change in changes if change.row is not None]
        gone: list[int | UUID | str] = [str(UUID(bytes=change.key)) for change in changes if change.row is None]
        main, extra, without = [], [], list[int | UUID | str]()
        for row, vectors in zip(rows, vectors_of(rows, self.plan.feature_map), strict=True):
            payload = row.learnware.model_dump(mode="json", include=set(INDEXED_FIELDS))
            id = str(UUID(hex=row.learnware.id[:32]))
            main.append(edge.Point(id, _always(row, vectors), payload))
            if sometimes := _sometimes(row, vectors):
                extra.append(edge.Point(id, sometimes, payload))
            else:
                without.append(id)
        for shard, points, missing in ((self._main, main, gone), (self._extra, extra, gone + without)):
            if points:
                shard.update(edge.UpdateOperation.upsert_points(points))
            if missing:
                shard.update(edge.UpdateOperation.delete_points(missing))
        self.applied = changes[-1].number

    def _note(self) -> None:
        # Not synced: an older note only means that more is applied again.
        fresh = self.folder / f"{NUMBERS}.new"
        fresh.write_text(f"{self.made} {self.applied}")
        fresh.replace(self.folder / NUMBERS)

    def query(
        self, using: str, vector: list[float] | edge.SparseVector, limit: int, where: Filter, exact: bool = False
    ) -> list[tuple[Key, float]]:
        """Returns keys and scores of the points nearest to a vector in the space ``using``."""
        quantized = edge.QuantizationSearchParams(
            ignore=exact,
            rescore=self.plan.oversampling > 0,
            oversampling=max(self.plan.oversampling, 1.0),
        )
        # HNSW cannot return more points than it keeps in view.
        params = edge.SearchParams(hnsw_ef=max(self.plan.ef, limit), exact=exact, quantization=quantized)
        request = edge.QueryRequest(
            limit=limit, query=edge.Query.Nearest(vector, using=using), filter=edge_filter(where), params=params,
            with_payload=False, with_vector=False,
        )  # fmt: skip
        shard = self._extra if using in OPTIONAL_VECTORS else self._main
        return [(_key(point.id), point.score) for point in shard.query(request)]

    def scroll(self, where: Filter, limit: int, after: Key | None) -> list[Key]:
        """Returns up to ``limit`` keys in order, behind ``after``."""
        # One point more than asked for: the point `after` itself comes first and is passed over.
        request = edge.ScrollRequest(
            offset=str(UUID(bytes=after)) if after else None, limit=limit + 1, filter=edge_filter(where),
            with_payload=False, with_vector=False,
        )  # fmt: skip
        keys = [_key(record.id) for record in self._main.scroll(request)[0]]
        return [key for key in keys if key != after][:limit]

    def count(self, where: Filter) -> int:
        """Returns how many points pass the filter."""
        return self._main.count(edge.CountRequest(exact=True, filter=edge_filter(where)))

    def facets(self, field: str, where: Filter, limit: int) -> dict[str, int]:
        """Returns the values of a keyword field with their counts."""
        hits = self._main.facet(edge.FacetRequest(field, limit, True, edge_filter(where))).hits
        # The engine remembers values that no point has any longer.
        return {str(hit.value): hit.count for hit in hits if hit.count}


@contextlib.contextmanager
def engine_errors(deed: str, folder: Path | None = None) -> Iterator[None]:
    """Maps whatever the engine or SQLite raises, its panics too, to CatalogueError."""
    where = f" {folder}" if folder else ""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise CatalogueError(f"the catalogue{where} cannot {deed}: {error}") from None
    except BaseException as error:
        # Engine errors are plain Exceptions; its panics derive from BaseException and are private to it.
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise CatalogueError(f"the catalogue{where} cannot {deed}: the engine says: {error}") from None


def _open(folder: Path) -> edge.EdgeShard:
    # A killed optimiser leaves this behind; the engine never reads it again.
    shutil.rmtree(folder / "temp_segments", ignore_errors=True)
    return edge.EdgeShard.load(str(folder))


def _vectors(settings: CatalogueSettings) -> dict[str, dict[str, edge.EdgeVectorParams]]:
    """The dense vectors of each shard: float16, cold, beside int8 ones that are searched."""

    def dense(size: int, distance: edge.Distance) -> edge.EdgeVectorParams:
        return edge.EdgeVectorParams(
            size, distance, memory=edge.Memory.Cold, datatype=edge.VectorStorageDatatype.Float16,
            quantization_config=edge.ScalarQuantizationConfig(edge.ScalarType.Int8, memory=edge.Memory.Pinned),
        )  # fmt: skip

    return {
        MAIN: {SPECIFICATION_VECTOR: dense(settings.plan.feature_map.dimension, edge.Distance.Euclid)},
        EXTRA: {
            PROMPT_VECTOR: dense(settings.prompt_dimension, edge.Distance.Euclid),
            PARAMETER_VECTOR: dense(settings.parameter_dimension, edge.Distance.Euclid),
            TEXT_VECTOR: dense(settings.text_dimension, edge.Distance.Cosine),
        },
    }


def _config(part: str, vectors: dict[str, edge.EdgeVectorParams]) -> edge.EdgeConfig:
    keywords = {KEYWORD_VECTOR: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)} if part == MAIN else None
    return edge.EdgeConfig(
        vectors=vectors, sparse_vectors=keywords, payload_memory=edge.Memory.Cold, wal_enabled=True,
        hnsw_config=edge.HnswIndexConfig(
            m=16, ef_construct=100, full_scan_threshold=10_000, memory=edge.Memory.Pinned
        ),
    )  # fmt: skip


def _field_index(name: str) -> edge.IntegerIndexParams | edge.KeywordIndexParams:
    if name in NUMBER_FIELDS:
        # A range answers equality too; an index of single values would take as much again.
        return edge.IntegerIndexParams(lookup=False, range=True, enable_hnsw=False)
    return edge.KeywordIndexParams(enable_hnsw=name in GRAPH_FIELDS)


def _always(row: Row, vectors: Vectors) -> dict[str, Any]:
    """The vectors that every learnware has."""
    keywords = document_keywords(description_of(row.learnware))
    return {
        SPECIFICATION_VECTOR: vectors.specification.tolist(),
        KEYWORD_VECTOR: edge.SparseVector(keywords.indices, keywords.values),
    }


def _sometimes(row: Row, vectors: Vectors) -> dict[str, Any]:
    """Those of the others that this one has."""
    found = {PROMPT_VECTOR: vectors.prompt, PARAMETER_VECTOR: vectors.parameters, TEXT_VECTOR: row.text_vector}
    return {name: vector.tolist() for name, vector in found.items() if vector is not None}


def numbers_of(folder: Path) -> tuple[int, int]:
    """What an index notes of itself: ``made`` and ``applied``, 0 where the note was lost."""
    try:
        made, applied = (folder / NUMBERS).read_text().split()
        return int(made), int(applied)
    except (FileNotFoundError, ValueError):
        return 0, 0


def _remove(shards: Sequence[edge.EdgeShard], folder: Path) -> None:
    for shard in shards:
        with contextlib.suppress(CatalogueError), engine_errors("close"):
            shard.close()
    shutil.rmtree(folder, ignore_errors=True)


def _key(id: object) -> Key:
    assert isinstance(id, UUID)
    return id.bytes


def edge_filter(where: Filter) -> edge.Filter | None:
    """Returns the engine's form of a filter."""
    conditions = [
        edge.FieldCondition(key=item.field, match=edge.MatchAny(list(item.values)))
        if isinstance(item, Match)
        else edge.FieldCondition(key=item.field, range=edge.RangeFloat(gte=item.at_least, lte=item.at_most))
        for item in where.conditions
    ]
    return edge.Filter(must=list(conditions)) if conditions else None
