"""Bulk ingest of ready learnwares: specification and record are made already, and are checked and taken in.

Processes check rows while this one writes: reading a file's JSON, its digest and its numbers takes longer than
SQLite. Batches are written in the manifest's order, and what was written survives a crash. An interrupted ingest
is resumed by running it again: rows that are in unchanged are passed over without a check. Of rows with one id the
last counts, as if they were submitted one after another.
"""

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from catalogue import Card, Catalogue, Learnware, description_of, is_id
from catalogue.labels import MAX_NUMBER
from catalogue.learnware import describe, other_case
from catalogue.row import Row
from indexer.manifest import BATCH_ROWS, FIELDS, REQUIRED, Item, Manifest, ReadyRow, Refusal, open_manifest
from indexer.store import AdapterStore
from specification import EncoderIdentity, Progress, Specification, no_progress
from specification.errors import CatalogueError, InvalidInput, NotFound

MAX_PROCESSES = 4
KEPT_REASONS = 1000
DEFAULTS = {name: known.default for name, known in Card.model_fields.items()}

Said = dict[str, Any]
"""Fields of a record that its specification file says."""
OnRefusal = Callable[[str, int, str], None]
"""Called with the manifest's name, the row's number and the reason."""


@dataclass
class ReadyReport:
    """What became of the rows: how many are new, changed what was there, were in already, or are refused.

    ``reasons`` are the first KEPT_REASONS refusals, as labels and reasons.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: int = 0
    seconds: float = 0.0
    reasons: list[tuple[str, str]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Rows a second, all of them."""
        return (self.added + self.changed + self.unchanged + self.refused) / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class ReadyCheck:
    """Everything that a row must pass: files and adapters in whatever process, records where the catalogue is.

    ``encoder`` is the catalogue's, ``bases`` are names that no learnware may have. Adapters must lie in ``store``;
    without one a learnware may be an entry of the catalogue whose adapter is elsewhere.
    """

    encoder: EncoderIdentity
    bases: frozenset[str]
    store: AdapterStore | None

    def __call__(self, rows: Sequence[tuple[str, bytes]]) -> list[Said | str]:
        """Checks ids and files of rows; returns what each file says for the record, or why it is refused."""
        return [self._verdict(id, file) for id, file in rows]

    def _verdict(self, id: str, file: bytes) -> Said | str:
        try:
            specification = Specification.from_bytes(file)
            specification.require_encoder(self.encoder)
            if self.store is not None and id:
                self.store.path_of(id)
        except NotFound as error:
            return f"{error}; submit it first, or take entries alone (--without-artefacts)"
        except InvalidInput as error:
            return str(error)
        return {
            "sample_size": specification.sample_size,
            "specification_digest": specification.digest,
            "privacy": str(specification.privacy),
            "origin": specification.origin,
        }

    def record(self, fields: dict[str, Any], said: Said) -> Learnware:
        """Returns the record that a row's fields and its file make; a version that was not given is 1.

        Raises:
            InvalidInput: a field is missing, bad, or not the row's to say.
        """
        if not fields.keys() <= FIELDS:
            strange = min(fields.keys() - FIELDS)
            raise InvalidInput(f"field {strange[:80]!r} is not one of {', '.join(sorted(FIELDS))}")
        try:
            record = Learnware.model_validate({"version": 1, "created": int(time.time())} | fields | said)
        except ValidationError as error:
            raise InvalidInput(f"learnware record: {describe(error)}") from None
        if record.name.lower() in map(str.lower, self.bases):
            raise InvalidInput(f"learnware record: field 'name': {record.name!r} is the name of a base model")
        return record


class _Pending(NamedTuple):
    """A batch that is being checked: what of it needs a check, what is refused already, and where it ends."""

    rows: list[ReadyRow]
    refused: list[Refusal]
    verdicts: Future[list[Said | str]]
    end: int


class ReadyIngest:
    """Takes manifests of ready learnwares into a catalogue, which has to settle afterwards."""

    def __init__(self, catalogue: Catalogue, check: ReadyCheck, on_refusal: OnRefusal | None = None) -> None:
        self.catalogue = catalogue
        self.check = check
        self.on_refusal = on_refusal

    def run(self, source: Path, progress: Progress = no_progress) -> ReadyReport:
        """Takes in the rows of a manifest, see ``manifest``. Rows that are refused are reported, not raised.

        A known learnware keeps its quality, status and date, and its version unless its name changes. Base model,
        rank and size are taken as the row says.

        Raises:
            InvalidInput: the manifest cannot be read.
            CatalogueError: the catalogue fails, or a process was killed; what is in stays in.
        """
        manifest, report, started = open_manifest(source), ReadyReport(), time.perf_counter()
        processes = min(MAX_PROCESSES, len(os.sched_getaffinity(0))) if manifest.total > BATCH_ROWS else 0
        waiting: deque[_Pending] = deque()
        with _executor(processes) as executor:
            for batch in manifest.batches:
                waiting.append(self._send(batch, executor, report))
                if len(waiting) > 2 * processes:
                    self._take(waiting.popleft(), manifest, report, progress)
            while waiting:
                self._take(waiting.popleft(), manifest, report, progress)
        progress(manifest.total, manifest.total)
        report.seconds = time.perf_counter() - started
        return report

    def _send(self, batch: Sequence[Item], executor: Executor, report: ReadyReport) -> _Pending:
        """Lets a batch be checked, but for the rows that are in already."""
        rows = [item for item in batch if isinstance(item, ReadyRow)]
        ids = [_id_of(row) for row in rows]
        known = {row.learnware.id: row for row in self.catalogue.fetch([id for id in ids if id])}
        changed = [
            (row, id) for row, id in zip(rows, ids, strict=True) if id not in known or not _is_in(row, known[id])
        ]
        report.unchanged += len(rows) - len(changed)
        verdicts: Future[list[Said | str]] = Future()
        if changed:
            with _deaf_children():
                verdicts = executor.submit(self.check, [(id, row.file) for row, id in changed])
        else:
            verdicts.set_result([])
        refused = [item for item in batch if isinstance(item, Refusal)]
        return _Pending([row for row, _ in changed], refused, verdicts, batch[-1].number)

    def _take(self, pending: _Pending, manifest: Manifest, report: ReadyReport, progress: Progress) -> None:
        """Writes what passed of a batch, and reports the rest."""
        refused, passed = list(pending.refused), []
        for row, said in zip(pending.rows, pending.verdicts.result(), strict=True):
            try:
                if isinstance(said, str):
                    raise InvalidInput(said)
                passed.append((row, self.check.record(row.fields, said)))
            except InvalidInput as error:
                refused.append(Refusal(row.number, str(error)))
        passed = self._spelt(passed, refused)
        self._write(passed, report)
        for number, reason in sorted(refused):
            report.refused += 1
            if len(report.reasons) < KEPT_REASONS:
                report.reasons.append((manifest.label(number), reason))
            if self.on_refusal is not None:
                self.on_refusal(manifest.name, number, reason)
        progress(pending.end, manifest.total)

    def _spelt(
        self, passed: Sequence[tuple[ReadyRow, Learnware]], refused: list[Refusal]
    ) -> list[tuple[ReadyRow, Learnware]]:
        """Returns the rows whose names differ from known ones, and from each other, in more than case."""
        known, kept = self.catalogue.spellings([made.name for _, made in passed]), []
        for read, made in passed:
            there = known.setdefault(made.name.lower(), {made.name})
            if made.name in there:
                kept.append((read, made))
            else:
                refused.append(Refusal(read.number, f"learnware record: {other_case(made.name, min(there))}"))
        return kept

    def _write(self, passed: Sequence[tuple[ReadyRow, Learnware]], report: ReadyReport) -> None:
        """Completes records by what the catalogue knows, now that the batches before are in it, and loads them."""
        known = {row.learnware.id: row for row in self.catalogue.fetch([made.id for _, made in passed])}
        highest = self.catalogue.versions(sorted({made.name for _, made in passed}))
        rows: dict[str, Row] = {}
        for read, made in passed:
            old = known.get(made.id)
            version = made.version
            if "version" not in read.fields:
                same_name = old is not None and old.learnware.name == made.name
                next_one = min(highest.get(made.name, 0) + 1, MAX_NUMBER)
                version = old.learnware.version if old is not None and same_name else next_one
            highest[made.name] = max(version, highest.get(made.name, 0))
            row = _completed(made, version, read.file, old)
            if old is None:
                report.added += 1
            elif old.learnware == row.learnware and old.file == row.file:
                report.unchanged += 1
                continue
            else:
                report.changed += 1
            rows[made.id] = known[made.id] = row
        if rows:
            self.catalogue.load(list(rows.values()))


def _id_of(row: ReadyRow) -> str:
    """Returns the id that a row says, or nothing where it is none."""
    id = row.fields.get("id")
    return id if isinstance(id, str) and is_id(id) else ""


def _is_in(row: ReadyRow, old: Row) -> bool:
    """Tells whether a row would change nothing: the same file, and fields that say what the record says."""
    if old.file != row.file or not REQUIRED <= row.fields.keys() <= FIELDS:
        return False
    said = DEFAULTS | {"version": old.learnware.version} | row.fields
    return all(
        getattr(old.learnware, name) == (tuple(value) if isinstance(value, list) else value)
        for name, value in said.items()
    )


def _completed(made: Learnware, version: int, file: bytes, old: Row | None) -> Row:
    """Returns a row with its version, that keeps what was learnt of the old one."""
    if old is None:
        return Row(made if version == made.version else made.model_copy(update={"version": version}), file)
    kept = {name: getattr(old.learnware, name) for name in ("created", "near_duplicates", "quality", "status")}
    same_text = description_of(made) == description_of(old.learnware)
    vector = old.text_vector if same_text else None
    return Row(made.model_copy(update={**kept, "version": version}), file, vector)


@contextmanager
def _executor(processes: int) -> Iterator[Executor]:
    """Gives what checks rows: processes, which are started as needed, or a thread where they are not worth it."""
    spawning = multiprocessing.get_context("spawn")
    executor: Executor = (
        ProcessPoolExecutor(processes, mp_context=spawning, initializer=_prepare_process)
        if processes
        else ThreadPoolExecutor(1)
    )
    try:
        yield executor
    except BrokenProcessPool:
        raise CatalogueError(
            "a process that checks specifications was killed, perhaps for want of memory; "
            "what is in stays in: run the same command again to go on"
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Lets processes that are started here never hear Ctrl-C, which is their parent's to answer."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_process() -> None:
    """Ends this process when the one that started it is gone, however that ended: its queue would wait forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    # What was imported stays, and need not be looked through again and again.
    gc.freeze()
