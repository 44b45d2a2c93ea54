"""The catalogue's contract: what every engine must do, and the checks done before any engine is touched.

The catalogue stores points; it does not know what a kernel is. The dense vector of a learnware's
specification is made by whoever knows the feature map named in ``settings``.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from catalogue.filters import EVERYTHING, PUBLISHED, Filter, Match
from catalogue.keywords import Keywords, query_keywords
from catalogue.learnware import NAME_PATTERN, Learnware
from catalogue.plan import IndexPlan
from catalogue.row import Entry, Row, Vector
from catalogue.schema import PROMPT_VECTOR
from specification import (
    PROJECTED,
    EncoderIdentity,
    FeatureMap,
    Progress,
    ReducedSet,
    StoredSpecification,
    no_progress,
    views_dimension,
)
from specification.errors import InvalidInput, NotFound

SCHEMA_VERSION = 4
MAX_LIMIT = 10_000
SCROLL_PAGE = 1000
BATCH = 256
"""Rows written at once: an engine may hold Python's lock meanwhile."""
MAX_FLOAT16 = 65504.0
RRF_K = 60

Part = TypeVar("Part")


class CatalogueSettings(BaseModel):
    """What a catalogue was made with; kept beside the points and read back with them.

    ``encoder`` is the only encoder whose specifications this catalogue takes, ``text_dimension`` the length of
    a description's vector; ``plan`` says how the index in use was made and is searched.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    encoder: EncoderIdentity
    text_dimension: Annotated[int, Field(ge=1, le=65_535)]
    plan: IndexPlan

    @classmethod
    def of(cls, encoder: EncoderIdentity) -> Self:
        """Returns the default settings for an encoder, which then reads specifications and descriptions."""
        plan = IndexPlan(feature_map=FeatureMap(input_dimension=encoder.dimension))
        return cls(encoder=encoder, text_dimension=encoder.dimension, plan=plan)

    def planned(self, plan: IndexPlan) -> Self:
        """Returns the settings with another plan.

        Raises:
            InvalidInput: its feature map takes points of another dimension than the encoder's.
        """
        made_for, dimension = plan.feature_map.input_dimension, self.encoder.dimension
        if made_for != dimension:
            raise InvalidInput(
                f"the plan's feature map takes {made_for}-d points, the encoder makes {dimension}-d"
            )
        return self.model_copy(update={"plan": plan})

    @property
    def feature_map(self) -> FeatureMap:
        """The map from reduced sets to the vectors of the index."""
        return self.plan.feature_map

    @property
    def prompt_dimension(self) -> int:
        """The length of the vectors that single prompts are matched with."""
        return views_dimension(self.encoder.dimension)

    @property
    def parameter_dimension(self) -> int:
        """The length of projected parameter vectors."""
        return PROJECTED


@dataclass(frozen=True)
class Hit:
    """A candidate and its score: a distance in ``nearest``, a fused rank in ``matching_text``."""

    id: str
    score: float


@dataclass(frozen=True)
class Page:
    """A slice of a listing, ordered by id; ``next`` is the id to go on after, None at the end."""

    learnwares: tuple[Learnware, ...]
    next: str | None


@dataclass(frozen=True)
class Status:
    """How a catalogue is kept: ``place`` is its folder, or the collection's name on the server.

    ``fresh`` counts the writes that came after the index was made, which are searched one by one; ``bytes`` is
    what the catalogue takes on disk. None where the engine does not tell.
    """

    engine: str
    place: str
    fresh: int | None
    bytes: int | None


class Catalogue(ABC):
    """Learnwares as points. Methods raise CatalogueError when the engine fails, never engine errors.

    Not safe for concurrent writers; concurrent reads beside one writer are.

    ``revision`` grows with every write through this object, after the write; other processes' writes it does not
    see. What was read before it grew may be stale.
    """

    settings: CatalogueSettings
    revision: int = 0

    def upsert(self, entries: Sequence[Entry]) -> None:
        """Adds or replaces learnwares by id; when it returns, they survive a crash and are found.

        Raises:
            InvalidInput: an entry fails a check; then none of the batch is written.
        """
        for entry in entries:
            self.check(entry)
        rows = [Row(entry.learnware, entry.specification.to_bytes(), entry.text_vector) for entry in entries]
        try:
            for start in range(0, len(rows), BATCH):
                self._write(rows[start : start + BATCH])
        finally:
            self.revision += 1

    def load(self, rows: Sequence[Row]) -> None:
        """As ``upsert``, of rows whose files were checked, and many: they may be found only after ``settle``."""
        try:
            self._load(rows)
        finally:
            self.revision += 1

    @abstractmethod
    def _write(self, rows: Sequence[Row]) -> None: ...

    def _load(self, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), BATCH):
            self._write(rows[start : start + BATCH])

    def settle(self, progress: Progress = no_progress) -> None:  # noqa: B027 - servers do so by themselves
        """Makes the index of everything that is in, which may take minutes. Until then searches may be slow."""

    @abstractmethod
    def rebuild(self, plan: IndexPlan, progress: Progress = no_progress) -> None:
        """Makes an index by ``plan`` beside the one in use, in whose place it is then put at once.

        Searches and writes through this object go on meanwhile: each search is answered by one of the two
        indexes with the map that this one was made with, and what is written is in the new one too.

        Raises:
            InvalidInput: the plan is for another encoder's points.
            CatalogueError: the new index could not be made; the old one stays in use.
        """

    def delete(self, ids: Sequence[str]) -> int:
        """Removes learnwares; returns how many were there."""
        try:
            return self._delete(ids)
        finally:
            self.revision += 1

    @abstractmethod
    def _delete(self, ids: Sequence[str]) -> int: ...

    @abstractmethod
    def get(self, ids: Sequence[str]) -> list[Learnware]:
        """Returns the records of ``ids`` in that order; ids that are not there are left out."""

    @abstractmethod
    def fetch(self, ids: Sequence[str]) -> list[Row]:
        """As ``get``, with specification files: each record with its own, whatever is written meanwhile."""

    @abstractmethod
    def scroll(self, where: Filter = EVERYTHING, limit: int = 100, after: str | None = None) -> Page:
        """Returns up to ``limit`` records in order of id, behind the id ``after``."""

    def everything(self, where: Filter = EVERYTHING) -> Iterator[Learnware]:
        """Yields every record that passes the filter, in order of id, page by page."""
        for page in self.pages(where):
            yield from page

    def pages(self, where: Filter = EVERYTHING, size: int = SCROLL_PAGE) -> Iterator[tuple[Learnware, ...]]:
        """As ``everything``, in tuples of up to ``size``; the next page is read when it is asked for."""
        after: str | None = None
        while True:
            page = self.scroll(where, size, after)
            yield page.learnwares
            if page.next is None:
                return
            after = page.next

    @abstractmethod
    def rows(self, batch: int = BATCH) -> Iterator[list[Row]]:
        """Yields all rows in lists of up to ``batch``, in any order.

        What is written meanwhile may come, come twice, or not.
        """

    @abstractmethod
    def status(self) -> Status:
        """Tells how the catalogue is kept."""

    @abstractmethod
    def count(self, where: Filter = EVERYTHING) -> int:
        """Returns how many records pass the filter, exactly."""

    @abstractmethod
    def facets(self, field: str, where: Filter = EVERYTHING, limit: int = 100) -> dict[str, int]:
        """Returns the values of a keyword field with their counts, most frequent first, then by value.

        Raises:
            InvalidInput: ``field`` is not one of ``filters.KEYWORD_FIELDS``.
        """

    @abstractmethod
    def nearest_task(
        self, task: ReducedSet, limit: int, where: Filter = EVERYTHING, exact: bool = False
    ) -> list[Hit]:
        """Returns the learnwares nearest to a task by the feature map of the index in use, ties broken by id.

        The weights of ``task`` may be any numbers. ``score`` approximates the MMD. ``exact`` compares with every
        vector; otherwise the engine's index answers.
        """

    def near_task(self, task: ReducedSet, limit: int, where: Filter = EVERYTHING) -> list[Row]:
        """Returns the rows of what ``nearest_task`` finds, in that order."""
        return self.fetch([hit.id for hit in self.nearest_task(task, limit, where)])

    @abstractmethod
    def nearest(
        self,
        vector: Vector,
        limit: int,
        where: Filter = EVERYTHING,
        exact: bool = False,
        using: str = PROMPT_VECTOR,
    ) -> list[Hit]:
        """Returns the points nearest to ``vector`` in one of the vector spaces, ties broken by id.

        ``using`` names the space, ``PROMPT_VECTOR`` or ``PARAMETER_VECTOR``; points without a vector in it are not
        found. ``score`` is the Euclidean distance. ``exact`` as in ``nearest_task``.
        """

    @abstractmethod
    def _nearest_text(self, vector: Vector, limit: int, where: Filter) -> list[Hit]: ...

    @abstractmethod
    def _nearest_keywords(self, keywords: Keywords, limit: int, where: Filter) -> list[Hit]: ...

    def matching_text(self, text: str, text_vector: Vector, limit: int, where: Filter = EVERYTHING) -> list[Hit]:
        """Returns points whose description fits a query, best first.

        Text vectors and BM25 keywords are fused by reciprocal rank (Cormack et al., SIGIR 2009, k = 60),
        here and not in the engines, whose order among equal scores is random.
        """
        _check_vector("text_vector", text_vector, self.settings.text_dimension)
        wide = min(4 * limit, MAX_LIMIT)
        rankings = [self._nearest_text(text_vector, wide, where)]
        keywords = query_keywords(text)
        if keywords.indices:
            rankings.append(self._nearest_keywords(keywords, wide, where))
        fused: dict[str, float] = {}
        for ranking in rankings:
            for rank, hit in enumerate(ranking, 1):
                fused[hit.id] = fused.get(hit.id, 0.0) + 1 / (RRF_K + rank)
        best = sorted(fused.items(), key=lambda item: (-item[1], item[0]))
        return [Hit(id, score) for id, score in best[:limit]]

    def specification_file(self, learnware: Learnware) -> bytes:
        """Returns the specification file of a record that was read from here.

        Raises:
            NotFound: the learnware was removed or got a new specification meanwhile.
        """
        found = self.read_files([learnware], bytes)
        if not found:
            raise NotFound(f"learnware {learnware.name}: removed or specified anew meanwhile; ask again")
        return found[learnware.id]

    def reduced_sets(self, learnwares: Sequence[Learnware]) -> dict[str, ReducedSet]:
        """Returns the reduced sets of records that were read from here, by id.

        Learnwares that were removed or got a new specification meanwhile are left out.
        """
        stored = self.read_files(learnwares, StoredSpecification)
        return {id: each.reduced_set for id, each in stored.items()}

    def read_files(self, learnwares: Sequence[Learnware], read: Callable[[bytes], Part]) -> dict[str, Part]:
        """Returns by id what ``read`` makes of the specification files, left out as in ``reduced_sets``."""
        digests = {item.id: item.specification_digest for item in learnwares}
        return {
            row.learnware.id: read(row.file)
            for row in self.fetch(list(digests))
            if row.learnware.specification_digest == digests[row.learnware.id]
        }

    def read_ahead(self) -> None:  # noqa: B027 (a server sees to its own)
        """Brings into memory what searches will read, where it is here and there is room for it."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the engine. Safe to call twice."""

    @abstractmethod
    def versions(self, names: Sequence[str]) -> dict[str, int]:
        """Returns the highest version of each of those names that are there."""

    @abstractmethod
    def spellings(self, names: Sequence[str]) -> dict[str, set[str]]:
        """Returns by their lower case the names that are there and differ from one of these in case at most."""

    def other_spelling(self, name: str) -> str | None:
        """Returns a name that is there and differs from this one in case alone, unless this one is there too."""
        there = self.spellings([name]).get(name.lower(), set())
        return None if name in there else min(there, default=None)

    def named(self, name: str) -> Learnware | None:
        """Returns the newest published learnware of that name."""
        if re.match(NAME_PATTERN, name) is None:
            return None
        where = PUBLISHED & Filter(conditions=(Match(field="name", values=(name,)),))
        found = self.scroll(where, limit=MAX_LIMIT).learnwares
        return max(found, key=lambda learnware: learnware.version, default=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self, entry: Entry) -> None:
        """Refuses everything that would poison an engine, since engines take it in silence.

        Raises:
            InvalidInput: record, specification or text vector do not belong together, or not here.
        """
        name = entry.learnware.name
        entry.specification.require_encoder(self.settings.encoder)
        if entry.learnware.specification_digest != entry.specification.digest:
            raise InvalidInput(f"learnware {name}: record and specification have different digests")
        if entry.text_vector is not None:
            _check_vector(f"learnware {name}: text_vector", entry.text_vector, self.settings.text_dimension)


def by_lower_case(names: Iterable[str]) -> dict[str, set[str]]:
    """Returns names by their lower case."""
    found: dict[str, set[str]] = {}
    for name in names:
        found.setdefault(name.lower(), set()).add(name)
    return found


def _check_vector(label: str, vector: Vector, length: int) -> None:
    if vector.shape != (length,):
        raise InvalidInput(f"{label}: shape {vector.shape} != ({length},)")
    if not np.isfinite(vector).all() or float(np.abs(vector).max()) > MAX_FLOAT16:
        raise InvalidInput(f"{label}: holds NaN, Inf or a number beyond float16")
