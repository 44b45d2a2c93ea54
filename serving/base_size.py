"""What of a base model's folder decides on memory: its architecture, and the weights where they are there."""

import json
from pathlib import Path
from typing import Any

from indexer.base_models import empty_model, linear_modules
from serving.gpu_plan import BaseSize
from serving.plan import Shapes
from specification.errors import InvalidInput
from specification.files import read_file

DTYPES = {"auto": 2, "bfloat16": 2, "float16": 2, "float32": 4}
# Tensors in these are converted to the type that the model is served in, all others are quantised and kept.
CONVERTED = {"F32": 4, "F16": 2, "BF16": 2}
MAX_HEADER_BYTES = 2**27
# Settings of architectures whose cache or adapters are not laid out as planned here.
OTHER_ATTENTION = (
    "kv_lora_rank", "state_size", "ssm_state_size", "mamba_d_state", "linear_num_key_heads", "conv_L_cache",
)  # fmt: skip
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def read_base_size(folder: Path, dtype: str = "auto") -> tuple[BaseSize, bool]:
    """Returns a base model's sizes when served in ``dtype``, and whether its weights were there to be counted.

    ``auto`` is what vLLM takes for models stored in 16 or 32 bits: 16. Without safetensors files the weights are
    counted from the architecture.

    Raises:
        InvalidInput: an unknown ``dtype``, a folder without a readable config.json, a damaged weights file, or an
            architecture that cannot be planned: a mixture of experts, or attention with another kind of cache.
    """
    if dtype not in DTYPES:
        raise InvalidInput(f"--dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
    model, width = empty_model(folder), DTYPES[dtype]
    config = model.config.get_text_config()
    _require_plain(config, folder)
    files = _weight_files(folder)
    stored = sum(_stored(file, width) for file in files)
    try:
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        head = getattr(config, "head_dim", None) or config.hidden_size // heads
        size = BaseSize(
            shapes=Shapes(linear_modules(model, folder), config.vocab_size, config.hidden_size, width),
            weight_bytes=stored or width * sum(parameter.numel() for parameter in model.parameters()),
            kv_bytes_a_token=2 * config.num_hidden_layers * kv_heads * head * width,
            intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
            max_model_len=config.max_position_embeddings,
        )
    except AttributeError as error:
        raise InvalidInput(
            f"base model folder {folder}: cannot be planned, config.json lacks {error.name}"
        ) from None
    return size, bool(files)


def _require_plain(config: Any, folder: Path) -> None:
    """Raises InvalidInput unless every layer keeps every head's keys and values, and no experts are adapted."""
    for names, what in ((OTHER_ATTENTION, "another kind of cache"), (EXPERTS, "a mixture of experts")):
        found = next((name for name in names if getattr(config, name, None)), None)
        if found is not None:
            raise InvalidInput(
                f"base model folder {folder}: {what} ({found} in config.json) cannot be planned yet"
            )


def _weight_files(folder: Path) -> list[Path]:
    """Returns the files that the index names, since some folders hold the weights in another layout as well."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return sorted(folder.glob("*.safetensors"))
    try:
        names = set(json.loads(read_file(index, MAX_HEADER_BYTES))["weight_map"].values())
        return [folder / Path(name).name for name in sorted(names)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"{index} cannot be read ({error})") from None


def _stored(file: Path, width: int) -> int:
    """Returns the bytes of a safetensors file's tensors once loaded; only its header is read.

    The file begins with the header's length, eight bytes little-endian, and the header, JSON with dtype, shape and
    place of each tensor (the format's own description).
    """
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > MAX_HEADER_BYTES:
                raise ValueError("its header is too long")
            header = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        total = 0
        for tensor in header.values():
            start, end = tensor["data_offsets"]
            stored = CONVERTED.get(tensor["dtype"])
            total += end - start if stored is None else (end - start) // stored * width
        return total
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"{file} cannot be read as safetensors ({error})") from None
