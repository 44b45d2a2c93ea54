"""The embedded engine: Qdrant Edge in this process, one folder, one process at a time.

Specification files lie in SQLite beside the shard, keyed by their digest: fetching them from the engine is
sixty times slower. A record names its digest, so a crash between the two writes leaves the old pair.
"""

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import qdrant_edge as edge
from pydantic import ValidationError

from catalogue.contract import SCHEMA_VERSION, Catalogue, CatalogueSettings, Entry, Hit, Page, Vector
from catalogue.filters import EVERYTHING, Filter, Match
from catalogue.keywords import Keywords, document_keywords
from catalogue.learnware import Learnware, describe
from catalogue.schema import (
    INDEXES,
    KEYWORD_VECTOR,
    PARAMETER_VECTOR,
    PROMPT_VECTOR,
    SPECIFICATION_VECTOR,
    TEXT_VECTOR,
    description_of,
    point_id,
    read_record,
    require_keyword_field,
)
from specification.errors import CatalogueError, CatalogueFormat, CatalogueLocked, NotFound
from specification.files import write_atomically

SETTINGS_FILE = "catalogue.json"
FILES = "specifications.sqlite"


class EdgeCatalogue(Catalogue):
    """See ``Catalogue``. Open one with ``EdgeCatalogue.open``."""

    def __init__(self, folder: Path, settings: CatalogueSettings, lock: TextIO) -> None:
        self.settings = settings
        self._lock = lock
        self._shard: edge.EdgeShard | None = _open_shard(folder / "shard")
        self._files = _open_files(folder, "rw")

    @classmethod
    def open(cls, folder: Path, settings: CatalogueSettings | None = None) -> "EdgeCatalogue":
        """Opens a catalogue's folder, or makes it with ``settings`` if there is none.

        Without ``settings`` only an existing catalogue is opened, for whatever encoder it was made.

        Raises:
            CatalogueLocked: another process holds it.
            CatalogueFormat: it was written by another format version, or for another encoder.
            CatalogueError: the folder cannot be written, or the engine cannot open it.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "lock").open("a+")
        except OSError as error:
            raise CatalogueError(
                f"catalogue folder {folder} cannot be written ({error.strerror}); choose another with --dock"
            ) from None
        try:
            _take(lock, folder)
            with _engine_errors("open", folder):
                return cls(folder, _prepare(folder, settings), lock)
        except BaseException:
            lock.close()
            raise

    def close(self) -> None:
        if self._shard is not None:
            with _engine_errors("close"):
                self._shard.close()
            self._shard = None
            self._files.close()
            self._lock.close()

    def _upsert(self, entries: Sequence[Entry]) -> None:
        replaced = {old.specification_digest for old in self.get([entry.learnware.id for entry in entries])}
        files = [(entry.specification.digest, entry.specification.to_bytes()) for entry in entries]
        points = [_point(entry) for entry in entries]
        with _engine_errors("write"):
            with self._files:
                self._files.executemany("INSERT OR IGNORE INTO specification VALUES (?, ?)", files)
            self._engine.update(edge.UpdateOperation.upsert_points(points))
            self._engine.flush()
            self._drop_files(replaced - {digest for digest, _ in files})

    def _delete(self, ids: Sequence[str]) -> int:
        found = self.get(ids)
        with _engine_errors("delete"):
            self._engine.update(edge.UpdateOperation.delete_points([point_id(item.id) for item in found]))
            self._engine.flush()
            self._drop_files({item.specification_digest for item in found})
        return len(found)

    def get(self, ids: Sequence[str]) -> list[Learnware]:
        with _engine_errors("read"):
            records = self._engine.retrieve([point_id(id) for id in ids], True, False)
        found = {item.id: item for item in (read_record(record.payload) for record in records)}
        return [found[id] for id in ids if id in found]

    def scroll(self, where: Filter = EVERYTHING, limit: int = 100, after: str | None = None) -> Page:
        # One point more than asked for: the point `after` itself comes first and is passed over.
        request = edge.ScrollRequest(
            offset=point_id(after) if after else None, limit=limit + 2, filter=_filter(where),
            with_payload=True, with_vector=False,
        )  # fmt: skip
        with _engine_errors("list"):
            records, _ = self._engine.scroll(request)
        items = [item for item in (read_record(record.payload) for record in records) if item.id != after]
        return Page(tuple(items[:limit]), items[limit - 1].id if len(items) > limit else None)

    def count(self, where: Filter = EVERYTHING) -> int:
        with _engine_errors("count"):
            return self._engine.count(edge.CountRequest(exact=True, filter=_filter(where)))

    def facets(self, field: str, where: Filter = EVERYTHING, limit: int = 100) -> dict[str, int]:
        require_keyword_field(field)
        with _engine_errors("count facets"):
            hits = self._engine.facet(edge.FacetRequest(field, limit, True, _filter(where))).hits
        counts = {str(hit.value): hit.count for hit in hits}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def nearest(
        self,
        vector: Vector,
        limit: int,
        where: Filter = EVERYTHING,
        exact: bool = False,
        using: str = SPECIFICATION_VECTOR,
    ) -> list[Hit]:
        hits = self._query(edge.Query.Nearest(vector.tolist(), using=using), limit, where, exact)
        return sorted(hits, key=lambda hit: (hit.score, hit.id))

    def _nearest_text(self, vector: Vector, limit: int, where: Filter) -> list[Hit]:
        hits = self._query(edge.Query.Nearest(vector.tolist(), using=TEXT_VECTOR), limit, where)
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def _nearest_keywords(self, keywords: Keywords, limit: int, where: Filter) -> list[Hit]:
        vector = edge.SparseVector(keywords.indices, keywords.values)
        hits = self._query(edge.Query.Nearest(vector, using=KEYWORD_VECTOR), limit, where)
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def _specification_files(self, learnwares: Sequence[Learnware]) -> dict[str, bytes]:
        found = {}
        query = "SELECT file FROM specification WHERE digest = ?"
        with _engine_errors("read a specification"):
            for item in learnwares:
                row = self._files.execute(query, (item.specification_digest,)).fetchone()
                if row is not None:
                    found[item.id] = bytes(row[0])
        return found

    @property
    def _engine(self) -> edge.EdgeShard:
        if self._shard is None:
            raise CatalogueError("the catalogue is closed")
        return self._shard

    def _query(self, query: edge.Query, limit: int, where: Filter, exact: bool = False) -> list[Hit]:
        request = edge.QueryRequest(
            limit=limit, query=query, filter=_filter(where), params=edge.SearchParams(exact=exact),
            with_payload=["id"], with_vector=False,
        )  # fmt: skip
        with _engine_errors("search"):
            points = self._engine.query(request)
        return [Hit((point.payload or {})["id"], point.score) for point in points]

    def _drop_files(self, digests: set[str]) -> None:
        """Deletes specification files that no record names any longer."""
        unused = [(digest,) for digest in digests if not self._names(digest)]
        with self._files:
            self._files.executemany("DELETE FROM specification WHERE digest = ?", unused)

    def _names(self, digest: str) -> bool:
        condition = edge.FieldCondition(key="specification_digest", match=edge.MatchValue(digest))
        return self._engine.count(edge.CountRequest(exact=True, filter=edge.Filter(must=[condition]))) > 0


@contextlib.contextmanager
def _engine_errors(deed: str, folder: Path | None = None) -> Iterator[None]:
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


def _take(lock: TextIO, folder: Path) -> None:
    """Takes the folder's lock. The engine has one too, but its failed second open damages the first."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        raise CatalogueLocked(
            f"catalogue {folder} is held by {holder}; stop it, or go through its HTTP API with --url"
        ) from None
    lock.truncate(0)
    lock.write(f"process {os.getpid()}")
    lock.flush()


def _prepare(folder: Path, settings: CatalogueSettings | None) -> CatalogueSettings:
    """Reads the folder's settings; makes shard and settings, the settings last, where there are none."""
    file = folder / SETTINGS_FILE
    if file.exists():
        return _read_settings(file, settings)
    if settings is None:
        raise NotFound(f"no catalogue in {folder} yet; fill it with 'slmdock submit' or 'slmdock ingest'")
    shutil.rmtree(folder / "shard", ignore_errors=True)
    (folder / "shard").mkdir()
    shard = edge.EdgeShard.create(str(folder / "shard"), _config(settings))
    for name, kind in INDEXES.items():
        shard.update(edge.UpdateOperation.create_field_index(name, getattr(edge.PayloadSchemaType, kind)))
    shard.flush()
    shard.close()
    (folder / FILES).unlink(missing_ok=True)
    with contextlib.closing(_open_files(folder, "rwc")) as files:
        files.execute("CREATE TABLE specification (digest TEXT PRIMARY KEY, file BLOB)")
    write_atomically(file, settings.model_dump_json(indent=2).encode())
    return settings


def _read_settings(file: Path, wanted: CatalogueSettings | None) -> CatalogueSettings:
    try:
        text = file.read_text()
        version = json.loads(text).get("schema_version")
        if version != SCHEMA_VERSION:
            raise CatalogueFormat(
                f"catalogue {file.parent} has format version {version}, this program reads {SCHEMA_VERSION}; "
                "ingest the learnwares into a new folder"
            )
        found = CatalogueSettings.model_validate_json(text)
    except ValidationError as error:
        raise CatalogueFormat(f"catalogue {file.parent}: {SETTINGS_FILE}: {describe(error)}") from None
    except (ValueError, AttributeError) as error:
        raise CatalogueFormat(f"catalogue {file.parent}: {SETTINGS_FILE} is damaged ({error})") from None
    if wanted is not None:
        wanted.encoder.require(found.encoder)
    return found


def _config(settings: CatalogueSettings) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors={
            SPECIFICATION_VECTOR: edge.EdgeVectorParams(settings.feature_map.dimension, edge.Distance.Euclid),
            PROMPT_VECTOR: edge.EdgeVectorParams(settings.prompt_dimension, edge.Distance.Euclid),
            PARAMETER_VECTOR: edge.EdgeVectorParams(settings.parameter_dimension, edge.Distance.Euclid),
            TEXT_VECTOR: edge.EdgeVectorParams(settings.text_dimension, edge.Distance.Cosine),
        },
        sparse_vectors={KEYWORD_VECTOR: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
        wal_enabled=True,
    )


def _open_files(folder: Path, mode: str) -> sqlite3.Connection:
    """Opens the specification files; mode "rw" fails where they are gone, instead of beginning anew."""
    uri = f"{(folder / FILES).absolute().as_uri()}?mode={mode}"
    files = sqlite3.connect(uri, uri=True, check_same_thread=False)
    files.execute("PRAGMA journal_mode=WAL")
    files.execute("PRAGMA synchronous=FULL")
    return files


def _open_shard(folder: Path) -> edge.EdgeShard:
    # A killed optimiser leaves this behind; the engine never reads it again.
    shutil.rmtree(folder / "temp_segments", ignore_errors=True)
    return edge.EdgeShard.load(str(folder))


def _point(entry: Entry) -> edge.Point:
    keywords = document_keywords(description_of(entry.learnware))
    vectors = {
        SPECIFICATION_VECTOR: entry.vector.tolist(),
        TEXT_VECTOR: entry.text_vector.tolist(),
        KEYWORD_VECTOR: edge.SparseVector(keywords.indices, keywords.values),
    }
    if entry.prompt_vector is not None:
        vectors[PROMPT_VECTOR] = entry.prompt_vector.tolist()
    if entry.parameter_vector is not None:
        vectors[PARAMETER_VECTOR] = entry.parameter_vector.tolist()
    return edge.Point(point_id(entry.learnware.id), vectors, entry.learnware.model_dump(mode="json"))


def _filter(where: Filter) -> edge.Filter | None:
    conditions = [
        edge.FieldCondition(key=item.field, match=edge.MatchAny(list(item.values)))
        if isinstance(item, Match)
        else edge.FieldCondition(key=item.field, range=edge.RangeFloat(gte=item.at_least, lte=item.at_most))
        for item in where.conditions
    ]
    return edge.Filter(must=list(conditions)) if conditions else None
