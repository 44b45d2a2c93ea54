"""What is checked alike in every folder that a provider submits, be it an adapter or a whole model."""

import json
from pathlib import Path
from typing import Any

from specification.errors import InvalidAdapter, TooLarge
from specification.files import read_file

MAX_FILES = 1000
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
DTYPES = ("F32", "F16", "BF16")


def list_folder(folder: Path) -> set[str]:
    """Returns the names in a folder.

    Raises:
        InvalidAdapter: no such folder, a link in it, or a name with dots that could lead out of it.
        TooLarge: more than MAX_FILES files.
    """
    try:
        if not folder.is_dir():
            raise InvalidAdapter(f"{folder}: no such folder; give a folder that save_pretrained wrote")
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InvalidAdapter(f"{folder}: cannot be read ({error.strerror})") from None
    if len(entries) > MAX_FILES:
        raise TooLarge(f"{folder}: {len(entries)} files, the limit is {MAX_FILES}")
    for entry in [folder, *entries]:
        if entry.is_symlink():
            raise InvalidAdapter(f"{entry}: a symbolic link; copy the file itself into the folder")
        if ".." in entry.name:
            raise InvalidAdapter(f"{entry}: a name with '..'; rename the file")
    return {entry.name for entry in entries}


def without_weights(folder: Path, names: set[str], wanted: str) -> InvalidAdapter:
    """Returns the error for a folder that lacks the weights file ``wanted``."""
    pickles = sorted(name for name in names if name.endswith(PICKLES))
    found = f"only {pickles[0]}, which can run code when loaded" if pickles else "no weights"
    return InvalidAdapter(f"{folder}: {found}; {wanted} is needed: save with safe_serialization=True")


def read_object(file: Path, limit: int) -> dict[str, Any]:
    """Returns the JSON object in a file of at most ``limit`` bytes.

    Raises:
        InvalidAdapter: it holds none. InvalidInput, TooLarge: see ``read_file``.
    """
    try:
        fields = json.loads(read_file(file, limit))
    except (ValueError, RecursionError) as error:
        raise InvalidAdapter(f"{file}: not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise InvalidAdapter(f"{file}: a JSON {type(fields).__name__}, expected an object")
    return fields
