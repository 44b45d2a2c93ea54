"""The server engine: a Qdrant server or cluster by URL, through qdrant-client.

A learnware's specification file travels in its point's payload, so that one upsert is atomic.
"""

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydantic import ValidationError
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from catalogue.address import ServerAddress
from catalogue.contract import SCHEMA_VERSION, Catalogue, CatalogueSettings, Entry, Hit, Page, Vector
from catalogue.filters import EVERYTHING, Filter, Match
from catalogue.keywords import Keywords, document_keywords
from catalogue.learnware import Learnware, describe
from catalogue.schema import (
    COLLECTION,
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
from specification.errors import CatalogueError, CatalogueFormat, NotFound

FILE_KEY = "specification_file"
METADATA_KEY = "slmdock"
RECORD_ONLY = models.PayloadSelectorExclude(exclude=[FILE_KEY])
BATCH = 256


class ServerCatalogue(Catalogue):
    """See ``Catalogue``. Open one with ``ServerCatalogue.open``."""

    def __init__(
        self, client: QdrantClient, settings: CatalogueSettings | None, collection: str = COLLECTION
    ) -> None:
        """Takes an open client (tests: its in-memory mode); makes the collection if there is none."""
        self._client = client
        self._collection = collection
        with _server_errors("open"):
            self.settings = self._prepare(settings)

    @classmethod
    def open(cls, address: ServerAddress, settings: CatalogueSettings | None = None) -> "ServerCatalogue":
        """Opens the collection on a server, or makes it with ``settings`` if there is none.

        Raises:
            CatalogueError: the server does not answer or refuses the key.
            CatalogueFormat: the collection was made by another format version, or for another encoder.
        """
        with _server_errors(f"be opened at {address.url}"):
            client = QdrantClient(
                url=address.url, api_key=address.api_key, timeout=address.timeout_seconds,
                check_compatibility=False,
            )  # fmt: skip
        return cls(client, settings, address.collection)

    def close(self) -> None:
        self._client.close()

    def _prepare(self, settings: CatalogueSettings | None) -> CatalogueSettings:
        if self._client.collection_exists(self._collection):
            found = self._read_settings(settings)
            if settings is not None:
                self._make_indexes()
            return found
        if settings is None:
            raise NotFound(f"no collection {self._collection} yet; fill it with 'slmdock submit' or 'ingest'")
        self._client.create_collection(
            self._collection,
            vectors_config={
                SPECIFICATION_VECTOR: models.VectorParams(
                    size=settings.feature_map.dimension, distance=models.Distance.EUCLID
                ),
                PROMPT_VECTOR: models.VectorParams(
                    size=settings.prompt_dimension, distance=models.Distance.EUCLID
                ),
                PARAMETER_VECTOR: models.VectorParams(
                    size=settings.parameter_dimension, distance=models.Distance.EUCLID
                ),
                TEXT_VECTOR: models.VectorParams(size=settings.text_dimension, distance=models.Distance.COSINE),
            },
            sparse_vectors_config={KEYWORD_VECTOR: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            metadata={METADATA_KEY: settings.model_dump(mode="json")},
        )
        self._make_indexes()
        return settings

    def _make_indexes(self) -> None:
        """Every writer makes them, since a crash may have come between the collection and its indexes."""
        for name, kind in INDEXES.items():
            schema = models.PayloadSchemaType(kind.lower())
            self._client.create_payload_index(self._collection, name, schema)

    def _read_settings(self, wanted: CatalogueSettings | None) -> CatalogueSettings:
        metadata = self._client.get_collection(self._collection).config.metadata or {}
        stored = metadata.get(METADATA_KEY)
        if not isinstance(stored, dict) or stored.get("schema_version") != SCHEMA_VERSION:
            version = stored.get("schema_version") if isinstance(stored, dict) else None
            raise CatalogueFormat(
                f"collection {self._collection} has format version {version}, this program reads "
                f"{SCHEMA_VERSION}; ingest the learnwares into a new collection"
            )
        try:
            found = CatalogueSettings.model_validate(stored)
        except ValidationError as error:
            raise CatalogueFormat(f"collection {self._collection}: {describe(error)}") from None
        if wanted is not None:
            wanted.encoder.require(found.encoder)
        return found

    def _upsert(self, entries: Sequence[Entry]) -> None:
        with _server_errors("write"):
            for start in range(0, len(entries), BATCH):
                points = [_point(entry) for entry in entries[start : start + BATCH]]
                self._client.upsert(self._collection, points, wait=True)

    def _delete(self, ids: Sequence[str]) -> int:
        found = [item.id for item in self.get(ids)]
        points: list[models.ExtendedPointId] = [point_id(id) for id in found]
        if not points:
            return 0
        with _server_errors("delete"):
            self._client.delete(self._collection, models.PointIdsList(points=points), wait=True)
        return len(found)

    def get(self, ids: Sequence[str]) -> list[Learnware]:
        with _server_errors("read"):
            records = self._client.retrieve(
                self._collection, [point_id(id) for id in ids], with_payload=RECORD_ONLY, with_vectors=False
            )
        found = {item.id: item for item in (read_record(record.payload) for record in records)}
        return [found[id] for id in ids if id in found]

    def scroll(self, where: Filter = EVERYTHING, limit: int = 100, after: str | None = None) -> Page:
        with _server_errors("list"):
            records, _ = self._client.scroll(
                self._collection, _filter(where), limit=limit + 2, offset=point_id(after) if after else None,
                with_payload=RECORD_ONLY, with_vectors=False,
            )  # fmt: skip
        found = (read_record(record.payload) for record in records)
        items = [item for item in found if item.id != after]
        return Page(tuple(items[:limit]), items[limit - 1].id if len(items) > limit else None)

    def count(self, where: Filter = EVERYTHING) -> int:
        with _server_errors("count"):
            return self._client.count(self._collection, _filter(where), exact=True).count

    def facets(self, field: str, where: Filter = EVERYTHING, limit: int = 100) -> dict[str, int]:
        require_keyword_field(field)
        with _server_errors("count facets"):
            hits = self._client.facet(self._collection, field, _filter(where), limit=limit, exact=True).hits
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
        hits = self._query(vector.tolist(), using, limit, where, exact)
        return sorted(hits, key=lambda hit: (hit.score, hit.id))

    def _nearest_text(self, vector: Vector, limit: int, where: Filter) -> list[Hit]:
        hits = self._query(vector.tolist(), TEXT_VECTOR, limit, where)
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def _nearest_keywords(self, keywords: Keywords, limit: int, where: Filter) -> list[Hit]:
        vector = models.SparseVector(indices=keywords.indices, values=keywords.values)
        hits = self._query(vector, KEYWORD_VECTOR, limit, where)
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def _specification_files(self, learnwares: Sequence[Learnware]) -> dict[str, bytes]:
        ids = [point_id(item.id) for item in learnwares]
        wanted = [FILE_KEY, "specification_digest"]
        with _server_errors("read a specification"):
            records = self._client.retrieve(self._collection, ids, with_payload=wanted, with_vectors=False)
        payloads = {str(record.id): record.payload or {} for record in records}
        return {
            item.id: base64.b64decode(payloads[id][FILE_KEY])
            for item, id in zip(learnwares, ids, strict=True)
            if payloads.get(id, {}).get("specification_digest") == item.specification_digest
        }

    def _query(
        self, query: list[float] | models.SparseVector, using: str, limit: int, where: Filter, exact: bool = False
    ) -> list[Hit]:
        with _server_errors("search"):
            points = self._client.query_points(
                self._collection, query=query, using=using, limit=limit, query_filter=_filter(where),
                search_params=models.SearchParams(exact=True) if exact else None,
                with_payload=["id"], with_vectors=False,
            ).points  # fmt: skip
        return [Hit((point.payload or {})["id"], point.score) for point in points]


@contextmanager
def _server_errors(deed: str) -> Iterator[None]:
    """Maps what the client raises to CatalogueError; a key never stands in its messages."""
    try:
        yield
    except (ApiException, OSError, ValueError) as error:
        text = str(error).strip().splitlines()
        raise CatalogueError(f"the catalogue cannot {deed}: {text[0] if text else type(error).__name__}") from None


def _point(entry: Entry) -> models.PointStruct:
    keywords = document_keywords(description_of(entry.learnware))
    payload = entry.learnware.model_dump(mode="json")
    payload[FILE_KEY] = base64.b64encode(entry.specification.to_bytes()).decode()
    vectors = {
        SPECIFICATION_VECTOR: entry.vector.tolist(),
        TEXT_VECTOR: entry.text_vector.tolist(),
        KEYWORD_VECTOR: models.SparseVector(indices=keywords.indices, values=keywords.values),
    }
    if entry.prompt_vector is not None:
        vectors[PROMPT_VECTOR] = entry.prompt_vector.tolist()
    if entry.parameter_vector is not None:
        vectors[PARAMETER_VECTOR] = entry.parameter_vector.tolist()
    return models.PointStruct(id=point_id(entry.learnware.id), vector=vectors, payload=payload)


def _filter(where: Filter) -> models.Filter | None:
    conditions: list[models.Condition] = [
        models.FieldCondition(key=item.field, match=models.MatchAny(any=list(item.values)))
        if isinstance(item, Match)
        else models.FieldCondition(key=item.field, range=models.Range(gte=item.at_least, lte=item.at_most))
        for item in where.conditions
    ]
    return models.Filter(must=conditions) if conditions else None
