"""A snapshot's file: the ledger's tables and one more, which is written last and says what the file is.

Whoever reads one trusts nothing in it: neither the schema, nor sizes, nor a row.
"""

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from catalogue.contract import SCHEMA_VERSION, CatalogueSettings
from catalogue.learnware import Learnware, describe
from catalogue.ledger import SCHEMA
from catalogue.row import Entry
from specification import MAX_SPECIFICATION_BYTES, Specification
from specification.errors import CatalogueFormat, InvalidInput

TABLES = """
CREATE TABLE digest (number INTEGER PRIMARY KEY, sha256 BLOB NOT NULL);
CREATE TABLE snapshot (version INTEGER NOT NULL, settings TEXT NOT NULL, learnwares INTEGER NOT NULL);
"""
COLUMNS = "key, rest, name, record, file, text_vector"
APPLICATION = 0x534C4D44
"""Marks the file as a snapshot, whatever its name (SQLite's application_id)."""
MAX_ROW_BYTES = MAX_SPECIFICATION_BYTES + 2**22
MAX_SETTINGS_BYTES = 2**16
SCHEMA_QUERY = "SELECT type, name, coalesce(sql, '') FROM sqlite_master"


def seal(file: Path, settings: CatalogueSettings) -> int:
    """Makes a snapshot of a ledger that nobody has open, durably; returns how many rows it has."""
    with closing(sqlite3.connect(file)) as connection, connection:
        # Without a write-ahead log the snapshot is one file.
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.executescript(TABLES)
        connection.create_function("digest_of", -1, _digest, deterministic=True)
        connection.execute(f"INSERT INTO digest SELECT number, digest_of({COLUMNS}) FROM learnware")
        ((count,),) = connection.execute("SELECT count(*) FROM learnware")
        row = (SCHEMA_VERSION, settings.model_dump_json(), count)
        connection.execute("INSERT INTO snapshot VALUES (?, ?, ?)", row)
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    return int(count)


@dataclass(frozen=True)
class StoredRow:
    """A row as it stands in the file; anything may be in its columns."""

    number: int
    columns: tuple[object, ...]
    digest: object

    @property
    def label(self) -> str:
        """What to call it: its name, if it has one that can be read."""
        name = self.columns[2]
        return f"row {self.number} ({name[:96]})" if isinstance(name, str) else f"row {self.number}"

    def entry(self) -> Entry:
        """Returns the row, checked.

        Raises:
            InvalidInput: a column is damaged, or they contradict each other.
        """
        key, rest, name, record, file, vector = self.columns
        if not (isinstance(record, str) and isinstance(file, bytes) and isinstance(vector, bytes | None)):
            raise InvalidInput("a column of another type than this program writes")
        if self.digest != _digest(*self.columns):
            raise InvalidInput("its content has another digest than when it was written: altered or damaged")
        try:
            learnware = Learnware.model_validate_json(record)
        except ValidationError as error:
            raise InvalidInput(f"its record is damaged: {describe(error)}") from None
        id = bytes.fromhex(learnware.id)
        if (key, rest, name) != (id[:16], id[16:], learnware.name):
            raise InvalidInput(f"it is filed under another id or name than its record's, {learnware.name}")
        if vector is not None and len(vector) % 2:
            raise InvalidInput(f"its text vector has {len(vector)} bytes, which are no float16 numbers")
        text_vector = None if vector is None else np.frombuffer(vector, dtype=np.float16).astype(np.float32)
        return Entry(learnware, Specification.from_bytes(file), text_vector)


class SnapshotFile:
    """An opened snapshot: ``settings`` of its catalogue, and ``count`` rows."""

    def __init__(self, file: Path) -> None:
        """Opens a snapshot for reading.

        Raises:
            InvalidInput: no such file, no snapshot, or a truncated one.
            CatalogueFormat: it is of another format version.
        """
        self.file = file
        if not file.is_file():
            raise InvalidInput(f"{file}: {'not a regular file' if file.exists() else 'no such file'}")
        with self._reading():
            self._connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            with self._reading():
                self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)
                self._connection.execute("PRAGMA trusted_schema=OFF")
                self._connection.text_factory = _text
                self.settings, self.count = self._read_head()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def rows(self) -> Iterator[StoredRow]:
        """Yields all rows in the order they were written; raises InvalidInput where the file is damaged."""
        with self._reading():
            query = f"SELECT number, sha256, {COLUMNS} FROM learnware LEFT JOIN digest USING (number)"
            for number, digest, *columns in self._connection.execute(f"{query} ORDER BY number"):
                yield StoredRow(number, tuple(columns), digest)

    def records(self, ids: Sequence[str]) -> list[Learnware]:
        """Returns the records of those ids that are there and can be read."""
        found = []
        with self._reading():
            for id in ids:
                key = (bytes.fromhex(id[:32]),)
                for (text,) in self._connection.execute("SELECT record FROM learnware WHERE key = ?", key):
                    try:
                        found.append(Learnware.model_validate_json(text))
                    except ValidationError:
                        continue
        return found

    def _read_head(self) -> tuple[CatalogueSettings, int]:
        application, pages, page_size = map(self._pragma, ("application_id", "page_count", "page_size"))
        if application != APPLICATION:
            raise InvalidInput(f"{self.file} is no snapshot; make one with 'slmdock catalogue snapshot'")
        if (size := self.file.stat().st_size) != pages * page_size:
            raise InvalidInput(
                f"snapshot {self.file} is truncated: {size} of {pages * page_size} bytes; make it anew"
            )
        # A view or another index in a table's place could make any query endless.
        if sorted(self._connection.execute(SCHEMA_QUERY)) != expected_schema():
            raise CatalogueFormat(f"snapshot {self.file} has other tables than this program makes")
        heads = self._connection.execute("SELECT version, settings, learnwares FROM snapshot LIMIT 2").fetchall()
        if len(heads) != 1:
            raise InvalidInput(f"snapshot {self.file}: its description is missing")
        version, settings, count = heads[0]
        if version != SCHEMA_VERSION:
            raise CatalogueFormat(
                f"snapshot {self.file} has format version {version}, this program reads {SCHEMA_VERSION}; "
                "restore it with the program that made it"
            )
        ((found,),) = self._connection.execute("SELECT count(*) FROM learnware")
        if found != count:
            raise InvalidInput(f"snapshot {self.file} says {count} learnwares but holds {found}; it was altered")
        return self._checked(settings), found

    def _pragma(self, name: str) -> int:
        ((value,),) = self._connection.execute(f"PRAGMA {name}")
        return int(value)

    def _checked(self, settings: object) -> CatalogueSettings:
        if not isinstance(settings, str) or len(settings) > MAX_SETTINGS_BYTES:
            raise InvalidInput(f"snapshot {self.file}: its settings are no text of at most {MAX_SETTINGS_BYTES}")
        try:
            found = CatalogueSettings.model_validate_json(settings)
        except ValidationError as error:
            raise InvalidInput(f"snapshot {self.file}: its settings: {describe(error)}") from None
        if found.schema_version != SCHEMA_VERSION:
            raise CatalogueFormat(f"snapshot {self.file} is of catalogue version {found.schema_version}")
        return found.planned(found.plan)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InvalidInput(
                f"snapshot {self.file} is truncated or damaged, or no snapshot ({error}); take it again"
            ) from None


def _text(data: bytes) -> str | bytes:
    """One damaged letter must not make all rows unreadable."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _digest(*columns: object) -> bytes:
    total = hashlib.sha256()
    for column in columns:
        data = column.encode() if isinstance(column, str) else column if isinstance(column, bytes) else b""
        total.update(f"{type(column).__name__} {len(data)} ".encode())
        total.update(data)
    return total.digest()


def expected_schema() -> list[tuple[str, str, str]]:
    """Returns what SQLite says of a snapshot's tables, in order."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA + TABLES)
        return sorted(connection.execute(SCHEMA_QUERY))
