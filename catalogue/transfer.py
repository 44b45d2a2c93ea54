"""Whole catalogues: into a file, out of one, and from one engine to another, through the contract alone.

A snapshot is a ledger (``catalogue.ledger``) in one SQLite file, with the catalogue's settings beside the rows.
Adapters and models are not in it: they lie in the dock's store.
"""

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

from catalogue.contract import Catalogue, CatalogueSettings, Hit
from catalogue.learnware import Learnware
from catalogue.ledger import Ledger
from catalogue.row import Row
from catalogue.snapshot_file import SnapshotFile, seal
from specification import Progress, StoredSpecification, no_progress
from specification.errors import CatalogueError, DockError, Incomparable, InvalidInput
from specification.files import make_folder, sync_folder

BATCH = 256
BATCH_BYTES = 64 * 2**20
NAMED = 20
SAMPLE = 20
ANSWERS = 10
SEED = 0
TOLERANCE = 1e-3
"""Engines keep vectors of length 1 at most as float16 or float32, so distances differ by 2⁻¹⁰ at most."""


@dataclass
class Restored:
    """What a snapshot gave: ``refused`` rows were left out, the first of them with the reason in ``reasons``."""

    loaded: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Moved:
    """How source and target compare after a move: counts, and of ``asked`` tasks those answered differently."""

    source: int
    target: int
    asked: int
    differing: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether both hold as much and answer alike."""
        return self.source == self.target and not self.differing


def snapshot(catalogue: Catalogue, file: Path, progress: Progress = no_progress) -> int:
    """Writes a catalogue into a new file; returns how many learnwares are in it.

    What is written to the catalogue meanwhile may be in it or not. The file gets its name when it is complete;
    what a killed snapshot left behind, beside it, the next one replaces.

    Raises:
        InvalidInput: there is such a file already.
        CatalogueError: the file cannot be written, or the catalogue not read.
    """
    if file.exists():
        raise InvalidInput(f"{file} is there already; remove it or choose another name")
    part = file.with_name(f".{file.name}.part")
    with _writing(file, part):
        make_folder(file.absolute().parent)
        Ledger.create(part)
        with closing(Ledger(part)) as ledger:
            _copy(catalogue, ledger, progress)
        count = seal(part, catalogue.settings)
        os.replace(part, file)
        sync_folder(file.absolute().parent)
    return count


def restore(file: Path, catalogue: Catalogue, progress: Progress = no_progress) -> Restored:
    """Loads a snapshot into a catalogue that is empty, or holds a part of the snapshot since it was interrupted.

    Every row is checked as one that is submitted: half a millisecond each, eight minutes for a million. A row
    that fails is left out and named in the answer.

    Raises:
        InvalidInput: no snapshot, a truncated one, or the catalogue holds something else.
        Incomparable: the snapshot is of another encoder's catalogue.
        CatalogueFormat: it is of another format version.
        CatalogueError: the catalogue cannot be written, or has not as many learnwares afterwards.
    """
    with closing(SnapshotFile(file)) as opened:
        _require_encoder(f"snapshot {file}", opened.settings, catalogue)
        _require_part(catalogue, opened.records, f"snapshot {file}")
        report = Restored()
        _load(catalogue, _sound(opened, catalogue, report), lambda done: progress(done, opened.count))
    catalogue.settle(progress)
    found = catalogue.count()
    report.loaded = opened.count - report.refused
    if found != report.loaded:
        raise CatalogueError(f"{report.loaded} learnwares were restored, but the catalogue counts {found}")
    return report


def move(source: Catalogue, target: Catalogue, progress: Progress = no_progress) -> Moved:
    """Copies everything into another catalogue, then compares counts and a sample of exact answers.

    The target is empty, or holds a part of the source since a move was interrupted. The source stays as it is:
    remove it yourself when the answer says that they are the same. Nobody should write to it meanwhile.

    Raises:
        InvalidInput: the target holds something else, or searches by another feature map.
        Incomparable: it is of another encoder.
        CatalogueError: one of the two fails.
    """
    _require_encoder("the source", source.settings, target)
    if source.settings.feature_map != target.settings.feature_map:
        raise InvalidInput(
            f"the target searches by the feature map ({target.settings.feature_map}), the source by "
            f"({source.settings.feature_map}), so their answers cannot be compared; rebuild one like the other"
        )
    _require_part(target, source.get, "the source")
    total, sample = source.count(), _Sample()
    rows = (sample.seen(row) for batch in source.rows(BATCH) for row in batch)
    _load(target, rows, lambda done: progress(min(done, total), total))
    target.settle(progress)
    differing = tuple(row.learnware.name for row in sample.rows if not _same_answers(row, source, target))
    return Moved(source.count(), target.count(), len(sample.rows), differing)


def snapshot_settings(file: Path) -> CatalogueSettings:
    """Returns the settings of the catalogue that a snapshot was made of; raises as ``restore``."""
    with closing(SnapshotFile(file)) as opened:
        return opened.settings


class _Sample:
    """Rows drawn from a stream of unknown length, all with the same chance (reservoir sampling)."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._count = 0
        self._random = random.Random(SEED)

    def seen(self, row: Row) -> Row:
        self._count += 1
        place = self._random.randrange(self._count)
        if len(self.rows) < SAMPLE:
            self.rows.append(row)
        elif place < SAMPLE:
            self.rows[place] = row
        return row


def _copy(catalogue: Catalogue, ledger: Ledger, progress: Progress) -> None:
    done, total = 0, catalogue.count()
    for rows in catalogue.rows(BATCH):
        ledger.put(rows)
        done += len(rows)
        progress(min(done, total), total)


def _load(catalogue: Catalogue, rows: Iterator[Row], progress: Callable[[int], None]) -> None:
    done, size, batch = 0, 0, list[Row]()
    for row in rows:
        batch.append(row)
        size += len(row.file)
        if len(batch) == BATCH or size >= BATCH_BYTES:
            catalogue.load(batch)
            done += len(batch)
            size, batch = 0, []
            progress(done)
    if batch:
        catalogue.load(batch)
        progress(done + len(batch))


def _sound(opened: SnapshotFile, catalogue: Catalogue, report: Restored) -> Iterator[Row]:
    for stored in opened.rows():
        try:
            entry = stored.entry()
            catalogue.check(entry)
        except DockError as error:
            report.refused += 1
            if report.refused <= NAMED:
                report.reasons.append(f"{stored.label}: {error}")
            continue
        yield Row(entry.learnware, entry.specification.to_bytes(), entry.text_vector)


def _require_encoder(label: str, settings: CatalogueSettings, catalogue: Catalogue) -> None:
    here = catalogue.settings.encoder
    try:
        here.require(settings.encoder)
    except Incomparable:
        raise Incomparable(
            f"{label} is of a catalogue of the encoder {settings.encoder}, the target is one of {here}; "
            "vectors of different encoders cannot be compared, make the specifications anew"
        ) from None


def _require_part(catalogue: Catalogue, get: Callable[[list[str]], list[Learnware]], label: str) -> None:
    """Refuses a target in which something would be lost or replaced."""
    for page in catalogue.pages(size=BATCH):
        wanted = {item.id: item for item in get([item.id for item in page])}
        for item in page:
            if wanted.get(item.id) != item:
                raise InvalidInput(
                    f"the target is not empty: it holds {item.name} ({item.id[:12]}), which {label} does not hold "
                    "in that form; choose an empty target"
                )


def _same_answers(row: Row, source: Catalogue, target: Catalogue) -> bool:
    task = StoredSpecification(row.file).reduced_set
    answers = [each.nearest_task(task, ANSWERS, exact=True) for each in (source, target)]
    return all(_within(*pair) for pair in permutations(answers))


def _within(first: list[Hit], second: list[Hit]) -> bool:
    """Whether the first answer's learnwares are in the second, or as far away as its last one."""
    if len(first) != len(second):
        return False
    scores = {hit.id: hit.score for hit in second}
    last = max(scores.values(), default=0.0)
    return all(
        abs(hit.score - scores[hit.id]) <= TOLERANCE if hit.id in scores else hit.score >= last - TOLERANCE
        for hit in first
    )


@contextmanager
def _writing(file: Path, part: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CatalogueError(f"snapshot {file} cannot be written: {reason}") from None
    finally:
        for suffix in ("", "-wal", "-shm"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)
