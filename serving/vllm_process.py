"""A vLLM that this process starts, watches and takes down with it.

vLLM listens on a Unix socket in a folder that only this user can enter. So its own endpoints, among them
those that load adapters from any path, are out of reach of everyone but the gateway, which does not pass
them on. Requests travel through ``RemoteEngine``.
"""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from serving import supervised
from serving.engine import Engine, EngineAnswer, Route
from serving.remote import RemoteConfig, RemoteEngine
from serving.resolver import BASE_VARIABLE, STORE_VARIABLE
from specification.errors import EngineError, InvalidInput

PLUGIN = "slmdock"
PLUGIN_GROUP = "vllm.general_plugins"
LORA_RANKS = (8, 16, 32, 64, 128, 256)
STOP_GRACE_SECONDS = 10.0
POLL_SECONDS = 0.25
TAIL_LINES = 20

Progress = Callable[[str], None]


@dataclass(frozen=True)
class VllmConfig:
    """How vLLM is started.

    ``model`` is the base model's folder, ``base_model`` its name in the dock, ``store`` the adapter store's
    root, ``log`` the file that takes everything vLLM prints. ``max_loras`` adapters can share one batch,
    ``max_cpu_loras`` stay in memory, none may exceed ``max_lora_rank``. ``max_model_len`` is in tokens, the
    model's own length if None; ``kv_cache_gib`` binds on a CPU only. ``extra`` goes to vLLM as it stands,
    for instance ``("--tensor-parallel-size", "2")``.
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
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_lora_rank not in LORA_RANKS:
            raise InvalidInput(f"max_lora_rank {self.max_lora_rank}: vLLM takes one of {LORA_RANKS}")
        if not 1 <= self.max_loras <= self.max_cpu_loras:
            raise InvalidInput(
                f"max_loras {self.max_loras} must lie between 1 and max_cpu_loras {self.max_cpu_loras}"
            )


class VllmProcess(Engine):
    """vLLM with its own children in a process group that cannot outlive this process."""

    def __init__(self, config: VllmConfig, progress: Progress = lambda line: None) -> None:
        self.config = config
        self.base_model = config.base_model
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._remote: RemoteEngine | None = None

    async def start(self) -> None:
        """Starts vLLM and waits until it answers; ``progress`` gets a line for people every few seconds.

        Raises:
            EngineError: vLLM is not installed, died, or took longer than ``start_timeout``; the message ends
                with the last lines that vLLM printed.
        """
        check_installation(self.config)
        self._folder = Path(tempfile.mkdtemp(prefix="slmdock-"))
        socket = self._folder / "vllm.sock"
        self._process = self._spawn(socket)
        self._remote = RemoteEngine(
            RemoteConfig(url="http://vllm", base_model=self.base_model, socket=str(socket))
        )
        self._remote.connect()
        try:
            await self._wait(self._process, self._remote)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends vLLM: a polite signal first, then the whole group is killed."""
        if self._remote is not None:
            await self._remote.stop()
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_end, process)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def healthy(self) -> bool:
        """Tells whether the process lives and its health check passes."""
        alive = self._process is not None and self._process.poll() is None
        return alive and self._remote is not None and await self._remote.healthy()

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        """Sends the request; see ``Engine.post``."""
        if self._process is None or self._remote is None:
            raise EngineError("vLLM is not running")
        if self._process.poll() is not None:
            raise EngineError(f"vLLM has died; its last words are in {self.config.log.name} on the dock's machine")
        return await self._remote.post(route, body)

    def _spawn(self, socket: Path) -> "subprocess.Popen[bytes]":
        folder = socket.parent
        self.config.log.parent.mkdir(parents=True, exist_ok=True)
        with self.config.log.open("wb") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    supervised.__file__,
                    str(STOP_GRACE_SECONDS),
                    *command(self.config, socket),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=folder,
                env=environment(self.config, folder),
            )

    async def _wait(self, process: "subprocess.Popen[bytes]", remote: RemoteEngine) -> None:
        started = told = time.monotonic()
        while not await remote.healthy():
            now = time.monotonic()
            if process.poll() is not None:
                raise EngineError(f"vLLM ended while starting; its last lines:\n{tail(self.config.log)}")
            if now - started > self.config.start_timeout:
                waited = f"{self.config.start_timeout:.0f} s"
                raise EngineError(
                    f"vLLM did not come up within {waited}; its last lines:\n{tail(self.config.log)}"
                )
            if now - told > 5:
                told = now
                self._progress(f"vLLM is starting, {now - started:.0f} s: {tail(self.config.log, 1)}")
            await asyncio.sleep(POLL_SECONDS)


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
        "--max-loras": config.max_loras,
        "--max-cpu-loras": config.max_cpu_loras,
        "--max-lora-rank": config.max_lora_rank,
        "--uvicorn-log-level": "warning",
    }
    if config.max_model_len is not None:
        options["--max-model-len"] = config.max_model_len
    switches = ["--enable-lora", "--disable-uvicorn-access-log", "--disable-fastapi-docs"]
    if is_cpu_build():
        switches.append("--enforce-eager")
    words = [str(word) for pair in options.items() for word in pair]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words, *switches, *config.extra]


def environment(config: VllmConfig, folder: Path) -> dict[str, str]:
    """Returns vLLM's environment: ours, no network, no reporting, temporary files inside ``folder``."""
    return os.environ | {
        STORE_VARIABLE: str(config.store.resolve()),
        BASE_VARIABLE: config.base_model,
        "VLLM_PLUGINS": PLUGIN,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(config.kv_cache_gib),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
        "TMPDIR": str(folder),
    }


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


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Returns the last non-empty lines of the log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 64 * 1024))
        text = file.read().decode("utf-8", "replace")
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Closes the supervisor's pipe, which ends the group; kills the group if the supervisor is stuck."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_GRACE_SECONDS + 5)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
