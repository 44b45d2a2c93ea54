"""The catalogue's contract: what every engine must do, and the checks done before any engine is touched.

The catalogue stores points; it does not know what a kernel is. The dense vector of a learnware's
specification is made by whoever knows the feature map named in ``settings``.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from catalogue.filters import EVERYTHING, PUBLISHED, Filter, Match
from catalogue.keywords import Keywords, query_keywords
from catalogue.learnware import NAME_PATTERN, Learnware
from catalogue.schema import SPECIFICATION_VECTOR
from specification import (
    PROJECTED,
    EncoderIdentity,
    FeatureMap,
    ReducedSet,
    Section,
    Specification,
    read_reduced_set,
    read_section,
    views_dimension,
)
from specification.errors import InvalidInput, NotFound

SCHEMA_VERSION = 3
MAX_LIMIT = 10_000
SCROLL_PAGE = 1000
MAX_BATCH = 10_000
MAX_FLOAT16 = 65504.0
RRF_K = 60

Vector = NDArray[np.float32]
Part = TypeVar("Part")


class CatalogueSettings(BaseModel):
    """What a catalogue was created with; kept beside the points and read back with them.

    ``feature_map`` turns reduced sets into the dense vectors stored here; ``encoder`` is the only encoder
    whose specifications this catalogue takes; ``text_dimension`` is the length of a description's vector.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    encoder: EncoderIdentity
    feature_map: FeatureMap
    text_dimension: Annotated[int, Field(ge=1, le=65_535)]

    @classmethod
    def of(cls, encoder: EncoderIdentity) -> Self:
        """Returns the default settings for an encoder, which then reads specifications and descriptions."""
        dimension = encoder.dimension
        return cls(encoder=encoder, feature_map=FeatureMap(input_dimension=dimension), text_dimension=dimension)

    @property
    def prompt_dimension(self) -> int:
        """The length of the vectors that single prompts are matched with."""
        return views_dimension(self.encoder.dimension)

    @property
    def parameter_dimension(self) -> int:
        """The length of projected parameter vectors."""
        return PROJECTED


@dataclass(frozen=True)
class Entry:
    """One learnware on its way in: record, specification, and the vectors to be searched.

    ``vector`` is float32 of shape [feature_map.dimension]; ``text_vector`` float32 [text_dimension];
    ``prompt_vector`` float32 [prompt_dimension] and ``parameter_vector`` float32 [parameter_dimension] are None
    where the specification has no section for prompts or no parameters.
    """

    learnware: Learnware
    specification: Specification
    vector: Vector
    text_vector: Vector
    prompt_vector: Vector | None = None
    parameter_vector: Vector | None = None


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


class Catalogue(ABC):
    """Learnwares as points. Methods raise CatalogueError when the engine fails, never engine errors.

    Not safe for concurrent writers; concurrent reads beside one writer are.

    ``revision`` grows with every write through this object, after the write; other processes' writes it does not
    see. What was read before it grew may be stale.
    """

    settings: CatalogueSettings
    revision: int = 0

    def upsert(self, entries: Sequence[Entry]) -> None:
        """Adds or replaces learnwares by id; when it returns, they survive a crash.

        Raises:
            InvalidInput: an entry fails a check; then none of the batch is written.
        """
        for entry in entries:
            self._check(entry)
        try:
            for start in range(0, len(entries), MAX_BATCH):
                self._upsert(entries[start : start + MAX_BATCH])
        finally:
            self.revision += 1

    @abstractmethod
    def _upsert(self, entries: Sequence[Entry]) -> None: ...

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
    def scroll(self, where: Filter = EVERYTHING, limit: int = 100, after: str | None = None) -> Page:
        """Returns up to ``limit`` records in order of id, behind the id ``after``."""

    def everything(self, where: Filter = EVERYTHING) -> Iterator[Learnware]:
        """Yields every record that passes the filter, in order of id, page by page."""
        after: str | None = None
        while True:
            page = self.scroll(where, SCROLL_PAGE, after)
            yield from page.learnwares
            if page.next is None:
                return
            after = page.next

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
    def nearest(
        self,
        vector: Vector,
        limit: int,
        where: Filter = EVERYTHING,
        exact: bool = False,
        using: str = SPECIFICATION_VECTOR,
    ) -> list[Hit]:
        """Returns the points nearest to ``vector`` in one of the vector spaces, ties broken by id.

        ``using`` names the space, ``SPECIFICATION_VECTOR``, ``PROMPT_VECTOR`` or ``PARAMETER_VECTOR``; points
        without a vector in it are not found. ``score`` is the Euclidean distance. ``exact`` scans everything;
        otherwise the engine's index answers.
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

    @abstractmethod
    def _specification_files(self, learnwares: Sequence[Learnware]) -> dict[str, bytes]:
        """Files by id, without those that are gone or belong to another state of the record."""

    def specification_file(self, learnware: Learnware) -> bytes:
        """Returns the specification file of a record that was read from here.

        Raises:
            NotFound: the learnware was removed or got a new specification meanwhile.
        """
        found = self._specification_files([learnware])
        if not found:
            raise NotFound(f"learnware {learnware.name}: removed or specified anew meanwhile; ask again")
        return found[learnware.id]

    def reduced_sets(self, learnwares: Sequence[Learnware]) -> dict[str, ReducedSet]:
        """Returns the reduced sets of records that were read from here, by id, for an exact rerank.

        Learnwares that were removed or got a new specification meanwhile are left out.
        """
        return self.read_files(learnwares, read_reduced_set)

    def read_files(self, learnwares: Sequence[Learnware], read: Callable[[bytes], Part]) -> dict[str, Part]:
        """Returns by id what ``read`` makes of the specification files, left out as in ``reduced_sets``."""
        return {id: read(file) for id, file in self._specification_files(learnwares).items()}

    def sections(self, learnwares: Sequence[Learnware]) -> dict[str, Section]:
        """Returns what is known of the reduced sets of ``learnwares``, by id; the rest as ``reduced_sets``."""
        return {id: read_section(file) for id, file in self._specification_files(learnwares).items()}

    @abstractmethod
    def close(self) -> None:
        """Lets go of the engine. Safe to call twice."""

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

    def _check(self, entry: Entry) -> None:
        """Everything that would poison an engine is refused here, since engines take it in silence."""
        name = entry.learnware.name
        entry.specification.require_encoder(self.settings.encoder)
        if entry.learnware.specification_digest != entry.specification.digest:
            raise InvalidInput(f"learnware {name}: record and specification have different digests")
        for label, vector, length in (
            ("vector", entry.vector, self.settings.feature_map.dimension),
            ("text_vector", entry.text_vector, self.settings.text_dimension),
            ("prompt_vector", entry.prompt_vector, self.settings.prompt_dimension),
            ("parameter_vector", entry.parameter_vector, self.settings.parameter_dimension),
        ):
            if vector is not None:
                _check_vector(f"learnware {name}: {label}", vector, length)


def _check_vector(label: str, vector: Vector, length: int) -> None:
    if vector.shape != (length,):
        raise InvalidInput(f"{label}: shape {vector.shape} != ({length},)")
    if not np.isfinite(vector).all() or float(np.abs(vector).max()) > MAX_FLOAT16:
        raise InvalidInput(f"{label}: holds NaN, Inf or a number beyond float16")
