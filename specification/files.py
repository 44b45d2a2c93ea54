"""Files: writing so that a crash leaves the old file or the new one; reading with a limit and clear errors."""

import os
import tempfile
from pathlib import Path

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
