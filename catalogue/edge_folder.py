"""The folder of an embedded catalogue: its lock, its state, and the room on its disk."""

import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import TextIO
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from catalogue.build import LEDGER
from catalogue.contract import SCHEMA_VERSION, CatalogueSettings
from catalogue.edge_index import EdgeIndex
from catalogue.learnware import describe
from catalogue.ledger import Ledger
from specification.errors import CatalogueError, CatalogueFormat, CatalogueLocked, NotFound
from specification.files import write_atomically

SETTINGS_FILE = "catalogue.json"
INDEX = "index-"
ENDING_SECONDS = 30.0
RESERVE = 2**28
"""Bytes of the disk that writes leave free."""


class State(BaseModel):
    """What ``catalogue.json`` holds: the settings, and the folder of the index that was made by them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: CatalogueSettings
    index: str


def write_state(folder: Path, state: State) -> None:
    """Writes which index is in use, at once."""
    write_atomically(folder / SETTINGS_FILE, state.model_dump_json(indent=2).encode())


def require_space(folder: Path, more: int = 0) -> None:
    """The engine writes into mapped files, and is killed by the system where a disk is full."""
    free, needed = shutil.disk_usage(folder).free, RESERVE + more
    if free < needed:
        raise CatalogueError(
            f"catalogue {folder}: {free >> 20} MiB are free on its disk and {needed >> 20} MiB needed; "
            "nothing was written, make room and try again"
        )


def size_of(folder: Path) -> int:
    """Bytes on disk; the engine's files have holes."""
    return 512 * sum(file.stat().st_blocks for file in folder.rglob("*") if file.is_file())


def take(lock: TextIO, folder: Path) -> None:
    """Takes the folder's lock. The engine has one too, but its failed second open damages the first."""
    deadline = time.monotonic() + ENDING_SECONDS
    while not _taken(lock):
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        if _lives(holder) or time.monotonic() > deadline:
            raise CatalogueLocked(
                f"catalogue {folder} is held by {holder}; stop it, or go through its HTTP API with --url"
            )
        # It was killed, and the process of its index is about to end.
        time.sleep(0.02)
    lock.truncate(0)
    lock.write(f"process {os.getpid()}")
    lock.flush()


def _taken(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lives(holder: str) -> bool:
    number = holder.removeprefix("process ")
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        pass
    return True


def prepare(folder: Path, settings: CatalogueSettings | None) -> State:
    """Reads the folder's state; makes ledger, index and state, the state last, where there is none."""
    file = folder / SETTINGS_FILE
    if file.exists():
        return _read_state(file, settings)
    if settings is None:
        raise NotFound(f"no catalogue in {folder} yet; fill it with 'slmdock submit' or 'slmdock ingest'")
    require_space(folder)
    state = State(settings=settings, index=f"{INDEX}{uuid4().hex[:8]}")
    Ledger.create(folder / LEDGER)
    EdgeIndex.create(folder / state.index, settings)
    write_state(folder, state)
    return state


def _read_state(file: Path, wanted: CatalogueSettings | None) -> State:
    try:
        document = json.loads(file.read_text())
        # Up to version 3 the settings were the whole file.
        version = document.get("settings", document).get("schema_version")
        if version != SCHEMA_VERSION:
            raise CatalogueFormat(
                f"catalogue {file.parent} has format version {version}, this program reads {SCHEMA_VERSION}; "
                "ingest the learnwares into a new folder"
            )
        found = State.model_validate(document)
    except ValidationError as error:
        raise CatalogueFormat(f"catalogue {file.parent}: {SETTINGS_FILE}: {describe(error)}") from None
    except (ValueError, AttributeError) as error:
        raise CatalogueFormat(f"catalogue {file.parent}: {SETTINGS_FILE} is damaged ({error})") from None
    if wanted is not None:
        wanted.encoder.require(found.settings.encoder)
    return found
