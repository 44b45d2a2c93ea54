"""The map in use: every published learnware's place, made in the background as the catalogue changes."""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice

import numpy as np
from pydantic import BaseModel, ConfigDict

from catalogue import PUBLISHED, Catalogue, Learnware
from retriever.layout import LANDMARKS, Layout
from specification import FeatureMap, Specification, StoredSpecification
from specification.errors import CatalogueError, Conflict, DockError
from specification.kernel import Floats

MOST = 100_000
PAGE = 500
SIDE = 65_535
GROWTH = 0.1
REST = 10
"""A map is not made again before this many times as long as it took have gone by."""

log = logging.getLogger(__name__)


class MapColumns(BaseModel):
    """n learnwares, one a place in each list: reference, whole numbers 0 … SIDE, and an index into ``domains``.

    ``published`` is how many there are; of more than MOST those with the smallest ids are here, which are hashes
    and so a fair sample.
    """

    model_config = ConfigDict(frozen=True)

    published: int
    domains: list[str]
    references: list[str]
    domain: list[int]
    x: list[int]
    y: list[int]


@dataclass(frozen=True)
class CatalogueMap:
    """A map as it was made: the catalogue's revision then, and how many learnwares it was laid out for."""

    revision: int
    feature_map: FeatureMap
    layout: Layout
    laid_out_for: int
    columns: MapColumns

    @cached_property
    def json(self) -> bytes:
        """The columns as they are sent."""
        return self.columns.model_dump_json().encode()


class LiveMap:
    """Gives the catalogue's map; whoever asks never waits for the next.

    Learnwares that come in are put into the old layout until there are a tenth more or fewer, so that nothing
    jumps about.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.done = 0
        """How many learnwares the map that is being made has by now."""
        self._made: CatalogueMap | None = None
        self._problem: DockError | None = None
        self._making = threading.Lock()
        self._not_before = 0.0

    def current(self) -> CatalogueMap | None:
        """Returns the newest map, None while the first is being made.

        Raises:
            CatalogueError: the catalogue could not be read; the next call tries again.
        """
        made, problem = self._made, self._problem
        if problem is not None:
            self._problem = None
            raise problem
        if self._stale(made) and self._making.acquire(blocking=False):
            threading.Thread(target=self._refresh, name="map", daemon=True).start()
        return made

    def place(self, task: Specification) -> tuple[int, int]:
        """Returns where a task lies in the newest map, in the columns' numbers.

        Raises:
            Incomparable: the specification was made by another encoder than the catalogue's.
            Conflict: the first map is still being made.
        """
        task.require_encoder(self.catalogue.settings.encoder)
        made = self.current()
        if made is None:
            raise Conflict("the map is being made; ask again when GET /v1/map has it")
        return _whole(made.layout.put(made.feature_map.embed([task.reduced_set])))[0]

    def refresh(self) -> None:
        """Makes the map of the catalogue as it is, and puts it in place of the old one."""
        self._making.acquire()
        self._refresh()

    def _refresh(self) -> None:
        """As ``refresh``, by whoever holds the lock, which is let go."""
        started = time.monotonic()
        try:
            self._made = self._make()
        except DockError as error:
            log.warning("the map could not be made: %s", error)
            self._problem = error
        except Exception:
            log.exception("the map could not be made")
            self._problem = CatalogueError("the map could not be made; the gateway's log says why")
        finally:
            self._not_before = time.monotonic() + REST * (time.monotonic() - started)
            self._making.release()

    def _stale(self, made: CatalogueMap | None) -> bool:
        if made is None:
            return True
        if time.monotonic() < self._not_before:
            return False
        changed = made.revision != self.catalogue.revision
        return changed or made.columns.published != self.catalogue.count(PUBLISHED)

    def _make(self) -> CatalogueMap:
        self.done = 0
        revision, published = self.catalogue.revision, self.catalogue.count(PUBLISHED)
        feature_map = self.catalogue.settings.feature_map
        old, pages, first = self._made, self._pages(feature_map), []
        if old and old.feature_map == feature_map and abs(published - old.laid_out_for) <= GROWTH * published:
            layout, laid_out_for = old.layout, old.laid_out_for
        else:
            first = list(islice(pages, LANDMARKS // PAGE))
            layout, laid_out_for = Layout.of(np.concatenate([vectors for _, vectors in first])), published
        domains: dict[str, int] = {}
        references, domain, x, y = list[str](), list[int](), list[int](), list[int]()
        for learnwares, vectors in chain(first, pages):
            for learnware, place in zip(learnwares, _whole(layout.put(vectors)), strict=True):
                references.append(learnware.reference)
                domain.append(domains.setdefault(learnware.domain, len(domains)))
                x.append(place[0])
                y.append(place[1])
            self.done = len(references)
        columns = MapColumns(
            published=published, domains=list(domains), references=references, domain=domain, x=x, y=y
        )
        return CatalogueMap(revision, feature_map, layout, laid_out_for, columns)

    def _pages(self, feature_map: FeatureMap) -> Iterator[tuple[list[Learnware], Floats]]:
        """Yields learnwares with their vectors; those that are replaced meanwhile are left out."""
        for page in islice(self.catalogue.pages(PUBLISHED, PAGE), MOST // PAGE):
            files = self.catalogue.read_files(page, StoredSpecification)
            there = [learnware for learnware in page if learnware.id in files]
            yield there, feature_map.embed([files[learnware.id].reduced_set for learnware in there])


def _whole(places: Floats) -> list[tuple[int, int]]:
    numbers = np.rint((places.astype(np.float64) + 1) / 2 * SIDE).astype(int)
    return [(int(x), int(y)) for x, y in numbers]
