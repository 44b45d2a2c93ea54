"""What happened to each learnware: who changed it, when and why. One SQLite file beside the catalogue.

Whatever may change learnwares writes here, the gateway and the command line alike, each change after it was made.
The file holds names, ids and reasons, and no text of an example.
"""

import logging
import os
import pwd
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from catalogue import State, is_id
from catalogue.labels import UNPRINTABLE, Label, printable
from catalogue.learnware import NAME_PATTERN
from specification.errors import HistoryUnavailable, InvalidInput

HISTORY_FILE = "history.sqlite"
FORMAT = 1
WAIT_SECONDS = 10.0
MAX_WHY = 2000
KEPT_REFUSALS = 10_000
"""Refusals are kept up to this number, newest first: anyone who may submit can cause any number of them."""
VERSION_OR_HASH = r"[0-9a-f]{1,16}"
SCHEMA = (
    """CREATE TABLE change (
        number INTEGER PRIMARY KEY AUTOINCREMENT, learnware TEXT NOT NULL, name TEXT NOT NULL, version INTEGER,
        state TEXT NOT NULL, who TEXT NOT NULL, "when" REAL NOT NULL, why TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX learnwares ON change (learnware)",
    "CREATE INDEX names ON change (name)",
    "CREATE INDEX states ON change (state)",
    f"PRAGMA user_version = {FORMAT}",
)
COLUMNS = 'learnware, name, version, state, who, "when", why'
FORGET = """DELETE FROM change WHERE state = 'refused' AND number <= (
    SELECT number FROM change WHERE state = 'refused' ORDER BY number DESC LIMIT 1 OFFSET ?
)"""

Event = Literal[State, "updated", "refused", "deleted", "ingested"]
"""The states, and what happens besides; ``ingested`` is one manifest of many ready learnwares, by its own name."""
Why = Annotated[str, Field(max_length=MAX_WHY), AfterValidator(printable)]

log = logging.getLogger(__name__)


class Change(BaseModel):
    """One thing that happened to a learnware: the state it got, or what else became of it.

    ``learnware`` is its id, and empty where a refused one was not read so far; then it has no ``version`` either.
    ``who`` is the name of an API key or of a user of this machine, ``when`` in Unix seconds. ``number`` counts up
    in the order of writing.
    """

    model_config = ConfigDict(frozen=True)

    number: int = 0
    learnware: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    name: Label
    version: int | None = None
    state: Event
    who: Label
    when: Annotated[float, Field(allow_inf_nan=False)]
    why: Why = ""


class History:
    """The changes of one dock's learnwares. Any thread and any process may read and write."""

    def __init__(self, path: Path) -> None:
        """Opens nothing yet; the file is made by the first change."""
        self.path = path

    def add(self, changes: Sequence[Change]) -> None:
        """Writes changes, all or none; when it returns they survive a crash.

        Raises:
            HistoryUnavailable: the file is damaged or cannot be written.
        """
        rows = [tuple(change.model_dump(exclude={"number"}).values()) for change in changes]
        with self._opened("rwc") as connection:
            connection.execute("BEGIN IMMEDIATE")
            if not _format(connection):
                for statement in SCHEMA:
                    connection.execute(statement)
            connection.executemany(f"INSERT INTO change ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            if any(change.state == "refused" for change in changes):
                connection.execute(FORGET, (KEPT_REFUSALS,))
            connection.execute("COMMIT")

    def note(self, changes: Sequence[Change]) -> None:
        """As ``add``, of what was done already and is not undone: a failure is logged as an error, not raised."""
        try:
            self.add(changes)
        except HistoryUnavailable as error:
            words = ", ".join(f"{change.name} {change.state}" for change in changes)
            log.error("done, but not recorded in the history (%s): %s", words, error)

    def changes(self, reference: str = "", limit: int = 100, before: int | None = None) -> list[Change]:
        """Returns the last changes, newest first; ``before`` is the number of the last one on the page before.

        ``reference`` is a name, ``name@version``, an engine name or an id; without one all are meant.

        Raises:
            InvalidInput: it is none of them. HistoryUnavailable: the file is damaged or cannot be read.
        """
        condition, values = _condition(reference)
        query = (
            f"SELECT number, {COLUMNS} FROM change WHERE {condition} AND number < ? ORDER BY number DESC LIMIT ?"
        )
        rows = self._ask(query, (*values, 2**62 if before is None else before, limit))
        try:
            return [Change.model_validate(dict(zip(Change.model_fields, row, strict=True))) for row in rows]
        except ValidationError:
            raise self._damaged() from None

    def last_version(self, name: str) -> int:
        """Returns the highest version that a name ever had here, 0 if none; raises HistoryUnavailable."""
        found = self._ask("SELECT max(version) FROM change WHERE name = ?", (name,))
        return int(found[0][0] or 0) if found else 0

    def _ask(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """Returns the rows of a query, none where nothing was ever written."""
        if not self.path.exists():
            return []
        with self._opened("ro") as connection:
            return connection.execute(query, values).fetchall() if _format(connection) else []

    @contextmanager
    def _opened(self, mode: str) -> Iterator[sqlite3.Connection]:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=WAIT_SECONDS, isolation_level=None)) as connection:
                if _format(connection) > FORMAT:
                    raise HistoryUnavailable(f"{self.path}: written by a newer SLM Dock; use that one")
                yield connection
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self._damaged() from None
            raise HistoryUnavailable(f"{self.path}: cannot be read or written ({error})") from None

    def _damaged(self) -> HistoryUnavailable:
        return HistoryUnavailable(
            f"{self.path}: damaged; restore it from a copy, or move it away, and the next change begins a new one"
        )


def system_user() -> str:
    """Returns the name of the user that this process runs as."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


def require_reason(text: str) -> None:
    """Raises InvalidInput unless ``text`` can stand as a change's ``why``."""
    if len(text) > MAX_WHY or UNPRINTABLE.search(text):
        raise InvalidInput(f"why: {len(text)} characters; give up to {MAX_WHY}, and no control characters")


def as_reason(text: str) -> str:
    """Returns text from anywhere as it fits a change's ``why``: printable, and cut where it is too long."""
    clean = UNPRINTABLE.sub("?", text)
    return clean if len(clean) <= MAX_WHY else f"{clean[: MAX_WHY - 1]}…"


def _format(connection: sqlite3.Connection) -> int:
    """Returns the format of the file, 0 where nothing was written yet."""
    ((found,),) = connection.execute("PRAGMA user_version")
    return int(found)


def _condition(reference: str) -> tuple[str, tuple[str, ...]]:
    if not reference:
        return "1", ()
    if is_id(reference):
        return "learnware = ?", (reference,)
    name, mark, rest = reference.partition("@")
    if not re.fullmatch(NAME_PATTERN, name) or (mark and not re.fullmatch(VERSION_OR_HASH, rest)):
        raise InvalidInput(f"{reference[:200]!r} is no learnware's name, name@version or id")
    if not mark:
        return "name = ?", (name,)
    return "name = ? AND (CAST(version AS TEXT) = ? OR substr(learnware, 1, 16) = ?)", (name, rest, rest)
