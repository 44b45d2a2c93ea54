"""What is to be verified by running, and what came of it: one SQLite file in the dock's folder.

A job holds the examples that its provider gave for it until it is done, and no longer. Any process may put jobs
in; one that was taken by a process that is gone is taken again.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from catalogue import Learnware
from serving.examination import Verdict
from specification import Example
from specification.errors import CatalogueError, InvalidInput, NotFound, TooLarge

QUEUE_FILE = "verification.sqlite"
FORMAT = 1
WAIT_SECONDS = 10.0
ABANDONED_SECONDS = 120.0
"""A job under way whose process has not been heard of for so long is taken again."""
MAX_WAITING = 10_000
KEPT = 10_000
SCHEMA = (
    """CREATE TABLE job (
        number INTEGER PRIMARY KEY AUTOINCREMENT, learnware TEXT NOT NULL, reference TEXT NOT NULL,
        who TEXT NOT NULL, chat INTEGER, publish INTEGER NOT NULL, added REAL NOT NULL,
        state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0,
        total INTEGER NOT NULL DEFAULT 0, started REAL, seen REAL, verdict TEXT, error TEXT NOT NULL DEFAULT '',
        examples TEXT
    ) STRICT""",
    "CREATE INDEX learnwares ON job (learnware)",
    "CREATE INDEX states ON job (state)",
    f"PRAGMA user_version = {FORMAT}",
)
COLUMNS = "number, learnware, reference, who, chat, publish, added, state, attempts, done, total, verdict, error"
EXAMPLES = TypeAdapter(list[Example])

JobState = Literal["waiting", "running", "passed", "failed", "error"]
"""``failed`` has a verdict against the learnware; at ``error`` nothing was found out, and ``error`` says why."""


class Job(BaseModel):
    """One learnware to verify. ``done`` of ``total`` steps are done; ``chat`` and ``publish`` are as asked for."""

    model_config = ConfigDict(frozen=True)

    number: int
    learnware: str
    reference: str
    who: str
    chat: bool | None = None
    publish: bool = False
    added: float
    state: JobState = "waiting"
    attempts: int = 0
    done: int = 0
    total: int = 0
    verdict: Verdict | None = None
    error: str = ""

    @property
    def over(self) -> bool:
        return self.state not in ("waiting", "running")


class VerificationQueue:
    """The jobs of one dock, for any thread and any process."""

    def __init__(self, path: Path) -> None:
        """Opens nothing yet; the file is made by the first job, for this user alone."""
        self.path = path

    def add(
        self, learnware: str, reference: str, examples: Sequence[Example], who: str,
        chat: bool | None = None, publish: bool = False,
    ) -> Job:  # fmt: skip
        """Puts a learnware in, by id; one that waits already is asked for anew, with these examples.

        Raises:
            TooLarge: more than MAX_WAITING wait.
        """
        text = EXAMPLES.dump_json(list(examples)).decode()
        with self._changing() as connection:
            connection.execute("DELETE FROM job WHERE learnware = ? AND state = 'waiting'", (learnware,))
            ((waiting,),) = connection.execute("SELECT count(*) FROM job WHERE state = 'waiting'")
            if waiting >= MAX_WAITING:
                raise TooLarge(f"{waiting} learnwares wait to be verified, the limit is {MAX_WAITING}; try later")
            found = connection.execute(
                "INSERT INTO job (learnware, reference, who, chat, publish, added, state, examples) "
                f"VALUES (?, ?, ?, ?, ?, ?, 'waiting', ?) RETURNING {COLUMNS}",
                (learnware, reference, who, chat, publish, time.time(), text),
            ).fetchone()
            # What is over is kept for whoever asks, newest first.
            connection.execute(
                "DELETE FROM job WHERE state NOT IN ('waiting', 'running') AND number <= ?", (found[0] - KEPT,)
            )
        return _job(found)

    def take(self) -> tuple[Job, list[Example]] | None:
        """Takes the job that waits longest, or was abandoned; None if there is none."""
        if not self.path.exists():
            return None
        now = time.time()
        with self._changing() as connection:
            found = connection.execute(
                "SELECT number, examples FROM job WHERE state = 'waiting' OR (state = 'running' AND seen < ?) "
                "ORDER BY number LIMIT 1",
                (now - ABANDONED_SECONDS,),
            ).fetchone()
            if found is None:
                return None
            taken = connection.execute(
                "UPDATE job SET state = 'running', attempts = attempts + 1, done = 0, total = 0, started = ?, "
                f"seen = ? WHERE number = ? RETURNING {COLUMNS}",
                (now, now, found[0]),
            ).fetchone()
        return _job(taken), EXAMPLES.validate_json(found[1])

    def reclaim(self) -> None:
        """Lets every job under way wait again; for whoever knows that nobody else is at one."""
        if self.path.exists():
            with self._changing() as connection:
                connection.execute("UPDATE job SET state = 'waiting' WHERE state = 'running'")

    def advance(self, job: Job, done: int, total: int) -> None:
        """Notes how far a job is, and that somebody is at it."""
        self._update("done = ?, total = ?, seen = ?", job, (done, total, time.time()))

    def give_back(self, job: Job, tried: bool) -> None:
        """Lets a job wait again; ``tried`` counts the attempt."""
        self._update("state = 'waiting', attempts = attempts - ?", job, (0 if tried else 1,))

    def finish(self, job: Job, verdict: Verdict | None, error: str = "") -> None:
        """Notes what came of a job, and forgets its examples."""
        state: JobState = "error" if verdict is None else "passed" if verdict.passed else "failed"
        said = None if verdict is None else verdict.model_dump_json()
        self._update("state = ?, verdict = ?, error = ?, examples = NULL", job, (state, said, error))

    def jobs(self, learnware: str = "", limit: int = 100) -> list[Job]:
        """Returns the last jobs, newest first: of one learnware by id, or of all."""
        if not self.path.exists():
            return []
        with self._opened() as connection:
            return [
                _job(row)
                for row in connection.execute(
                    f"SELECT {COLUMNS} FROM job WHERE ? IN ('', learnware) ORDER BY number DESC LIMIT ?",
                    (learnware, limit),
                )
            ]

    def started_since(self, moment: float) -> list[float]:
        """Returns when jobs were started since a moment, in Unix seconds, the first one first."""
        if not self.path.exists():
            return []
        with self._opened() as connection:
            rows = connection.execute("SELECT started FROM job WHERE started > ? ORDER BY started", (moment,))
            return [float(started) for (started,) in rows]

    def _update(self, what: str, job: Job, values: tuple[object, ...]) -> None:
        with self._changing() as connection:
            connection.execute(f"UPDATE job SET {what} WHERE number = ?", (*values, job.number))

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        if not self.path.exists():
            with self._errors():
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        with self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            if not _format(connection):
                for statement in SCHEMA:
                    connection.execute(statement)
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with (
            self._errors(),
            closing(sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)) as connection,
        ):
            if _format(connection) > FORMAT:
                raise CatalogueError(f"{self.path}: written by a newer SLM Dock; use that one")
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, OSError) as error:
            raise CatalogueError(
                f"{self.path}: cannot be read or written ({error}); moved away, the next one begins anew"
            ) from None


def require_verifiable(learnware: Learnware) -> None:
    """Raises InvalidInput for what has no base model to be measured against."""
    if learnware.whole:
        raise InvalidInput(
            f"{learnware.reference} is a whole model, and only adapters are verified: beside their base model"
        )


def required_job(queue: VerificationQueue, learnware: Learnware) -> Job:
    """Returns the last verification of a learnware; raises NotFound if there was none."""
    found = queue.jobs(learnware.id, 1)
    if not found:
        raise NotFound(f"nobody asked for {learnware.reference} to be verified; give --examples")
    return found[0]


def _format(connection: sqlite3.Connection) -> int:
    ((found,),) = connection.execute("PRAGMA user_version")
    return int(found)


def _job(row: Sequence[object]) -> Job:
    fields = dict(zip(COLUMNS.split(", "), row, strict=True))
    verdict = fields["verdict"]
    return Job.model_validate({**fields, "verdict": json.loads(verdict) if isinstance(verdict, str) else None})
