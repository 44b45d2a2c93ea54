"""The embedded engine: Qdrant Edge in this process, one folder, one process at a time.

``ledger.sqlite`` is what the catalogue knows (``catalogue.ledger``); an index (``catalogue.edge_index``) is made
from it and searched. A write goes to the ledger, which makes it durable, and then to the index, where fresh points
are answered exactly, by brute force. When there are many of them another process makes the next index from the
ledger (``catalogue.build``), since building graphs would stop this one; what was written meanwhile is added to it,
and it takes the old one's place at once. So an index with another feature map is made too. A large index is
searched in a process of its own (``catalogue.index_process``).
"""

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar
from uuid import uuid4

from qdrant_edge import SparseVector

from catalogue.build import LEDGER, Build
from catalogue.contract import BATCH, Catalogue, CatalogueSettings, Hit, Page, Status, by_lower_case
from catalogue.edge_folder import INDEX, State, prepare, require_space, size_of, take, write_state
from catalogue.edge_index import EdgeIndex, engine_errors
from catalogue.filters import EVERYTHING, Filter
from catalogue.index_process import Index, IndexLost, open_index
from catalogue.keywords import Keywords
from catalogue.learnware import Learnware
from catalogue.ledger import Key, Ledger, key_of
from catalogue.plan import IndexPlan
from catalogue.row import Row, Vector
from catalogue.schema import (
    KEYWORD_VECTOR,
    PROMPT_VECTOR,
    SPECIFICATION_VECTOR,
    TEXT_VECTOR,
    checked_id,
    require_keyword_field,
)
from specification import Progress, ReducedSet, no_progress
from specification.errors import (
    CatalogueError,
    DockError,
)

FRESH = 20_000
"""Fresh points that brute force answers in two milliseconds or so; from there on a new index is made."""
PAUSE_SECONDS = 30.0
"""From one try to make a new index in the background to the next."""
GROWTH = 0.1
"""A large index is made anew when this part of it is fresh."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class EdgeCatalogue(Catalogue):
    """See ``Catalogue``. Open one with ``EdgeCatalogue.open``."""

    def __init__(self, folder: Path, state: State, lock: TextIO) -> None:
        self.settings = state.settings
        self.folder = folder
        self._lock = lock
        self._ledger = Ledger(folder / LEDGER)
        self._changing = threading.RLock()
        self._build: Build | None = None
        self._next_try = 0.0
        self._index: Index | None = None
        self._open_index(state.index)

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
            take(lock, folder)
            with engine_errors("open", folder):
                return cls(folder, prepare(folder, settings), lock)
        except BaseException:
            lock.close()
            raise

    def close(self) -> None:
        with self._changing:
            build, self._build = self._build, None
            index, self._index = self._index, None
            if build is not None:
                build.stop()
            if index is not None:
                with engine_errors("close"):
                    with contextlib.suppress(IndexLost):
                        index.close()
                        self._ledger.forget(index.applied)
                    self._ledger.close()
                self._lock.close()

    def _write(self, rows: Sequence[Row]) -> None:
        require_space(self.folder)
        with self._changing, engine_errors("write"):
            self._require_open()
            self._ledger.put(rows)
            self._catch_up()
        self._look_after()

    def _load(self, rows: Sequence[Row]) -> None:
        """Writes to the ledger alone: ``settle``, or whoever opens the catalogue next, sees to the index."""
        require_space(self.folder)
        with self._changing, engine_errors("write"):
            self._ledger.put(rows)

    def _delete(self, ids: Sequence[str]) -> int:
        with self._changing, engine_errors("delete"):
            self._require_open()
            found = list(self._ledger.ids([key_of(checked_id(id)) for id in ids]))
            if found:
                self._ledger.remove(found)
                self._catch_up()
            return len(found)

    def settle(self, progress: Progress = no_progress) -> None:
        """Brings the index up to date, by a new one where many learnwares are missing in it or fresh."""
        with engine_errors("bring its index up to date"):
            if self._ledger.last - self._engine.made >= FRESH:
                self.rebuild(self.settings.plan, progress)
            with self._changing:
                self._catch_up()

    def rebuild(self, plan: IndexPlan, progress: Progress = no_progress) -> None:
        """See ``Catalogue.rebuild``; another process makes it from the ledger."""
        settings = self.settings.planned(plan)
        with self._changing, engine_errors("make an index"):
            require_space(self.folder, size_of(self._engine.folder))
            if self._build is not None:
                self._build.stop()
            build = self._build = Build(self.folder, f"{INDEX}{uuid4().hex[:8]}", settings)
        try:
            build.wait(progress)
            with engine_errors("take its new index into use"):
                self._switch(self._opened(build.index, plan), settings)
        finally:
            with self._changing:
                if self._build is build:
                    self._build = None

    def _switch(self, new: Index, settings: CatalogueSettings) -> None:
        # Twice: most of it while others write, and what they wrote meanwhile while they wait.
        new.advance(self._ledger)
        with self._changing:
            old = self._engine
            new.advance(self._ledger)
            new.flush()
            write_state(self.folder, State(settings=settings, index=new.folder.name))
            self._index, self.settings = new, settings
            self.revision += 1
        old.retire()

    def _catch_up(self) -> None:
        """Applies what the ledger has and the index has not."""
        self._asked(lambda index: index.advance(self._ledger))

    def _asked(self, ask: Callable[[Index], T]) -> T:
        """What the index in use answers; one whose process was killed is opened again first."""
        index = self._engine
        try:
            return ask(index)
        except IndexLost as error:
            log.error("%s", error)
            with self._changing:
                if self._engine is index:
                    self._index = self._opened(index.folder, index.plan)
                    self._index.advance(self._ledger)
            return ask(self._engine)

    def _opened(self, folder: Path, plan: IndexPlan) -> Index:
        return open_index(folder, plan, self.folder / LEDGER, self._lock.fileno())

    def _look_after(self) -> None:
        """Has the next index made, in the background, when too much of this one is fresh."""
        index = self._engine
        fresh = index.applied - index.made
        if fresh < FRESH or self._build is not None or time.monotonic() < self._next_try:
            return
        if fresh < GROWTH * self.count():
            return
        self._next_try = time.monotonic() + PAUSE_SECONDS
        threading.Thread(target=self._rebuild_quietly, name="index", daemon=True).start()

    def _rebuild_quietly(self) -> None:
        try:
            self.rebuild(self.settings.plan)
        except DockError as error:
            if self._index is not None:
                log.error("no new index could be made, the old one stays in use: %s", error)

    def _open_index(self, name: str) -> None:
        """Opens the index in use, makes it anew from the ledger if it is damaged, and sweeps what others left."""
        for folder in self.folder.glob(f"{INDEX}*"):
            if folder.name != name:
                shutil.rmtree(folder, ignore_errors=True)
        try:
            with engine_errors("open its index"):
                self._index = self._opened(self.folder / name, self.settings.plan)
        except IndexLost:
            raise
        except CatalogueError as error:
            log.error("%s; it is made anew from the ledger", error)
            EdgeIndex.create(self.folder / name, self.settings)
            self._index = EdgeIndex(self.folder / name, self.settings.plan)
        self.settle()

    def read_ahead(self) -> None:
        with engine_errors("read"):
            self._ledger.read_ahead()

    def get(self, ids: Sequence[str]) -> list[Learnware]:
        with engine_errors("read"):
            records = self._ledger.records([key_of(checked_id(id)) for id in ids])
        return [item for id in ids if (item := records.get(key_of(id))) is not None and item.id == id]

    def fetch(self, ids: Sequence[str]) -> list[Row]:
        with engine_errors("read"):
            rows = self._ledger.rows([key_of(checked_id(id)) for id in ids])
        return [row for id in ids if (row := rows.get(key_of(id))) is not None and row.learnware.id == id]

    def versions(self, names: Sequence[str]) -> dict[str, int]:
        with engine_errors("read"):
            found: dict[str, int] = {}
            for item in self._ledger.named(names):
                found[item.name] = max(item.version, found.get(item.name, 0))
            return found

    def spellings(self, names: Sequence[str]) -> dict[str, set[str]]:
        with engine_errors("read"):
            return by_lower_case(self._ledger.spellings(names))

    def scroll(self, where: Filter = EVERYTHING, limit: int = 100, after: str | None = None) -> Page:
        with engine_errors("list"):
            behind = key_of(checked_id(after)) if after else None
            keys = self._asked(lambda index: index.scroll(where, limit + 1, behind))
            records = self._ledger.records(keys)
        items = [records[key] for key in keys[:limit] if key in records]
        return Page(tuple(items), items[-1].id if items and len(keys) > limit else None)

    def rows(self, batch: int = BATCH) -> Iterator[list[Row]]:
        with engine_errors("read"):
            last = 0
            while changes := self._ledger.changes(last, batch):
                last = changes[-1].number
                if found := [change.row for change in changes if change.row is not None]:
                    yield found

    def status(self) -> Status:
        index = self._engine
        with engine_errors("be measured"):
            return Status("Qdrant Edge", str(self.folder), index.applied - index.made, size_of(self.folder))

    def count(self, where: Filter = EVERYTHING) -> int:
        with engine_errors("count"):
            return self._asked(lambda index: index.count(where))

    def facets(self, field: str, where: Filter = EVERYTHING, limit: int = 100) -> dict[str, int]:
        require_keyword_field(field)
        with engine_errors("count facets"):
            counts = self._asked(lambda index: index.facets(field, where, limit))
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def nearest_task(
        self, task: ReducedSet, limit: int, where: Filter = EVERYTHING, exact: bool = False
    ) -> list[Hit]:
        return _nearest_first(self._hits(lambda index: _near(index, task, limit, where, exact)))

    def near_task(self, task: ReducedSet, limit: int, where: Filter = EVERYTHING) -> list[Row]:
        with engine_errors("search"):
            keys = [key for key, _ in self._asked(lambda index: _near(index, task, limit, where))]
            rows = self._ledger.rows(keys)
        return [rows[key] for key in keys if key in rows]

    def nearest(
        self,
        vector: Vector,
        limit: int,
        where: Filter = EVERYTHING,
        exact: bool = False,
        using: str = PROMPT_VECTOR,
    ) -> list[Hit]:
        numbers: list[float] = vector.tolist()
        return _nearest_first(self._hits(lambda index: index.query(using, numbers, limit, where, exact)))

    def _nearest_text(self, vector: Vector, limit: int, where: Filter) -> list[Hit]:
        numbers: list[float] = vector.tolist()
        hits = self._hits(lambda index: index.query(TEXT_VECTOR, numbers, limit, where))
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def _nearest_keywords(self, keywords: Keywords, limit: int, where: Filter) -> list[Hit]:
        vector = SparseVector(keywords.indices, keywords.values)
        hits = self._hits(lambda index: index.query(KEYWORD_VECTOR, vector, limit, where))
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def _hits(self, query: Callable[[Index], list[tuple[Key, float]]]) -> list[Hit]:
        with engine_errors("search"):
            found = self._asked(query)
            ids = self._ledger.ids([key for key, _ in found])
        return [Hit(ids[key], score) for key, score in found if key in ids]

    def _require_open(self) -> None:
        """Raises CatalogueError before anything is written to a catalogue that is closed."""
        _ = self._engine

    @property
    def _engine(self) -> Index:
        if self._index is None:
            raise CatalogueError("the catalogue is closed")
        return self._index


def _near(
    index: Index, task: ReducedSet, limit: int, where: Filter, exact: bool = False
) -> list[tuple[Key, float]]:
    """Maps a task by the map of the index that is then searched, whichever takes its place meanwhile."""
    vector: list[float] = index.plan.feature_map.embed([task])[0].tolist()
    return index.query(SPECIFICATION_VECTOR, vector, limit, where, exact)


def _nearest_first(hits: list[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (hit.score, hit.id))
