"""Folders of models in the transformers format: finding them, knowing them by content, refusing pickles."""

import contextlib
import hashlib
from pathlib import Path

from specification.errors import DockError

IDENTITY_FILES = (".safetensors", ".json", ".txt", ".model", ".jinja")
PICKLES = (".bin", ".pt", ".pkl")


def find_model(name: str, missing: str, error: type[DockError]) -> Path:
    """Returns the folder ``name``, or that of a hub id, fetched where a hub can be reached.

    Raises:
        error: neither a folder nor on the hub; its message begins with ``missing``.
    """
    with contextlib.suppress(OSError):
        if Path(name).is_dir():
            return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=[f"*{suffix}" for suffix in IDENTITY_FILES]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as reason:
        raise error(f"{missing}, and could not be fetched from the hub ({type(reason).__name__})") from None


def refuse_pickles(folder: Path, label: str, error: type[DockError]) -> None:
    """Raises ``error`` where a folder below holds weights as a pickle and none as safetensors."""
    for module in {path.parent for path in folder.rglob("*") if path.suffix in PICKLES}:
        if not any(module.glob("*.safetensors")):
            raise error(f"{label}: {module.name} holds a pickle and no safetensors file")


def digest_of(folder: Path) -> str:
    """SHA-256 over the names and contents of weights, tokenizer and every module's configuration."""
    total = hashlib.sha256()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.endswith(IDENTITY_FILES))
    for path in files:
        with path.open("rb") as content:
            inner = hashlib.file_digest(content, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {inner}\n".encode())
    return total.hexdigest()
