"""What a finished demo folder says of itself, and what an unfinished one may keep."""

import hashlib
import json
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from slmdock.demo import scale as fixed
from slmdock.demo.scale import Scale
from slmdock.demo.texts import pretraining_examples, training_examples, user_examples
from slmdock.demo.texts.users import USER_TASKS
from specification.errors import InvalidInput
from specification.files import write_atomically

FORMAT = 1
MANIFEST = "manifest.json"
WORK = ".demo-work"
_FOLDERS = ("base", "adapters", "examples", "users", WORK)
_LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "safetensors")


class Manifest(BaseModel):
    """`manifest.json`: its existence means that the folder is complete."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    fingerprint: str
    base_model: str
    scale: dict[str, object]
    seed: int
    versions: dict[str, str]
    weights_sha256: dict[str, str]
    training_seconds: dict[str, float]  # of the sitting that finished the model

    @classmethod
    def of(cls, folder: Path, scale: Scale, seconds: dict[str, float]) -> "Manifest":
        """Describes the models that lie in `folder`."""
        return cls(
            format=FORMAT,
            fingerprint=fingerprint_of(scale),
            base_model=fixed.DEMO_BASE,
            scale=asdict(scale),
            seed=fixed.SEED,
            versions={library: version(library) for library in _LIBRARIES},
            weights_sha256=weights_of(folder),
            training_seconds=seconds,
        )

    def save(self, folder: Path) -> None:
        """Writes it whole or not at all."""
        write_atomically(folder / MANIFEST, self.model_dump_json(indent=2).encode())


def fingerprint_of(scale: Scale) -> str:
    """Hash of everything that decides the outcome: scale, settings, a sample of all texts."""
    texts = [pretraining_examples(50, fixed.SEED)]
    texts += [training_examples(task, 20, fixed.SEED) for task in scale.tasks]
    texts += [user_examples(task, 20, fixed.SEED) for task in USER_TASKS]
    sample = [asdict(example) for examples in texts for example in examples]
    content = json.dumps([FORMAT, fixed.SETTINGS, asdict(scale), sample], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def weights_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every finished weights file, by its path in the folder."""
    adapters = sorted(folder.glob("adapters/*/adapter_model.safetensors"))
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (folder / "base" / "model.safetensors", *adapters)
        if path.is_file()
    }


def is_complete(folder: Path, scale: Scale) -> bool:
    """Whether the folder holds a finished build of this configuration with unaltered weights."""
    manifest = _read(folder)
    return manifest.get("fingerprint") == fingerprint_of(scale) and manifest.get("weights_sha256") == weights_of(
        folder
    )


def prepare(folder: Path, scale: Scale) -> Path:
    """Makes the folder ready to build in and returns its work folder.

    What an interrupted build of the same configuration left is kept, anything else of an earlier build removed.

    Raises:
        InvalidInput: the folder holds files, but no demo build.
    """
    work, ours = folder / WORK, folder / WORK / "fingerprint"
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder}: a file; name a folder")
    if not ours.is_file() or ours.read_text() != fingerprint_of(scale):
        if folder.is_dir() and any(folder.iterdir()) and not (work.is_dir() or _read(folder)):
            raise InvalidInput(f"{folder}: not empty and no demo build; name a new or an empty folder")
        for name in _FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
        write_atomically(ours, fingerprint_of(scale).encode())
    (folder / MANIFEST).unlink(missing_ok=True)
    return work


def _read(folder: Path) -> dict[str, object]:
    """The folder's manifest, perhaps of another format version; empty if there is none or it is not of a demo."""
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) and found.get("base_model") == fixed.DEMO_BASE else {}
