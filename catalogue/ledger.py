"""The embedded catalogue's ledger: every learnware's record and specification file, in one SQLite file.

It is what the catalogue knows; the engine's index is made from it and can be made again. Each write of a row gets
the next number, so an index that says up to which number it was made can be brought up to date.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from catalogue.learnware import Learnware
from catalogue.row import Row
from catalogue.schema import read_json
from specification.errors import CatalogueError

CHUNK = 2**22
VARIABLES = 500
SCHEMA = """
CREATE TABLE learnware (
    number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, rest BLOB NOT NULL, name TEXT NOT NULL,
    record TEXT NOT NULL, file BLOB NOT NULL, text_vector BLOB
);
CREATE INDEX names ON learnware (name);
CREATE TABLE removed (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE);
CREATE TABLE counter (last INTEGER NOT NULL);
INSERT INTO counter VALUES (0);
"""


Key = bytes
"""The first 16 bytes of a learnware's id, which also number its point."""


class Change(NamedTuple):
    """What happened to a learnware: ``row`` is None where it was removed."""

    number: int
    key: Key
    row: Row | None


def key_of(id: str) -> Key:
    """Returns the key of a learnware's id."""
    return bytes.fromhex(id[:32])


class Ledger:
    """Rows by key. Any thread may read, one at a time may write. Raises sqlite3's errors."""

    def __init__(self, file: Path) -> None:
        """Opens a ledger that is there; ``create`` makes one."""
        self._file = file
        self._uri = f"{file.absolute().as_uri()}?mode=rw"
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._folded = False
        self._writing = threading.Lock()
        self._ask("SELECT last FROM counter")

    @classmethod
    def create(cls, file: Path) -> None:
        """Makes an empty ledger in place of whatever was there."""
        for suffix in ("", "-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        connection = sqlite3.connect(file)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(SCHEMA)
        finally:
            connection.close()

    def close(self) -> None:
        """Closes all connections, those in use when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def read_ahead(self) -> None:
        """Reads the file once, so that the system keeps it in memory, if half of that would hold it."""
        if self._file.stat().st_size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2:
            return
        with self._file.open("rb", buffering=0) as stream:
            while stream.read(CHUNK):
                pass

    @property
    def last(self) -> int:
        """The number of the last change."""
        ((number,),) = self._ask("SELECT last FROM counter")
        return int(number)

    def put(self, rows: Sequence[Row]) -> int:
        """Writes rows in place of those with the same ids, all or none; returns the last one's number.

        When it returns they survive a crash.
        """
        with self._transaction(len(rows)) as (write, number):
            keys = ((key_of(row.learnware.id),) for row in rows)
            write.executemany("DELETE FROM removed WHERE key = ?", keys)
            write.executemany(
                "INSERT OR REPLACE INTO learnware VALUES (?, ?, ?, ?, ?, ?, ?)",
                (_values(number + place, row) for place, row in enumerate(rows, 1)),
            )
        return number + len(rows)

    def remove(self, keys: Sequence[Key]) -> int:
        """Removes the rows of keys that are there; returns the number of the last change."""
        with self._transaction(len(keys)) as (write, number):
            for place, key in enumerate(keys, 1):
                write.execute("DELETE FROM learnware WHERE key = ?", (key,))
                write.execute("INSERT OR REPLACE INTO removed VALUES (?, ?)", (number + place, key))
        return number + len(keys)

    def forget(self, number: int) -> None:
        """Forgets removals up to a change that the index in use has, so that they do not pile up."""
        with self._writing, self._connection() as write, write:
            write.execute("DELETE FROM removed WHERE number <= ?", (number,))

    def rows(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """Returns the rows of those keys that are there."""
        return {key: _row(*values) for key, *values in self._select("record, file, text_vector", "key", keys)}

    def records(self, keys: Sequence[Key]) -> dict[Key, Learnware]:
        """As ``rows``, without reading the files."""
        return {key: read_json(text) for key, text in self._select("record", "key", keys)}

    def ids(self, keys: Sequence[Key]) -> dict[Key, str]:
        """Returns the ids that belong to keys."""
        return {key: (key + rest).hex() for key, rest in self._select("rest", "key", keys)}

    def named(self, names: Sequence[str]) -> list[Learnware]:
        """Returns the records of these names, all versions."""
        return [read_json(text) for _, text in self._select("record", "name", names)]

    def spellings(self, names: Sequence[str]) -> set[str]:
        """Returns the names of rows that differ from one of these in the case of ASCII letters at most."""
        if not self._folded:
            # Made here and not with the tables, which are a snapshot's too, and those of older ledgers.
            with self._writing, self._connection() as write:
                write.execute("CREATE INDEX IF NOT EXISTS spellings ON learnware (name COLLATE NOCASE)")
            self._folded = True
        return {name for _, name in self._select("name", "name COLLATE NOCASE", names)}

    def changes(self, after: int, limit: int) -> list[Change]:
        """Returns up to ``limit`` changes with numbers over ``after``, in order."""
        behind = "WHERE number > ? ORDER BY number LIMIT ?"
        columns = "number, key, record, file, text_vector"
        written = self._ask(f"SELECT {columns} FROM learnware {behind}", (after, limit))
        gone = self._ask(f"SELECT number, key FROM removed {behind}", (after, limit))
        changes = [Change(number, key, _row(*values)) for number, key, *values in written]
        changes += [Change(number, key, None) for number, key in gone]
        return sorted(changes, key=lambda change: change.number)[:limit]

    def _select(self, columns: str, by: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(values), VARIABLES):
            part = values[start : start + VARIABLES]
            marks = ",".join("?" * len(part))
            query = f"SELECT {by}, {columns} FROM learnware WHERE {by} IN ({marks})"
            yield from self._ask(query, part)

    def _ask(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._connection() as connection:
            return connection.execute(query, values).fetchall()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lends a connection that nobody else uses, so that nothing half-written is read."""
        if self._closed:
            raise CatalogueError("the catalogue is closed")
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._opened()
        try:
            yield connection
        finally:
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._uri, uri=True, check_same_thread=False, timeout=60)
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    @contextmanager
    def _transaction(self, numbers: int) -> Iterator[tuple[sqlite3.Connection, int]]:
        """Gives a connection in a transaction, and the last number before the ``numbers`` that are taken."""
        with self._writing, self._connection() as write, write:
            write.execute("BEGIN IMMEDIATE")
            (number,) = write.execute("SELECT last FROM counter").fetchone()
            write.execute("UPDATE counter SET last = last + ?", (numbers,))
            yield write, number


def _values(number: int, row: Row) -> tuple[object, ...]:
    learnware = row.learnware
    vector = None if row.text_vector is None else row.text_vector.astype(np.float16).tobytes()
    id = bytes.fromhex(learnware.id)
    return number, id[:16], id[16:], learnware.name, learnware.model_dump_json(), row.file, vector


def _row(record: str, file: bytes, vector: bytes | None) -> Row:
    text_vector = None if vector is None else np.frombuffer(vector, dtype=np.float16).astype(np.float32)
    return Row(read_json(record), file, text_vector)
