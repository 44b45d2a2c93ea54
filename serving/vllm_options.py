"""How vLLM is started: options, environment, and what must be there before it is worth trying."""

import importlib.util
import os
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from serving.resolver import BASE_VARIABLE, STORE_VARIABLE
from specification.errors import EngineError, InvalidInput

PLUGIN = "slmdock"
PLUGIN_GROUP = "vllm.general_plugins"
LORA_RANKS = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class VllmConfig:
    """How vLLM is started.

    ``model`` is the base model's folder, ``base_model`` its name in the dock, ``store`` the adapter store's
    root, ``log`` the file that takes everything vLLM prints. ``max_loras`` adapters can share one batch (0
    serves the model alone), ``max_cpu_loras`` stay in memory, none may exceed ``max_lora_rank``.
    ``max_model_len`` is in tokens, the model's own length if None; ``kv_cache_gib`` binds on a CPU only.
    ``device`` is the place of the only GPU it may use among those that this process sees, all if None. ``extra``
    goes to vLLM as it stands, for instance ``("--tensor-parallel-size", "2")``. ``alone`` cuts it off from the
    network and lets others go first.
    """

    model: Path
    base_model: str
    store: Path
    log: Path
    max_loras: int = 8
    max_cpu_loras: int = 64
    max_lora_rank: int = 64
    max_model_len: int | None = None
    dtype: str = "auto"
    kv_cache_gib: int = 4
    start_timeout: float = 600.0
    device: int | None = None
    extra: tuple[str, ...] = ()
    alone: bool = False

    def __post_init__(self) -> None:
        if self.max_lora_rank not in LORA_RANKS:
            raise InvalidInput(f"max_lora_rank {self.max_lora_rank}: vLLM takes one of {LORA_RANKS}")
        if not 0 <= self.max_loras <= self.max_cpu_loras:
            raise InvalidInput(
                f"max_loras {self.max_loras} must lie between 0 and max_cpu_loras {self.max_cpu_loras}"
            )


def command(config: VllmConfig, socket: Path) -> list[str]:
    """Returns vLLM's command line."""
    options: dict[str, object] = {
        "--model": config.model.resolve(),
        "--served-model-name": config.base_model,
        "--uds": socket,
        "--dtype": config.dtype,
        "--load-format": "safetensors",
        # Sampling defaults come from the request alone, so that every engine answers alike.
        "--generation-config": "vllm",
        "--uvicorn-log-level": "warning",
    }
    if config.max_loras:
        options["--max-loras"] = config.max_loras
        options["--max-cpu-loras"] = config.max_cpu_loras
        options["--max-lora-rank"] = config.max_lora_rank
    if config.max_model_len is not None:
        options["--max-model-len"] = config.max_model_len
    switches = ["--disable-uvicorn-access-log", "--disable-fastapi-docs"]
    switches += ["--enable-lora"] if config.max_loras else []
    if is_cpu_build():
        switches.append("--enforce-eager")
    words = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words, *switches, *config.extra]


def environment(config: VllmConfig, folder: Path) -> dict[str, str]:
    """Returns vLLM's environment: ours, no network, no reporting, temporary files inside ``folder``."""
    visible = {} if config.device is None else {"CUDA_VISIBLE_DEVICES": _gpu(config.device)}
    return (
        os.environ
        | visible
        | {
            STORE_VARIABLE: str(config.store.resolve()),
            BASE_VARIABLE: config.base_model,
            "VLLM_PLUGINS": PLUGIN,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_CPU_KVCACHE_SPACE": str(config.kv_cache_gib),
            # A busy gateway may take a connection for fresh that vLLM is about to close, after 5 s by default.
            "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONWARNINGS": "ignore",
            "TMPDIR": str(folder),
        }
        | ({"VLLM_HOST_IP": "127.0.0.1"} if config.alone else {})
    )


def _gpu(place: int) -> str:
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return seen[place % len(seen)] if seen else str(place)


def check_installation(config: VllmConfig) -> None:
    """Finds in a moment what would otherwise fail after half a minute.

    Raises:
        EngineError: vLLM or our plugin is not installed, or there is no model in the folder.
    """
    if importlib.util.find_spec("vllm") is None:
        raise EngineError("vLLM is not installed; run 'make setup', or use --engine transformers or --engine-url")
    if not metadata.entry_points(group=PLUGIN_GROUP, name=PLUGIN):
        raise EngineError("vLLM would not find the adapters: SLM Dock itself is not installed; run 'make setup'")
    if not (config.model / "config.json").is_file():
        raise EngineError(f"{config.model}: no config.json there; give the folder of the base model")


def is_cpu_build() -> bool:
    """Tells whether the installed vLLM is the one for CPUs."""
    return any(True for _ in metadata.distributions(name="vllm-cpu"))
