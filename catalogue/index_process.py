"""A large index in a process of its own.

The engine holds Python's lock in every call, for seconds when it opens an index of 100 000 points. Here a search
waits for another search or for a slice of changes at most. Both sides speak JSON over two connections: searches go
through the one, and what changes the index through the other. The process ends with its parent.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

from pydantic_core import from_json, to_json
from qdrant_edge import SparseVector

from catalogue.build import ONE_THREAD
from catalogue.edge_index import EdgeIndex, engine_errors, numbers_of
from catalogue.filters import Filter
from catalogue.ledger import Key, Ledger
from catalogue.plan import IndexPlan
from specification.errors import CatalogueError, DockError

LARGE = 20_000
"""Points in graphs from which on opening an index would hold up everything else."""
SLICE = 32
"""Changes that are applied between two searches."""
UNFLUSHED = 50_000
"""Changes that wait for a quiet moment to be flushed at most; after a crash they are applied again."""
QUIET_SECONDS = 1.0
STOP_SECONDS = 60.0


class IndexLost(CatalogueError):
    """The index's process has ended; the index is opened again."""


class IndexProcess:
    """As ``EdgeIndex``, for any number of threads."""

    def __init__(self, folder: Path, plan: IndexPlan, ledger: Path, lock: int) -> None:
        """Starts the process, which holds the file descriptor ``lock`` until it ends."""
        self.folder = folder
        self.plan = plan
        self._searching, self._changing = threading.Lock(), threading.Lock()
        pairs = [socket.socketpair() for _ in range(2)]
        theirs = [other.fileno() for _, other in pairs]
        program = [sys.executable, "-P", "-c", f"from {__name__} import main; main()"]
        self._process = subprocess.Popen(
            [*program, str(folder), str(ledger), *map(str, theirs)],
            stdin=subprocess.DEVNULL, pass_fds=[*theirs, lock], env=ONE_THREAD,
        )  # fmt: skip
        for _, other in pairs:
            other.close()
        self._calls, self._control = (Connection(own.detach()) for own, _ in pairs)
        self._ended = weakref.finalize(self, _end, self._process, self._calls, self._control)
        self.made, self.applied = self._change("open", plan.model_dump(mode="json"))

    def close(self) -> None:
        """Makes what was applied durable and ends the process."""
        with self._searching:
            self._change("close")
            self._process.wait(STOP_SECONDS)
            self._ended()

    def retire(self) -> None:
        """Ends the process and removes the index when nobody searches it any longer."""
        self._ended.detach()
        end = weakref.finalize(self, _remove, self._process, self._calls, self._control, self.folder)
        end.atexit = False

    def flush(self) -> None:
        """Makes what was applied durable; what was not is applied again after a crash."""
        self._change("flush")

    def advance(self, ledger: Ledger) -> None:
        """Applies what the ledger holds now and the index does not."""
        self.applied = self._change("advance", ledger.last)

    def query(
        self, using: str, vector: list[float] | SparseVector, limit: int, where: Filter, exact: bool = False
    ) -> list[tuple[Key, float]]:
        """Returns keys and scores of the points nearest to a vector in the space ``using``."""
        sparse = isinstance(vector, SparseVector)
        numbers = [vector.indices, vector.values] if isinstance(vector, SparseVector) else vector
        found = self._ask("query", using, sparse, numbers, limit, where.model_dump(), exact)
        return [(bytes.fromhex(key), score) for key, score in found]

    def scroll(self, where: Filter, limit: int, after: Key | None) -> list[Key]:
        """Returns up to ``limit`` keys in order, behind ``after``."""
        keys = self._ask("scroll", where.model_dump(), limit, after and after.hex())
        return [bytes.fromhex(key) for key in keys]

    def count(self, where: Filter) -> int:
        """Returns how many points pass the filter."""
        number: int = self._ask("count", where.model_dump())
        return number

    def facets(self, field: str, where: Filter, limit: int) -> dict[str, int]:
        """Returns the values of a keyword field with their counts."""
        counts: dict[str, int] = self._ask("facets", field, where.model_dump(), limit)
        return counts

    def _ask(self, *words: object) -> Any:
        with self._searching:
            return _exchange(self._calls, words)

    def _change(self, *words: object) -> Any:
        with self._changing:
            return _exchange(self._control, words)


Index = EdgeIndex | IndexProcess


def open_index(folder: Path, plan: IndexPlan, ledger: Path, lock: int) -> Index:
    """Opens a small index here, and a large one in a process of its own."""
    made, _ = numbers_of(folder)
    return IndexProcess(folder, plan, ledger, lock) if made >= LARGE else EdgeIndex(folder, plan)


def _exchange(connection: Connection, words: Sequence[object]) -> Any:
    try:
        connection.send_bytes(to_json(words))
        kind, value = from_json(connection.recv_bytes())
    except (EOFError, OSError):
        raise IndexLost("the process of the catalogue's index has ended; is memory short?") from None
    except BaseException:
        # An answer that nobody waits for would be taken for the next one's.
        connection.close()
        raise
    if kind == "error":
        raise CatalogueError(value)
    return value


def _end(process: "subprocess.Popen[bytes]", *connections: Connection) -> None:
    for connection in connections:
        connection.close()
    process.kill()
    process.wait()


def _remove(process: "subprocess.Popen[bytes]", calls: Connection, control: Connection, folder: Path) -> None:
    def remove() -> None:
        _end(process, calls, control)
        shutil.rmtree(folder, ignore_errors=True)

    # The last search that held the index would wait for it.
    threading.Thread(target=remove, name="remove index").start()


class _Server:
    """The other side: one index, searches first, changes in slices between them."""

    def __init__(self, folder: Path, ledger: Path, calls: Connection, control: Connection) -> None:
        self.folder, self.ledger = folder, Ledger(ledger)
        self.calls, self.control = calls, control
        self.index: EdgeIndex
        self.goal: int | None = None

    def run(self) -> NoReturn:
        """Answers until the parent closes the index, or ends."""
        while True:
            waiting = wait([self.calls, self.control], self._patience)
            for connection in waiting:
                assert isinstance(connection, Connection)
                word, *rest = from_json(connection.recv_bytes())
                self._answer(connection, word, rest)
            if self.goal is not None:
                self._apply()
            elif not waiting:
                with contextlib.suppress(CatalogueError), engine_errors("flush"):
                    self.index.flush()

    @property
    def _patience(self) -> float | None:
        """Seconds that may be waited for a message; None is forever."""
        if self.goal is not None:
            return 0
        return QUIET_SECONDS if hasattr(self, "index") and self.index.unflushed else None

    def _answer(self, connection: Connection, word: str, rest: list[Any]) -> None:
        if word == "advance":
            (self.goal,) = rest
            return
        try:
            with engine_errors(word, self.folder):
                answer = getattr(self, f"_do_{word}")(*rest)
        except DockError as error:
            self._reply(connection, "error", str(error))
        else:
            self._reply(connection, "value", answer)
        if word == "close":
            os._exit(0)

    def _apply(self) -> None:
        """Applies a slice; the parent hears of the last one."""
        try:
            with engine_errors("write", self.folder):
                changes = self.ledger.changes(self.index.applied, SLICE)
                if changes:
                    self.index.apply(changes)
                if self.index.unflushed >= UNFLUSHED:
                    self.index.flush()
        except DockError as error:
            self.goal = None
            self._reply(self.control, "error", str(error))
        else:
            assert self.goal is not None
            if not changes or self.index.applied >= self.goal:
                self.goal = None
                self._reply(self.control, "value", self.index.applied)

    def _reply(self, connection: Connection, kind: str, value: object) -> None:
        connection.send_bytes(to_json([kind, value]))

    def _do_open(self, plan: dict[str, Any]) -> tuple[int, int]:
        self.index = EdgeIndex(self.folder, IndexPlan.model_validate(plan))
        return self.index.made, self.index.applied

    def _do_close(self) -> None:
        self.index.close()

    def _do_flush(self) -> None:
        self.index.flush()

    def _do_query(
        self, using: str, sparse: bool, numbers: list[Any], limit: int, where: dict[str, Any], exact: bool
    ) -> list[tuple[str, float]]:
        vector = SparseVector(*numbers) if sparse else numbers
        found = self.index.query(using, vector, limit, Filter.model_validate(where), exact)
        return [(key.hex(), score) for key, score in found]

    def _do_scroll(self, where: dict[str, Any], limit: int, after: str | None) -> list[str]:
        behind = after and bytes.fromhex(after)
        return [key.hex() for key in self.index.scroll(Filter.model_validate(where), limit, behind or None)]

    def _do_count(self, where: dict[str, Any]) -> int:
        return self.index.count(Filter.model_validate(where))

    def _do_facets(self, field: str, where: dict[str, Any], limit: int) -> dict[str, int]:
        return self.index.facets(field, Filter.model_validate(where), limit)


def main() -> None:
    folder, ledger, calls, control = sys.argv[1:]
    # What interrupts the parent ends it, and this one with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _Server(Path(folder), Path(ledger), Connection(int(calls)), Connection(int(control))).run()
    except (EOFError, OSError):
        # The parent is gone; what was not flushed is applied again.
        os._exit(1)
