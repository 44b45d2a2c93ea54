"""A vLLM that this process starts, watches and takes down with it.

vLLM listens on a Unix socket in a folder that only this user can enter. So its own endpoints, among them
those that load adapters from any path, are out of reach of everyone but the gateway, which does not pass
them on. Requests travel through ``RemoteEngine``.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from serving import supervised
from serving.backoff import Backoff
from serving.engine import AdapterUnavailable, Engine, EngineAnswer, EngineUnreachable, Route
from serving.remote import RemoteConfig, RemoteEngine
from serving.resolver import StoreResolver
from serving.vllm_options import PLUGIN, VllmConfig, check_installation, command, environment
from specification.errors import EngineError

STOP_GRACE_SECONDS = 10.0
POLL_SECONDS = 0.25
TAIL_LINES = 20

log = logging.getLogger(__name__)

Progress = Callable[[str], None]


class VllmProcess(Engine):
    """vLLM with its own children in a process group that cannot outlive this process."""

    def __init__(self, config: VllmConfig, progress: Progress = lambda line: None) -> None:
        self.config = config
        self.base_model = config.base_model
        self.max_lora_rank = config.max_lora_rank
        self.max_cpu_loras = config.max_cpu_loras
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._remote: RemoteEngine | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._door = StoreResolver(config.store, config.base_model)

    async def start(self) -> None:
        """Starts vLLM and waits until it answers; ``progress`` gets a line for people every few seconds.

        From then on a vLLM that dies is started again, until ``stop``.

        Raises:
            EngineError: vLLM is not installed, died, or took longer than ``start_timeout``; the message ends
                with the last lines that vLLM printed.
        """
        check_installation(self.config)
        await self._launch()
        self._watcher = asyncio.create_task(self._revive())

    async def stop(self) -> None:
        """Ends vLLM: a polite signal first, then the whole group is killed."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._take_down()

    async def healthy(self) -> bool:
        """Tells whether the process lives and its health check passes."""
        alive = self._process is not None and self._process.poll() is None
        return alive and self._remote is not None and await self._remote.healthy()

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        """Sends the request; see ``Engine.post``.

        The adapter's files are checked every time: vLLM asks the resolver once, may drop the adapter from
        memory later, and dies with all requests if it then finds the files gone or cut short.
        """
        if self._process is None or self._remote is None or self._process.poll() is not None:
            raise EngineUnreachable(
                "vLLM is not running; if it died it is started again, so try again in a minute"
            )
        model = str(body.get("model"))
        whole = model == self.base_model or self._door.still_whole(model)
        if not whole and await asyncio.to_thread(self._door.folder_of, model) is None:
            raise AdapterUnavailable(f"the adapter {model} is not whole in the dock's store")
        return await self._remote.post(route, body)

    @property
    def resident(self) -> int:
        """The bytes of memory that vLLM and all its processes hold, shared ones counted once for each."""
        if self._process is None:
            return 0
        held = 0
        with contextlib.suppress(psutil.Error):
            supervisor = psutil.Process(self._process.pid)
            for process in (supervisor, *supervisor.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    held += process.memory_info().rss
        return held

    async def _launch(self) -> None:
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="slmdock-"))
            socket = self._folder / "vllm.sock"
            self._process = self._spawn(socket)
            # Before it can answer: a request that reaches it must not count for what the last one held.
            self.starts += 1
            self._remote = RemoteEngine(
                RemoteConfig(url="http://vllm", base_model=self.base_model, socket=str(socket))
            )
            self._remote.connect()
            await self._wait(self._process, self._remote)
            self._check_plugin()
            await self._remote.learn()
            self.max_model_len = self._remote.max_model_len
        except BaseException as error:
            await self._take_down()
            if isinstance(error, OSError):
                raise EngineError(f"vLLM cannot be started: {error}") from error
            raise

    async def _take_down(self) -> None:
        if self._remote is not None:
            await self._remote.stop()
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(_end, process)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _revive(self) -> None:
        backoff = Backoff()
        while True:
            await asyncio.sleep(backoff.pause)
            if self._process is not None and self._process.poll() is None:
                backoff.reset()
                continue
            log.error("vLLM has died and is started again; its last lines:\n%s", tail(self.config.log))
            try:
                await self._take_down()
                await self._launch()
            except (EngineError, OSError) as error:
                backoff.failed()
                log.error("vLLM was not started again, next try in %.0f s: %s", backoff.pause, error)

    def _spawn(self, socket: Path) -> "subprocess.Popen[bytes]":
        folder = socket.parent
        self.config.log.parent.mkdir(parents=True, exist_ok=True)
        if self.config.log.exists():
            self.config.log.replace(f"{self.config.log}.previous")
        with self.config.log.open("wb") as output:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    supervised.__file__,
                    *([supervised.ALONE] if self.config.alone else []),
                    str(STOP_GRACE_SECONDS),
                    *command(self.config, socket),
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=folder,
                env=environment(self.config, folder),
            )

    def _check_plugin(self) -> None:
        """vLLM goes on without a plugin that cannot be imported, and would then know no adapter."""
        if f"Failed to load plugin {PLUGIN}" in tail(self.config.log, 10_000):
            raise EngineError(f"vLLM could not import the plugin {PLUGIN}; {self.config.log} says why")

    async def _wait(self, process: "subprocess.Popen[bytes]", remote: RemoteEngine) -> None:
        started = told = time.monotonic()
        while not await remote.healthy():
            now = time.monotonic()
            if process.poll() is not None:
                raise EngineError(f"vLLM ended while starting; its last lines:\n{tail(self.config.log)}")
            if now - started > self.config.start_timeout:
                waited = f"{self.config.start_timeout:g} s"
                raise EngineError(
                    f"vLLM did not come up within {waited}; its last lines:\n{tail(self.config.log)}"
                )
            if now - told > 10:
                told = now
                self._progress(f"vLLM is starting, {now - started:.0f} s")
            await asyncio.sleep(POLL_SECONDS)


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Returns the last non-empty lines of a log, or in their place why it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
            text = file.read().decode("utf-8", "replace")
    except OSError as error:
        text = f"(no log: {error})"
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Closes the supervisor's pipe, which ends the group, and kills what may be left if it was stuck or killed."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_GRACE_SECONDS + 5)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
