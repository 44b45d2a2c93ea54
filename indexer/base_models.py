"""The base models a dock knows: their names, folders, and the shapes an adapter must agree with."""

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catalogue.learnware import RESERVED_NAMES, describe
from indexer.fingerprint import differences, vocabulary_digests, weights_digest
from specification.errors import InvalidInput, NotFound
from specification.files import read_file, write_atomically

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAX_CONFIG_BYTES = 2**20
MAX_SHOWN = 200
MAX_FILE_BYTES = 2**28
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$"


class KnownBase(BaseModel):
    """A base model. ``modules`` maps each linear module to [inputs, outputs]; ``folder`` never leaves the dock.

    ``tokenizer_sha256`` is by file, see ``vocabulary_digests``, ``weights_sha256`` see ``weights_digest``; empty
    where the folder held none, or was added by a program that did not look.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    folder: str
    config_sha256: str
    tokenizer_sha256: dict[str, str] = {}
    weights_sha256: str = ""
    modules: dict[str, tuple[int, int]]

    @property
    def fingerprint(self) -> dict[str, str]:
        """What tells it from a fine-tune of it, by part."""
        weights = {"weights": self.weights_sha256} if self.weights_sha256 else {}
        return {"config.json": self.config_sha256, **self.tokenizer_sha256, **weights}


class BaseModels:
    """The known base models, kept in one JSON file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def _known(self) -> dict[str, KnownBase]:
        """Read each time, so that a running gateway sees a base model that was added meanwhile."""
        return _read(self._file)

    def names(self) -> list[str]:
        """Returns the known names, in order."""
        return sorted(self._known)

    def get(self, name: str) -> KnownBase:
        """Returns a base model.

        Raises:
            NotFound: the dock does not know it; the message lists those it knows.
        """
        known = self._known
        if name not in known:
            names = ", ".join(sorted(known)) or "none yet"
            raise NotFound(
                f"base model {name[:MAX_SHOWN]!r} is not known to this dock (known: {names}); 'slmdock base add' "
                "it, or write a known name into adapter_config.json, or give it to 'slmdock submit --base'"
            )
        return known[name]

    def in_folder(self, stated: str) -> str | None:
        """Returns the name of the only base model whose folder on this machine ``stated`` is; None for a name."""
        known = self._known
        if stated in known:
            return None
        folder = str(Path(stated).resolve())
        there = [base.name for base in known.values() if base.folder == folder]
        return there[0] if len(there) == 1 else None

    def add(self, name: str, folder: Path) -> KnownBase:
        """Registers a base model from its folder (config.json), of whose weights little is read.

        Raises:
            InvalidInput: no readable configuration, tokenizer or weights, a bad name, or another model's.
        """
        if name.lower() in RESERVED_NAMES or ".." in name:
            raise InvalidInput(f"base model name {name!r} is reserved or holds '..'; choose another")
        if re.fullmatch(NAME_PATTERN, name) is None:
            raise InvalidInput(
                f"base model name {name[:MAX_SHOWN]!r}: give up to 200 letters, digits and . _ / -, a letter or "
                "digit first; adapters may name its folder all the same"
            )
        try:
            base = KnownBase(
                name=name,
                folder=str(folder.resolve()),
                config_sha256=_config_digest(folder),
                tokenizer_sha256=vocabulary_digests(folder),
                weights_sha256=weights_digest(folder),
                modules=linear_modules(empty_model(folder), folder),
            )
        except ValidationError as error:
            raise InvalidInput(f"base model {name!r}: {describe(error)}") from None
        for old in self._known.values():
            _require_same(old, base)
        known = self._known | {name: base}
        document = [known[each].model_dump() for each in sorted(known)]
        write_atomically(self._file, json.dumps(document, indent=1).encode())
        return base


def _require_same(old: KnownBase, new: KnownBase) -> None:
    """Raises InvalidInput where a name stands for another model already, or for one in other letters."""
    if old.name != new.name:
        if old.name.lower() == new.name.lower():
            raise InvalidInput(f"base model {new.name!r} differs from {old.name!r}, which is known, by case alone")
    elif another := differences(old.fingerprint, new.fingerprint):
        raise InvalidInput(
            f"base model {new.name!r} is already known with another fingerprint ({another}); a fine-tune of it is "
            "another base model: choose another name"
        )


def _read(file: Path) -> dict[str, KnownBase]:
    if not file.exists():
        return {}
    try:
        bases = [KnownBase.model_validate(item) for item in json.loads(read_file(file, MAX_FILE_BYTES))]
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{file} is damaged ({error}); delete it and add the base models again") from None
    return {base.name: base for base in bases}


def _config_digest(folder: Path) -> str:
    return hashlib.sha256(json.dumps(_read_config(folder), sort_keys=True).encode()).hexdigest()


def _read_config(folder: Path) -> object:
    file = folder / "config.json"
    if not folder.is_dir():
        raise InvalidInput(f"base model folder {folder}: no such folder; give one in the transformers format")
    if not file.is_file():
        raise InvalidInput(f"base model folder {folder}: no config.json; give a folder in the transformers format")
    try:
        config: object = json.loads(read_file(file, MAX_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"base model folder {folder}: config.json is not JSON ({error})") from None
    return config


def empty_model(folder: Path) -> "PreTrainedModel":
    """Returns a base model's architecture on the meta device, without weights.

    Raises:
        InvalidInput: no config.json, or one that transformers cannot read.
    """
    _read_config(folder)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
        model.get_output_embeddings()  # type: ignore[no-untyped-call]
    except Exception as error:
        # Whatever a strange configuration makes the library raise, it is the configuration's fault.
        raise InvalidInput(f"base model folder {folder}: transformers cannot read it ({error})") from None
    return model


def linear_modules(model: "PreTrainedModel", folder: Path) -> dict[str, tuple[int, int]]:
    """Returns [inputs, outputs] of each linear module by name, without the head.

    Raises:
        InvalidInput: there are none.
    """
    import torch

    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    modules = {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    if not modules:
        raise InvalidInput(f"base model folder {folder}: no linear modules that a LoRA adapter could change")
    return modules
