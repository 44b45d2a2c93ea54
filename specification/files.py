"""Files: writing so that a crash leaves the old file or the new one; reading with a limit and clear errors."""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specification.errors import InvalidInput, TooLarge


def read_file(path: Path, limit: int) -> bytes:
    """Returns the content of a regular file of at most ``limit`` bytes.

    Raises:
        InvalidInput: no such file, no regular file, or no permission. TooLarge: more bytes than ``limit``.
    """
    try:
        if not path.is_file():
            raise InvalidInput(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > limit:
        raise TooLarge(f"{path}: more than {limit} bytes, which is the limit")
    return data


def parse_json(data: bytes) -> Any:
    """Returns the JSON value in ``data``.

    Raises:
        ValueError: there is none, it is nested too deep, or an object in it has two fields of one name.
    """
    try:
        return json.loads(data, object_pairs_hook=_fields)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _fields(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of an object. Of two with one name each reader could take another."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in fields if names.count(name) > 1)
        raise ValueError(f"field {twice[:80]!r} stands twice in one object")
    return fields


def write_atomically(path: Path, data: bytes) -> None:
    """Writes beside ``path``, syncs, renames over it, and syncs the folder."""
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Makes a folder and its parents so that they survive a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames inside ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
