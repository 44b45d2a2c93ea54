"""The server engine: a Qdrant server or cluster by URL, through qdrant-client.

What is asked goes to the collection in use by its own name, with the settings it was made with: another process
that puts a new one in its place is noticed by the old one's absence.
"""

import contextlib
import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from catalogue.address import KEY_VARIABLE, ServerAddress, Sharding
from catalogue.contract import BATCH, MAX_LIMIT, Catalogue, CatalogueSettings, Hit, Page, Status, by_lower_case
from catalogue.filters import EVERYTHING, Filter, Match
from catalogue.keywords import Keywords
from catalogue.learnware import Learnware
from catalogue.plan import IndexPlan
from catalogue.retries import Retries, Unanswered
from catalogue.row import Row, Vector
from catalogue.schema import (
    COLLECTION,
    KEYWORD_VECTOR,
    PROMPT_VECTOR,
    SPECIFICATION_VECTOR,
    TEXT_VECTOR,
    point_id,
    read_record,
    require_keyword_field,
)
from catalogue.server_collection import Collections, InUse
from catalogue.server_point import BESIDE_RECORD, SPELLING_KEY, to_filter, to_point, to_row
from catalogue.vectors import vectors_of
from specification import Progress, ReducedSet, no_progress
from specification.errors import CatalogueError

RECORD_ONLY = models.PayloadSelectorExclude(exclude=list(BESIDE_RECORD))
MAX_NAMES = 1000
Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class ServerCatalogue(Catalogue):
    """See ``Catalogue``. Open one with ``ServerCatalogue.open``."""

    def __init__(
        self,
        client: QdrantClient,
        settings: CatalogueSettings | None,
        collection: str = COLLECTION,
        sharding: Sharding = Sharding(),  # noqa: B008 - it is frozen
        key_variable: str = KEY_VARIABLE,
    ) -> None:
        """Takes an open client (tests: its in-memory mode); makes the collection if there is none."""
        self._client = client
        self._collections = Collections(client, collection, sharding)
        self._rebuilding = threading.Lock()
        # Taken again by a write that finds another collection in use.
        self._changing = threading.RLock()
        self._changed: set[str] | None = None
        """The ids written since a rebuild began; None while there is none."""
        with _server_errors("be opened", key_variable):
            self._in_use = self._collections.open(settings)
        self.settings = self._in_use.settings

    @classmethod
    def open(cls, address: ServerAddress, settings: CatalogueSettings | None = None) -> "ServerCatalogue":
        """Opens the collection on a server, or makes it with ``settings`` if there is none.

        ``address.sharding`` applies to a collection that is made now, never to one that is there.

        Raises:
            InvalidInput: the CA certificate cannot be read.
            CatalogueError: the server does not answer, is not trusted, or refuses the key.
            CatalogueFormat: the collection was made by another format version, or for another encoder.
        """
        trust = address.trust()
        with _server_errors(f"be opened at {address.url}"), warnings.catch_warnings():
            if address.on_this_machine:
                warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
            client = QdrantClient(
                url=address.url, api_key=address.api_key, timeout=address.timeout_seconds, verify=trust,
                check_compatibility=False,
            )  # fmt: skip
        client.http.client.add_middleware(Retries(address.retries))
        try:
            return cls(client, settings, address.collection, address.sharding, address.key_variable)
        except BaseException:
            client.close()
            raise

    def close(self) -> None:
        self._client.close()

    def rebuild(self, plan: IndexPlan, progress: Progress = no_progress) -> None:
        """See ``Catalogue.rebuild``. The rows go through this process, so it takes as long as loading them did.

        What other processes write meanwhile is not seen and may be lost; another process's rebuild at the same
        time breaks both off. Searches of other processes go on. An interrupted rebuild leaves a collection
        behind, which the next one removes.
        """
        settings = self.settings.planned(plan)
        with self._rebuilding, _server_errors("make an index"):
            self._collections.sweep()
            with self._changing:
                self._changed = set()
            old = self._collections.find()
            if old.collection != self._in_use.collection:
                self._take_up(old)
            new = self._collections.create(settings, old.collection)
            try:
                self._fill(new, progress)
                self._collections.wait(new.collection)
                self._switch(new)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._collections.remove(new.collection)
                raise
            finally:
                self._changed = None
            try:
                self._collections.remove(old.collection)
            except (ApiException, OSError) as error:
                log.warning("the new index is in use, the next rebuild removes the old one: %s", error)

    def _fill(self, new: InUse, progress: Progress) -> None:
        done, total = 0, self.count()
        for rows in self.rows():
            self._put(new, rows)
            done += len(rows)
            progress(min(done, total), total)

    def _switch(self, new: InUse) -> None:
        """Repeats what was written since the rebuild began, the last of it while nothing more can be."""
        while len(self._changed or ()) > BATCH:
            self._repeat(new)
        with self._changing:
            self._repeat(new)
            self._collections.use(new.collection)
            self._take_up(new)

    def _repeat(self, new: InUse) -> None:
        with self._changing:
            ids, self._changed = list(self._changed or ()), set()
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            rows = self.fetch(part)
            if rows:
                self._put(new, rows)
            if gone := set(part) - {row.learnware.id for row in rows}:
                self._remove(new, list(gone))

    def _take_up(self, index: InUse) -> None:
        self._in_use, self.settings = index, index.settings
        self.revision += 1

    def _ask(self, deed: str, ask: Callable[[InUse], Answer]) -> Answer:
        """Asks the collection in use, and once more where another one has taken its place."""
        with _server_errors(deed):
            index = self._in_use
            try:
                return ask(index)
            except (UnexpectedResponse, ValueError) as error:
                found = self._collections.find() if _says_not_found(error) else index
                if found.collection == index.collection:
                    raise
                self._take_up(found)
                return ask(found)

    def _write(self, rows: Sequence[Row]) -> None:
        with self._changing:
            self._note(row.learnware.id for row in rows)
            self._ask("write", lambda index: self._put(index, rows))

    def _delete(self, ids: Sequence[str]) -> int:
        with self._changing:
            found = [item.id for item in self.get(ids)]
            self._note(found)
            if found:
                self._ask("delete", lambda index: self._remove(index, found))
        return len(found)

    def _note(self, ids: Iterable[str]) -> None:
        if self._changed is not None:
            self._changed.update(ids)

    def _put(self, index: InUse, rows: Sequence[Row]) -> None:
        vectors = vectors_of(rows, index.settings.feature_map)
        points = [to_point(*pair) for pair in zip(rows, vectors, strict=True)]
        self._client.upsert(index.collection, points, wait=True)

    def _remove(self, index: InUse, ids: Sequence[str]) -> None:
        points: list[models.ExtendedPointId] = [point_id(id) for id in ids]
        self._client.delete(index.collection, models.PointIdsList(points=points), wait=True)

    def get(self, ids: Sequence[str]) -> list[Learnware]:
        records = self._retrieve(ids, RECORD_ONLY, False)
        found = {item.id: item for item in (read_record(record.payload) for record in records)}
        return [found[id] for id in ids if id in found]

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        found = {row.learnware.id: row for row in map(to_row, self._retrieve(ids, True, [TEXT_VECTOR]))}
        return [found[id] for id in ids if id in found]

    def _retrieve(
        self, ids: Sequence[str], payload: bool | models.PayloadSelector, vectors: bool | list[str]
    ) -> list[models.Record]:
        points = [point_id(id) for id in ids]
        return self._ask("read", lambda index: self._client.retrieve(index.collection, points, payload, vectors))

    def rows(self, batch: int = BATCH) -> Iterator[list[Row]]:
        following: models.ExtendedPointId | None = None
        while True:
            ask = partial(self._rows, batch, following)
            found, following = self._ask("read", ask)
            if found:
                yield found
            if following is None:
                return

    def _rows(
        self, batch: int, start: models.ExtendedPointId | None, index: InUse
    ) -> tuple[list[Row], models.ExtendedPointId | None]:
        records, following = self._client.scroll(
            index.collection, limit=batch, offset=start, with_payload=True, with_vectors=[TEXT_VECTOR]
        )
        return [to_row(record) for record in records], following

    def status(self) -> Status:
        return Status("Qdrant server", self._collections.name, None, None)

    def versions(self, names: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for start in range(0, len(names), MAX_NAMES):
            part = tuple(names[start : start + MAX_NAMES])
            if part:
                for item in self.everything(Filter(conditions=(Match(field="name", values=part),))):
                    found[item.name] = max(item.version, found.get(item.name, 0))
        return found

    def spellings(self, names: Sequence[str]) -> dict[str, set[str]]:
        """See ``Catalogue.spellings``. Points that a program before this one wrote are seen from a rebuild on."""
        found: dict[str, set[str]] = {}
        for start in range(0, len(names), MAX_NAMES):
            part = [name.lower() for name in names[start : start + MAX_NAMES]]
            match = models.FieldCondition(key=SPELLING_KEY, match=models.MatchAny(any=part))
            found |= by_lower_case(self._ask("read", partial(self._names, models.Filter(must=[match]))))
        return found

    def _names(self, where: models.Filter, index: InUse) -> list[str]:
        found = self._client.facet(index.collection, "name", where, limit=MAX_LIMIT, exact=True)
        return [str(hit.value) for hit in found.hits]

    def scroll(self, where: Filter = EVERYTHING, limit: int = 100, after: str | None = None) -> Page:
        records, _ = self._ask(
            "list",
            lambda index: self._client.scroll(
                index.collection, to_filter(where), limit=limit + 2, offset=point_id(after) if after else None,
                with_payload=RECORD_ONLY, with_vectors=False,
            ),
        )  # fmt: skip
        found = (read_record(record.payload) for record in records)
        items = [item for item in found if item.id != after]
        return Page(tuple(items[:limit]), items[limit - 1].id if len(items) > limit else None)

    def count(self, where: Filter = EVERYTHING) -> int:
        ask = self._client.count
        return self._ask("count", lambda index: ask(index.collection, to_filter(where), exact=True)).count

    def facets(self, field: str, where: Filter = EVERYTHING, limit: int = 100) -> dict[str, int]:
        require_keyword_field(field)
        ask = self._client.facet
        found = self._ask(
            "count facets", lambda index: ask(index.collection, field, to_filter(where), limit=limit, exact=True)
        )
        counts = {str(hit.value): hit.count for hit in found.hits}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def nearest_task(
        self, task: ReducedSet, limit: int, where: Filter = EVERYTHING, exact: bool = False
    ) -> list[Hit]:
        def ask(index: InUse) -> list[Hit]:
            vector = index.settings.feature_map.embed([task])[0].tolist()
            return self._query(index, vector, SPECIFICATION_VECTOR, limit, where, exact)

        return _nearest_first(self._ask("search", ask))

    def nearest(
        self,
        vector: Vector,
        limit: int,
        where: Filter = EVERYTHING,
        exact: bool = False,
        using: str = PROMPT_VECTOR,
    ) -> list[Hit]:
        query = vector.tolist()
        hits = self._ask("search", lambda index: self._query(index, query, using, limit, where, exact))
        return _nearest_first(hits)

    def _nearest_text(self, vector: Vector, limit: int, where: Filter) -> list[Hit]:
        query = vector.tolist()
        return _best_first(self._ask("search", lambda index: self._query(index, query, TEXT_VECTOR, limit, where)))

    def _nearest_keywords(self, keywords: Keywords, limit: int, where: Filter) -> list[Hit]:
        query = models.SparseVector(indices=keywords.indices, values=keywords.values)
        hits = self._ask("search", lambda index: self._query(index, query, KEYWORD_VECTOR, limit, where))
        return _best_first(hits)

    def _query(
        self,
        index: InUse,
        query: list[float] | models.SparseVector,
        using: str,
        limit: int,
        where: Filter,
        exact: bool = False,
    ) -> list[Hit]:
        points = self._client.query_points(
            index.collection, query=query, using=using, limit=limit, query_filter=to_filter(where),
            search_params=_search_params(index.settings.plan, limit, exact),
            with_payload=["id"], with_vectors=False,
        ).points  # fmt: skip
        return [Hit((point.payload or {})["id"], point.score) for point in points]


def _search_params(plan: IndexPlan, limit: int, exact: bool) -> models.SearchParams:
    quantized = models.QuantizationSearchParams(
        ignore=exact, rescore=plan.oversampling > 0, oversampling=max(plan.oversampling, 1.0)
    )
    # HNSW cannot return more points than it keeps in view.
    return models.SearchParams(hnsw_ef=max(plan.ef, limit), exact=exact, quantization=quantized)


def _nearest_first(hits: list[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (hit.score, hit.id))


def _best_first(hits: list[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def _says_not_found(error: Exception) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code == HTTPStatus.NOT_FOUND
    # The client's in-memory mode has no status.
    return "not found" in str(error)


@contextmanager
def _server_errors(deed: str, key_variable: str = KEY_VARIABLE) -> Iterator[None]:
    """Maps what the client raises to CatalogueError; a key never stands in its messages."""
    try:
        yield
    except Unanswered as error:
        cure = "what was acknowledged is kept, run the same command again to go on"
        raised = CatalogueError(f"the catalogue cannot {deed}: {error}; {cure}")
        raised.retry_after = error.retry_after
        raise raised from None
    except (ApiException, OSError, ValueError) as error:
        text = str(error).strip().splitlines()
        status = error.status_code if isinstance(error, UnexpectedResponse) else None
        cure = f"; set {key_variable} to its key" if status in (401, 403) else ""
        reason = f"{text[0] if text else type(error).__name__}{cure}"
        raise CatalogueError(f"the catalogue cannot {deed}: {reason}") from None
