"""Taking a whole language model into the store, with every check at the door. Runs no model.

The files are copied first and checked in the store's own hidden folder, so that nobody can change between check
and copy what then becomes visible. Nothing is held in memory but a piece of one tensor.
"""

import hashlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalogue.learnware import short
from indexer.folders import (
    DTYPES,
    check_header,
    list_folder,
    read_object,
    size_of,
    unreadable,
    without_weights,
)
from indexer.store import CONFIG_FILE as ADAPTER_CONFIG_FILE
from indexer.store import AdapterStore
from specification.errors import DockError, InvalidAdapter, InvalidInput, TooLarge

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
TOKENIZER_FILES = frozenset({"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"})
SIDE_FILES = frozenset(
    {
        CONFIG_FILE, TOKENIZER_CONFIG_FILE, *TOKENIZER_FILES, "added_tokens.json", "chat_template.jinja",
        "chat_template.json", "generation_config.json", "merges.txt", "special_tokens_map.json",
    }
)  # fmt: skip
"""What is taken beside the weights. All else (model cards, pickles, code) stays behind."""
SHARD_NAME = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
OWN_KERNELS = "may name code of a hub, which is never run; remove the field"
REFUSED_FIELDS = {
    "attn_implementation": OWN_KERNELS,
    "_attn_implementation": OWN_KERNELS,
    "experts_implementation": OWN_KERNELS,
    "_experts_implementation": OWN_KERNELS,
    "auto_map": "asks for code of its own, which is never run",
    "quantization_config": "asks for quantised weights, which are not taken; submit the original ones",
    "compression_config": "asks for quantised weights, which are not taken; submit the original ones",
    "speculators_config": "names another model to load; submit that one",
    "transformers_weights": f"names another weights file; call it {WEIGHTS_FILE}",
}
MAX_CONFIG_BYTES = 2**20
MAX_SIDE_BYTES = 2**28
MAX_INDEX_BYTES = 2**25
MAX_MODEL_BYTES = 64 * 2**30
MAX_COUNT = 1000
COUNTED = re.compile(r"(layers?|experts|labels)$")
"""Fields that say how many parts a model has, each of which is made when it is built."""
MAX_MODULES = 200_000
PIECE_BYTES = 2**26


def is_whole_model(folder: Path) -> bool:
    """Tells whether a folder holds a model of its own and no adapter."""
    try:
        return (folder / CONFIG_FILE).is_file() and not (folder / ADAPTER_CONFIG_FILE).exists()
    except OSError:
        # Such as a name too long: whoever goes on to read the folder says so.
        return False


def is_weights_file(name: str) -> bool:
    """Tells whether save_pretrained writes weights, or a part of them, to a file of this name."""
    return name == WEIGHTS_FILE or SHARD_NAME.fullmatch(name) is not None


def take_in(folder: Path, store: AdapterStore) -> str:
    """Copies a whole model in the transformers layout into the store and returns its id.

    The id is the SHA-256 over the names and SHA-256 of the files that are taken. A model without a learnware that
    names it is invisible and harmless.

    Raises:
        InvalidAdapter: links, pickles only, code of its own, a missing file, an architecture that transformers
            does not know, tensors that are missing, strange, misshapen, NaN or Inf.
        TooLarge: a file or the whole exceeds its limit. InvalidInput: the store cannot be written.
    """
    names = _check_names(folder)
    with store.incoming() as copy:
        try:
            identity = hashlib.sha256(b"whole model")
            for name in sorted(names):
                identity.update(f"\n{name} {_copy(folder / name, copy / name)}".encode())
            _check(copy)
            id = identity.hexdigest()
            store.publish(copy, id)
        except OSError as error:
            raise InvalidInput(f"{folder}: cannot be copied to {store.root} ({error.strerror})") from None
        except DockError as error:
            raise type(error)(str(error).replace(str(copy), str(folder))) from None
    return id


def _check_names(folder: Path) -> set[str]:
    """Returns the files to take, after checking what can be seen without opening large ones."""
    names = list_folder(folder)
    weights = {name for name in names if is_weights_file(name)}
    if CONFIG_FILE not in names:
        raise InvalidAdapter(f"{folder}: no {CONFIG_FILE}; save the model with transformers' save_pretrained")
    if not weights:
        raise without_weights(folder, names, WEIGHTS_FILE)
    if not TOKENIZER_FILES & names:
        raise InvalidAdapter(f"{folder}: no tokenizer; save it there with its save_pretrained")
    taken = (names & SIDE_FILES) | weights | ({INDEX_FILE} & names)
    sizes = {}
    for name in sorted(taken):
        sizes[name] = size_of(folder / name)
        limit = MAX_MODEL_BYTES if name in weights else MAX_SIDE_BYTES
        if sizes[name] > limit:
            raise TooLarge(f"{folder / name}: {sizes[name]} bytes, the limit is {limit}")
    if sum(sizes.values()) > MAX_MODEL_BYTES:
        raise TooLarge(f"{folder}: {sum(sizes.values())} bytes in all, the limit is {MAX_MODEL_BYTES}")
    return taken


def _copy(source: Path, target: Path) -> str:
    """Copies a file, synced, and returns its SHA-256."""
    total = hashlib.sha256()
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as opened, target.open("xb") as written:
        left = os.fstat(handle).st_size
        while piece := opened.read(min(PIECE_BYTES, left + 1)):
            left -= len(piece)
            if left < 0:
                raise InvalidAdapter(f"{source}: grew while it was read; submit it again")
            total.update(piece)
            written.write(piece)
        written.flush()
        os.fsync(written.fileno())
    return total.hexdigest()


def _check(folder: Path) -> None:
    """Checks everything in a folder that nobody else writes to."""
    for name in (CONFIG_FILE, TOKENIZER_CONFIG_FILE):
        if (folder / name).is_file():
            _check_fields(read_object(folder / name, MAX_CONFIG_BYTES), folder / name)
    model = _build(folder)
    shards = _shards(folder)
    found: set[str] = set()
    for shard, promised in shards.items():
        found |= _check_shard(folder / shard, promised, model)
    _check_complete(folder, found, model)


def _check_fields(document: object, file: Path) -> None:
    """Refuses what would make a library run code, read other files or never end, wherever it stands."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            for name, each in value.items():
                _check_field(name, each, file)
            waiting.extend(value.values())


def _check_field(name: str, value: object, file: Path) -> None:
    if name in REFUSED_FIELDS and value:
        raise InvalidAdapter(f"{file}: field {name!r} {REFUSED_FIELDS[name]}")
    if name.endswith("_file") and isinstance(value, str):
        raise InvalidAdapter(f"{file}: field {name[:80]!r} names a file ({value[:80]!r}); remove the field")
    if COUNTED.search(name) and isinstance(value, (int, float)) and value > MAX_COUNT:
        raise TooLarge(f"{file}: field {name[:80]!r} is {short(value)}, the limit is {MAX_COUNT}")


def _build(folder: Path) -> "PreTrainedModel":
    """Returns the architecture on the meta device, without weights, after loading the tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **options)
        with torch.device("meta"), _bounded(folder):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
        AutoTokenizer.from_pretrained(folder, **options)
    except DockError:
        raise
    except Exception as error:
        # Whatever strange files make the library raise, it is the files' fault.
        raise InvalidAdapter(f"{folder}: transformers cannot read it ({str(error).strip()[:500]})") from None
    return model


@contextmanager
def _bounded(folder: Path) -> Iterator[None]:
    """Ends the building of a model in this thread that has more than MAX_MODULES modules."""
    from torch.nn import Module
    from torch.nn.modules.module import register_module_module_registration_hook

    thread, left = threading.get_ident(), MAX_MODULES

    def count(module: Module, name: str, child: Module | None) -> None:
        nonlocal left
        if threading.get_ident() != thread:
            return
        left -= 1
        if left < 0:
            raise TooLarge(f"{folder / CONFIG_FILE}: more than {MAX_MODULES} modules, which is the limit")

    handle = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _shards(folder: Path) -> Mapping[str, frozenset[str] | None]:
    """Returns the weights files, and which tensors the index promises in each."""
    weights = {file.name for file in folder.iterdir() if file.suffix == ".safetensors"}
    if not (folder / INDEX_FILE).is_file():
        if weights != {WEIGHTS_FILE}:
            raise InvalidAdapter(f"{folder}: shards without {INDEX_FILE}; save with save_pretrained")
        return {WEIGHTS_FILE: None}
    index = read_object(folder / INDEX_FILE, MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(index, dict) or not all(isinstance(shard, str) for shard in index.values()):
        raise InvalidAdapter(f"{folder / INDEX_FILE}: field 'weight_map' does not map tensors to files")
    if set(index.values()) != weights:
        odd = sorted(set(index.values()) ^ weights)
        raise InvalidAdapter(f"{folder / INDEX_FILE}: {odd[0][:80]!r} is only in one of index and folder")
    promised: dict[str, set[str]] = {}
    for name, shard in index.items():
        promised.setdefault(shard, set()).add(name)
    return {shard: frozenset(names) for shard, names in sorted(promised.items())}


def _check_shard(file: Path, promised: frozenset[str] | None, model: "PreTrainedModel") -> set[str]:
    """Returns the tensors in a weights file after checking each against the architecture."""
    from safetensors import SafetensorError, safe_open

    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    ignored = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    try:
        check_header(file)
        with safe_open(file, framework="pt") as opened:
            names = set(opened.keys())
            if promised is not None and names != promised:
                odd = sorted(names ^ promised)
                raise InvalidAdapter(f"{file}: tensor {odd[0][:120]!r} is only in one of index and file")
            for name in sorted(names):
                if name not in expected:
                    if any(pattern.search(name) for pattern in ignored):
                        continue
                    raise InvalidAdapter(
                        f"{file}: {type(model).__name__} has no tensor {name[:120]!r}; load the model with "
                        "transformers and save it with save_pretrained"
                    )
                part = opened.get_slice(name)
                if part.get_dtype() not in DTYPES:
                    raise InvalidAdapter(
                        f"{file}: tensor {name} is {part.get_dtype()}, not one of {', '.join(DTYPES)}"
                    )
                shape = tuple(part.get_shape())
                if shape != expected[name]:
                    raise InvalidAdapter(f"{file}: tensor {name} has shape {short(shape)} != {expected[name]}")
                pieces = _pieces(part, shape) if shape else iter([opened.get_tensor(name)])
                if not all(bool(piece.isfinite().all()) for piece in pieces):
                    raise InvalidAdapter(f"{file}: tensor {name} holds NaN or Inf")
    except SafetensorError as error:
        raise unreadable(file, error) from None
    return names


def _pieces(part: Any, shape: tuple[int, ...]) -> "Iterator[Tensor]":
    """Yields a tensor in pieces of rows, each of at most PIECE_BYTES where a row is no longer than that."""
    row = 4
    for length in shape[1:]:
        row *= length
    rows = max(1, PIECE_BYTES // max(1, row))
    for start in range(0, shape[0], rows):
        yield part[start : start + rows]


def _check_complete(folder: Path, found: set[str], model: "PreTrainedModel") -> None:
    """Checks that every parameter is there, under one of its names where several share one."""
    names: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), set()).add(name)
    missing = sorted(min(tied) for tied in names.values() if not tied & found)
    if missing:
        raise InvalidAdapter(f"{folder}: {len(missing)} parameters are missing, the first is {missing[0]}")
