"""Learnwares out of a dock into folders that ``ingest`` of another dock takes in again: the same ids and cards."""

import filecmp
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from catalogue import PUBLISHED, Card, Catalogue, Learnware, Row
from catalogue.contract import BATCH
from indexer.base_models import BaseModels
from indexer.bulk import CARD_FILE, RECORD_FILE, SPECIFICATION_FILE
from indexer.origin import FINGERPRINT_FIELD
from indexer.store import AdapterStore
from specification import Progress, no_progress
from specification.errors import InvalidInput
from specification.files import make_folder, sync_folder, write_atomically


@dataclass
class ExportReport:
    """What became of each learnware: folders written, folders that were there already, refusals with reasons."""

    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


def export(
    catalogue: Catalogue,
    store: AdapterStore,
    target: Path,
    chosen: Sequence[Learnware] | None = None,
    progress: Progress = no_progress,
    bases: BaseModels | None = None,
) -> ExportReport:
    """Writes one folder a learnware below ``target``, each whole or not at all; None chooses all published ones.

    A folder holds the artefact's files, the specification, the card, and the whole record, of which ``ingest``
    heeds the version, and the fingerprint of the base model if it is among ``bases``. One that is there with the
    same artefact, specification and card is passed over, so that an interrupted export goes on. Errors of single
    learnwares are reported, not raised.

    Raises:
        InvalidInput: ``target`` cannot be made.
    """
    try:
        make_folder(target)
    except OSError as error:
        raise InvalidInput(f"{target}: cannot be made ({error.strerror}); choose another folder") from None
    learnwares = catalogue.everything(PUBLISHED) if chosen is None else iter(chosen)
    total = catalogue.count(PUBLISHED) if chosen is None else len(chosen)
    report = ExportReport()
    for done, row in enumerate(_rows(catalogue, learnwares)):
        progress(done, total)
        name = _folder_name(row.learnware)
        try:
            written = _write(row, store, target / name, _record(row.learnware, bases))
            (report.written if written else report.unchanged).append(name)
        except (InvalidInput, OSError) as error:
            report.refused.append((name, str(error)))
    progress(total, total)
    return report


def _rows(catalogue: Catalogue, learnwares: Iterator[Learnware]) -> Iterator[Row]:
    while batch := [each.id for each in islice(learnwares, BATCH)]:
        yield from catalogue.fetch(batch)


def _folder_name(learnware: Learnware) -> str:
    # Folders with '..' in their names are not taken in again.
    return learnware.engine_name.replace("..", "._")


def _record(learnware: Learnware, bases: BaseModels | None) -> bytes:
    record = learnware.model_dump(mode="json")
    if bases is not None and learnware.base_model in bases.names():
        record[FINGERPRINT_FIELD] = bases.get(learnware.base_model).fingerprint
    return json.dumps(record, indent=1).encode()


def _write(row: Row, store: AdapterStore, place: Path, record: bytes) -> bool:
    """Writes one learnware's folder; False if it was there already."""
    artefact = store.path_of(row.learnware.id)
    card = row.learnware.model_dump_json(indent=1, include=set(Card.model_fields))
    made = {SPECIFICATION_FILE: row.file, CARD_FILE: card.encode()}
    if place.exists():
        _require_same(place, artefact, made)
        return False
    hidden = place.with_name(f".{place.name}.part")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        hidden.mkdir()
        for file in artefact.iterdir():
            shutil.copyfile(file, hidden / file.name)
            _sync(hidden / file.name)
        made[RECORD_FILE] = record
        for name, data in made.items():
            write_atomically(hidden / name, data)
        hidden.rename(place)
        sync_folder(place.parent)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return True


def _require_same(place: Path, artefact: Path, made: dict[str, bytes]) -> None:
    """Raises InvalidInput where what is there differs from what would be written."""
    for name, data in made.items():
        if not (place / name).is_file() or (place / name).read_bytes() != data:
            raise InvalidInput(_differs(place / name))
    for file in artefact.iterdir():
        if not (place / file.name).is_file() or not filecmp.cmp(file, place / file.name, shallow=False):
            raise InvalidInput(_differs(place / file.name))


def _differs(file: Path) -> str:
    return f"{file}: there already, and different; move the folder away or export to another"


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
