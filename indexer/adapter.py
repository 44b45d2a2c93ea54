"""Reading a PEFT LoRA adapter from a provider's folder, with every check at the door. Runs no model.

What comes out is canonical: the same content under the same base model always has the same id.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catalogue.learnware import short
from indexer.adapter_config import AdapterConfig, canonical_config, check_patterns, read_config
from indexer.base_models import BaseModels, KnownBase
from indexer.folders import (
    DTYPES,
    check_header,
    list_folder,
    size_of,
    unreadable,
    without_weights,
)
from indexer.origin import check_origin
from indexer.store import CONFIG_FILE, WEIGHTS_FILE
from indexer.update_sketches import Sketch, sketch_update
from indexer.variants import CURE, NOT_SERVED, whose_tensor
from specification.errors import InvalidAdapter, InvalidInput, TooLarge

if TYPE_CHECKING:
    from torch import Tensor

MAX_WEIGHTS_BYTES = 4 * 2**30
TENSOR_NAME = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True, eq=False)
class Adapter:
    """A checked adapter: ``id`` is the SHA-256 of its canonical content and base, ``files`` what to store.

    ``sketch`` is that of the change it makes, None where its matrices cancel out.
    """

    id: str
    base_model: str
    rank: int
    files: dict[str, bytes]
    sketch: Sketch | None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(map(len, self.files.values()))


def read_adapter(folder: Path, bases: BaseModels, base_name: str | None = None) -> Adapter:
    """Reads and checks the adapter in ``folder``.

    ``base_name`` is the base model's name, in place of what configuration and model card say; what is read is as
    if the configuration named it.

    Raises:
        InvalidAdapter: links, pickles only, a missing file, an unsupported variant, another base model,
            tensors that do not fit it, NaN or Inf, or weights that change nothing.
        NotFound: no base model has ``base_name``.
        InvalidInput: a file beside it cannot be read, see ``check_origin``.
        TooLarge: a file or the rank exceeds its limit.
    """
    check_folder(folder)
    config = read_config(folder / CONFIG_FILE)
    base = _stated_base(folder, config, bases) if base_name is None else bases.get(base_name)
    config = config.model_copy(update={"base_model_name_or_path": base.name})
    check_origin(folder, base, bases if base_name is None else None)
    check_patterns(config, base, folder / CONFIG_FILE)
    tensors = _read_tensors(folder / WEIGHTS_FILE, config, base)
    modules = _check_values(tensors, folder / WEIGHTS_FILE)
    scaled = {module: config.scaled(module) for module in sorted(modules)}
    canonical = canonical_config(config, scaled, folder / CONFIG_FILE)
    return Adapter(
        id=_identity(canonical, tensors),
        base_model=base.name,
        rank=max(each.rank for each in scaled.values()),
        files={CONFIG_FILE: canonical, WEIGHTS_FILE: _serialised(tensors)},
        sketch=sketch_update(tensors, {module: config.scale(module) for module in scaled}),
    )


def _stated_base(folder: Path, config: AdapterConfig, bases: BaseModels) -> KnownBase:
    try:
        return bases.get(config.base_model_name_or_path)
    except InvalidInput as error:
        raise InvalidAdapter(f"{folder / CONFIG_FILE}: {error}") from None


def base_by_folder(folder: Path, bases: BaseModels) -> str | None:
    """Returns the name of the base model whose folder an adapter's configuration states, as PEFT writes it.

    None where it states something else, or cannot be read. Only for adapters that were trained on this machine:
    a path of another one may be that of another model here.
    """
    try:
        return bases.in_folder(read_config(folder / CONFIG_FILE).base_model_name_or_path)
    except InvalidInput:
        return None


def check_folder(folder: Path) -> None:
    """Checks what can be seen without opening a file: links, names, pickles, missing files, sizes.

    Raises:
        InvalidAdapter, TooLarge: see ``read_adapter``.
    """
    names = list_folder(folder)
    if CONFIG_FILE not in names:
        raise InvalidAdapter(f"{folder}: no {CONFIG_FILE}; save the adapter with PEFT's save_pretrained")
    if WEIGHTS_FILE not in names:
        raise without_weights(folder, names, WEIGHTS_FILE)
    size = size_of(folder / WEIGHTS_FILE)
    if size > MAX_WEIGHTS_BYTES:
        raise TooLarge(f"{folder / WEIGHTS_FILE}: {size} bytes, the limit is {MAX_WEIGHTS_BYTES}")


def _read_tensors(file: Path, config: AdapterConfig, base: KnownBase) -> "dict[str, Tensor]":
    """Reads the tensors, each after its name, type and shape were checked against the base model."""
    from safetensors import SafetensorError, safe_open

    tensors = {}
    try:
        check_header(file)
        with safe_open(file, framework="pt") as opened:
            for name in sorted(opened.keys()):
                part = opened.get_slice(name)
                expected = _expected_shape(name, config, base, file)
                dtype, shape = part.get_dtype(), tuple(part.get_shape())
                if dtype not in DTYPES:
                    raise InvalidAdapter(f"{file}: tensor {name} is {dtype}, not one of {', '.join(DTYPES)}")
                if shape != expected:
                    raise InvalidAdapter(f"{file}: tensor {name} has shape {short(shape)} != {expected}")
                tensors[name] = opened.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise unreadable(file, error) from None
    return tensors


def _expected_shape(name: str, config: AdapterConfig, base: KnownBase, file: Path) -> tuple[int, int]:
    parts = TENSOR_NAME.fullmatch(name)
    if parts is None:
        variant = whose_tensor(name)
        owner = f", but belongs to {variant}, {NOT_SERVED}{CURE}" if variant else ""
        raise InvalidAdapter(f"{file}: tensor {name[:120]!r} is no LoRA A or B matrix{owner}")
    if parts["module"] not in base.modules:
        raise InvalidAdapter(
            f"{file}: base model {base.name} has no linear module {parts['module'][:120]!r} that an adapter may "
            "change; heads and embeddings are not taken"
        )
    inputs, outputs = base.modules[parts["module"]]
    rank = config.scaled(parts["module"]).rank
    return (rank, inputs) if parts["side"] == "A" else (outputs, rank)


def _check_values(tensors: "dict[str, Tensor]", file: Path) -> set[str]:
    """Returns the adapted modules after checking that their matrices are there, finite and change something."""
    modules: dict[str, set[str]] = {}
    changing: set[str] = set()
    for name, tensor in tensors.items():
        module, _, side = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".lora_")
        if not tensor.isfinite().all():
            raise InvalidAdapter(f"{file}: tensor {name} holds NaN or Inf")
        if side == "B" and tensor.any():
            changing.add(module)
        modules.setdefault(module, set()).add(side)
    lonely = sorted(module for module, sides in modules.items() if len(sides) < 2)
    if lonely:
        raise InvalidAdapter(f"{file}: module {lonely[0]} has only one of its two LoRA matrices")
    if not changing:
        raise InvalidAdapter(f"{file}: every LoRA B matrix is zero, so the adapter would change nothing")
    return set(modules)


def _serialised(tensors: "dict[str, Tensor]") -> bytes:
    from safetensors.torch import save

    return save({name: tensor.contiguous() for name, tensor in tensors.items()})


def _identity(config: bytes, tensors: "dict[str, Tensor]") -> str:
    """SHA-256 over the canonical configuration and each tensor's name, type, shape and bytes, by name."""
    import torch

    total = hashlib.sha256(config)
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
