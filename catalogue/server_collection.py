"""A catalogue's collections on a Qdrant server: its public name is an alias of the collection in use.

A collection's plan stands in its metadata, so the alias changes both at once.
"""

import re
import time
from http import HTTPStatus
from typing import NamedTuple
from uuid import uuid4

from pydantic import ValidationError
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from catalogue.address import Sharding
from catalogue.contract import SCHEMA_VERSION, CatalogueSettings
from catalogue.filters import NUMBER_FIELDS
from catalogue.learnware import describe
from catalogue.schema import (
    GRAPH_FIELDS,
    INDEXED_FIELDS,
    KEYWORD_VECTOR,
    PARAMETER_VECTOR,
    PROMPT_VECTOR,
    SPECIFICATION_VECTOR,
    TEXT_VECTOR,
)
from catalogue.server_point import SPELLING_KEY
from specification.errors import CatalogueError, CatalogueFormat, NotFound

METADATA_KEY = "slmdock"
FIRST = "00000000"
"""The first collection has the same name whoever makes it, so that two processes cannot make two."""
POLL_SECONDS = 1.0
# Bytes in memory, the exact numbers on disk for rescoring; a few outliers must not coarsen the rest.
QUANTIZATION = models.ScalarQuantization(
    scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
)


class InUse(NamedTuple):
    """A collection and what it was made with; whoever asks it takes both together."""

    collection: str
    settings: CatalogueSettings


class Collections:
    """The collections behind one public name. Raises what the client raises."""

    def __init__(self, client: QdrantClient, name: str, sharding: Sharding) -> None:
        self.name = name
        self._client = client
        self._sharding = sharding

    def open(self, wanted: CatalogueSettings | None) -> InUse:
        """Returns the collection in use; makes the first one with ``wanted`` if there is none.

        Raises:
            NotFound: there is none, and nothing to make it with.
            CatalogueFormat, Incomparable: it is of another format version, or for another encoder.
        """
        if not self._client.collection_exists(self.name):
            if wanted is None:
                raise NotFound(f"no collection {self.name} yet; fill it with 'slmdock submit' or 'ingest'")
            self._create_first(wanted)
        found = self.find()
        if wanted is not None:
            wanted.encoder.require(found.settings.encoder)
            self._make_indexes(found.collection)
        return found

    def find(self) -> InUse:
        """Returns the collection in use, as the server says now."""
        collection = self._target() or self.name
        return InUse(collection, self._read_settings(collection))

    def create(self, settings: CatalogueSettings, like: str) -> InUse:
        """Makes another collection, not in use yet, spread as ``like`` is where nothing else is wished."""
        collection = f"{self.name}-{uuid4().hex[:8]}"
        old = self._client.get_collection(like).config.params
        wished = self._sharding
        sharding = Sharding(
            wished.shard_number or old.shard_number,
            wished.replication_factor or old.replication_factor,
            wished.write_consistency_factor or old.write_consistency_factor,
        )
        self._create(collection, settings, sharding)
        return InUse(collection, settings)

    def use(self, collection: str) -> None:
        """Has the public name stand for a collection, at once."""
        alias = models.CreateAlias(collection_name=collection, alias_name=self.name)
        self._client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])

    def remove(self, collection: str) -> None:
        """Removes a collection unless it is in use: the answer to a switch that happened may have been lost."""
        if collection != self._target():
            self._client.delete_collection(collection)

    def sweep(self) -> None:
        """Removes what interrupted rebuilds left behind.

        Raises:
            CatalogueError: the public name is a collection's own.
        """
        target = self._target()
        if target is None:
            raise CatalogueError(
                f"collection {self.name} is no alias, so nothing can take its place at once; "
                "take a snapshot, remove the collection, and restore it"
            )
        pointed_to = {alias.collection_name for alias in self._client.get_aliases().aliases}
        for item in self._client.get_collections().collections:
            stray = re.fullmatch(re.escape(self.name) + "-[0-9a-f]{8}", item.name) and item.name not in pointed_to
            if stray and METADATA_KEY in self._metadata(item.name):
                self._client.delete_collection(item.name)

    def wait(self, collection: str) -> None:
        """Returns when the server has indexed a collection; it does so by itself after the last write.

        Raises:
            CatalogueError: the server says that it cannot.
        """
        while (info := self._client.get_collection(collection)).status == models.CollectionStatus.YELLOW:
            time.sleep(POLL_SECONDS)
        if info.status == models.CollectionStatus.RED:
            raise CatalogueError(f"the server cannot index collection {collection}; its log says why")

    def _create_first(self, settings: CatalogueSettings) -> None:
        first = f"{self.name}-{FIRST}"
        try:
            self._create(first, settings, self._sharding)
        except UnexpectedResponse as error:
            # Another process was faster or did not get further, or the answer to a first try was lost.
            if error.status_code != HTTPStatus.CONFLICT:
                raise
        if self._target() is None:
            self.use(first)

    def _create(self, collection: str, settings: CatalogueSettings, sharding: Sharding) -> None:
        dense = {
            SPECIFICATION_VECTOR: (settings.feature_map.dimension, models.Distance.EUCLID),
            PROMPT_VECTOR: (settings.prompt_dimension, models.Distance.EUCLID),
            PARAMETER_VECTOR: (settings.parameter_dimension, models.Distance.EUCLID),
            TEXT_VECTOR: (settings.text_dimension, models.Distance.COSINE),
        }
        self._client.create_collection(
            collection,
            vectors_config={
                name: models.VectorParams(size=size, distance=distance, on_disk=True)
                for name, (size, distance) in dense.items()
            },
            sparse_vectors_config={KEYWORD_VECTOR: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            quantization_config=QUANTIZATION,
            on_disk_payload=True,
            shard_number=sharding.shard_number,
            replication_factor=sharding.replication_factor,
            write_consistency_factor=sharding.write_consistency_factor,
            metadata={METADATA_KEY: settings.model_dump(mode="json")},
        )
        self._make_indexes(collection)

    def _make_indexes(self, collection: str) -> None:
        """Every writer makes them, since a crash may have come between the collection and its indexes."""
        for name in (*INDEXED_FIELDS, SPELLING_KEY):
            self._client.create_payload_index(collection, name, _field_index(name))

    def _target(self) -> str | None:
        """What the public name is an alias of."""
        aliases = self._client.get_aliases().aliases
        return next((alias.collection_name for alias in aliases if alias.alias_name == self.name), None)

    def _metadata(self, collection: str) -> dict[str, object]:
        return dict(self._client.get_collection(collection).config.metadata or {})

    def _read_settings(self, collection: str) -> CatalogueSettings:
        stored = self._metadata(collection).get(METADATA_KEY)
        if not isinstance(stored, dict) or stored.get("schema_version") != SCHEMA_VERSION:
            version = stored.get("schema_version") if isinstance(stored, dict) else None
            raise CatalogueFormat(
                f"collection {self.name} has format version {version}, this program reads "
                f"{SCHEMA_VERSION}; ingest the learnwares into a new collection"
            )
        try:
            return CatalogueSettings.model_validate(stored)
        except ValidationError as error:
            raise CatalogueFormat(f"collection {self.name}: {describe(error)}") from None


def _field_index(name: str) -> models.IntegerIndexParams | models.KeywordIndexParams:
    """See ``catalogue.edge_index``."""
    if name in NUMBER_FIELDS:
        kind = models.IntegerIndexType.INTEGER
        return models.IntegerIndexParams(type=kind, lookup=False, range=True, enable_hnsw=False)
    return models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, enable_hnsw=name in GRAPH_FIELDS)
