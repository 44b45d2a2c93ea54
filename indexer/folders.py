"""What is checked alike in every folder that a provider submits, be it an adapter or a whole model."""

import os
import stat
import unicodedata
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from specification.errors import InvalidAdapter, TooLarge
from specification.files import parse_json, read_file

MAX_FILES = 1000
MAX_HEADER_BYTES = 2**24
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
DTYPES = ("F32", "F16", "BF16")
KINDS = {
    stat.S_IFBLK: "a device", stat.S_IFCHR: "a device", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe",
    stat.S_IFLNK: "a link", stat.S_IFSOCK: "a socket",
}  # fmt: skip


def list_folder(folder: Path) -> set[str]:
    """Returns the names in a folder.

    Raises:
        InvalidAdapter: no such folder, a link in it, a name with dots that could lead out of it, or that a
            terminal would obey, or two that another system takes for one.
        TooLarge: more than MAX_FILES files.
    """
    try:
        if not folder.is_dir():
            raise InvalidAdapter(f"{folder}: no such folder; give a folder that save_pretrained wrote")
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in islice(found, MAX_FILES + 1))
    except OSError as error:
        raise InvalidAdapter(f"{folder}: cannot be read ({error.strerror})") from None
    if len(names) > MAX_FILES:
        raise TooLarge(f"{folder}: more than {MAX_FILES} files, which is the limit")
    for entry in [folder, *(folder / name for name in names)]:
        if not entry.name.isprintable():
            raise InvalidAdapter(
                f"{entry.parent}: {entry.name!r} is a name with control characters; rename the file"
            )
        if entry.is_symlink():
            raise InvalidAdapter(f"{entry}: a symbolic link; copy the file itself into the folder")
        if ".." in entry.name:
            raise InvalidAdapter(f"{entry}: a name with '..'; rename the file")
    _require_distinct(folder, names)
    return set(names)


def folded(path: str) -> str:
    """Returns what all spellings have in common that some file system takes for one name."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def _require_distinct(folder: Path, names: Sequence[str]) -> None:
    """Raises InvalidAdapter for names that differ only in case or Unicode form."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(name), name)
        if other != name:
            raise InvalidAdapter(
                f"{folder}: {other!r} and {name!r} differ only in case or Unicode form; remove one of them"
            )


def without_weights(folder: Path, names: set[str], wanted: str) -> InvalidAdapter:
    """Returns the error for a folder that lacks the weights file ``wanted``."""
    pickles = sorted(name for name in names if name.endswith(PICKLES))
    found = f"only {pickles[0]}, which can run code when loaded" if pickles else "no weights"
    return InvalidAdapter(f"{folder}: {found}; {wanted} is needed: save with safe_serialization=True")


def size_of(file: Path) -> int:
    """Returns the bytes of a regular file.

    Raises:
        InvalidAdapter: it is a folder, a pipe, a device or the like.
    """
    found = file.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise InvalidAdapter(f"{file}: {KINDS.get(stat.S_IFMT(found.st_mode), 'strange')}, not a regular file")
    return found.st_size


def check_header(file: Path) -> None:
    """Checks that a safetensors file's header, which is read as a whole, is not too long.

    Raises:
        InvalidAdapter: it is, or the file is of another kind and only called so.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise InvalidAdapter(
            f"{file}: not a readable safetensors file "
            f"(a header of {length} bytes, the limit is {MAX_HEADER_BYTES})"
        )


def unreadable(file: Path, error: Exception) -> InvalidAdapter:
    """Returns the error for what the safetensors library says of a file."""
    return InvalidAdapter(f"{file}: not a readable safetensors file ({str(error)[:200]})")


def read_object(file: Path, limit: int) -> dict[str, Any]:
    """Returns the JSON object in a file of at most ``limit`` bytes.

    Raises:
        InvalidAdapter: it holds none. InvalidInput, TooLarge: see ``read_file``.
    """
    try:
        fields = parse_json(read_file(file, limit))
    except ValueError as error:
        raise InvalidAdapter(f"{file}: not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise InvalidAdapter(f"{file}: a JSON {type(fields).__name__}, expected an object")
    return fields
