"""Starting, watching and ending the process; a small server stands in for vLLM, which needs a minute to start."""

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serving import VllmConfig, VllmProcess, vllm_process
from specification.errors import EngineError

SERVER = """
import http.server, os, socketserver, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def address_string(self): return "socket"
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def do_POST(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream"); self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"a\\r\\ndata: {}\\n\\n\\r\\n"); time.sleep(60)
print("some words", os.environ["SLMDOCK_BASE_MODEL"], f"/proc/{os.getpid()}/exe", flush=True)
if sys.argv[2] == "fail": print("Failed to load plugin slmdock", flush=True)
if sys.argv[2] == "sleep": time.sleep(60)
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer): daemon_threads = True
Server(sys.argv[1], Handler).serve_forever()
"""


@pytest.fixture
def config(base: Path, tmp_path: Path) -> VllmConfig:
    return VllmConfig(base, "tiny-base", tmp_path, tmp_path / "logs" / "vllm.log", start_timeout=20)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Puts the small server in vLLM's place; its manner is the first of the ``extra`` options."""

    def command(config: VllmConfig, socket: Path) -> list[str]:
        return [sys.executable, "-c", SERVER, str(socket), *(config.extra or ("serve",))]

    monkeypatch.setattr(vllm_process, "command", command)
    monkeypatch.setattr(vllm_process, "check_installation", lambda config: None)
    return monkeypatch


@contextlib.asynccontextmanager
async def started(config: VllmConfig) -> AsyncIterator[VllmProcess]:
    engine = VllmProcess(config)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


@pytest.mark.usefixtures("stand_in")
async def test_starts_and_stops(config: VllmConfig) -> None:
    async with started(config) as engine:
        assert await engine.healthy()
        assert "some words tiny-base" in config.log.read_text()
    assert not await engine.healthy()
    await engine.stop()


@pytest.mark.usefixtures("stand_in")
async def test_is_started_again_when_it_dies(config: VllmConfig) -> None:
    async with started(config) as engine:
        first = engine._process
        assert first is not None
        first.kill()
        await asyncio.to_thread(first.wait)
        with pytest.raises(EngineError, match="try again"):
            await engine.post("completions", {"model": "tiny-base"})
        deadline = time.monotonic() + 15
        while not await engine.healthy():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert config.log.with_name("vllm.log.previous").exists()
        # Only the supervisor was killed; the server it left behind must be gone as well.
        assert not Path(config.log.with_name("vllm.log.previous").read_text().split()[-1]).exists()


@pytest.mark.usefixtures("stand_in")
async def test_a_stream_ends_with_the_process_though_its_socket_outlives_it(config: VllmConfig) -> None:
    async with started(config) as engine:
        answer = await engine.post("completions", {"model": "tiny-base", "stream": True})
        assert await anext(answer.chunks) == b"data: {}\n\n"
        # The server itself lives on until it is taken down, as a large process does while it dies.
        assert engine._process is not None
        engine._process.kill()
        with pytest.raises(EngineError, match="broke off"):
            await asyncio.wait_for(anext(answer.chunks), 15)
        await answer.close()


@pytest.mark.usefixtures("stand_in")
async def test_is_started_again_without_its_log_once_there_is_a_place_for_it(config: VllmConfig) -> None:
    folder = config.log.parent
    async with started(config) as engine:
        shutil.rmtree(folder)
        folder.write_text("in the way")
        assert engine._process is not None
        engine._process.kill()
        while engine._process is not None:
            await asyncio.sleep(0.05)
        folder.unlink()
        deadline = time.monotonic() + 15
        while not await engine.healthy():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


@pytest.mark.usefixtures("stand_in")
async def test_a_log_that_cannot_be_written_leaves_no_folder(config: VllmConfig, tmp_path: Path) -> None:
    tempdir = tmp_path / "temporary"
    tempdir.mkdir()
    config.log.parent.write_text("in the way")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tempdir))
        with pytest.raises(EngineError, match="cannot be started"):
            await VllmProcess(config).start()
    assert list(tempdir.iterdir()) == []


def test_its_largest_rank_is_known(config: VllmConfig) -> None:
    assert VllmProcess(config).max_lora_rank == config.max_lora_rank == 64


@pytest.mark.usefixtures("stand_in")
async def test_takes_too_long(config: VllmConfig) -> None:
    slow = VllmConfig(config.model, "tiny-base", config.store, config.log, start_timeout=0.5, extra=("sleep",))
    with pytest.raises(EngineError, match=r"within 0\.5 s; its last lines:\s+some words"):
        await VllmProcess(slow).start()


@pytest.mark.usefixtures("stand_in")
async def test_a_plugin_that_was_not_loaded_is_an_error(config: VllmConfig) -> None:
    plugless = VllmConfig(config.model, "tiny-base", config.store, config.log, extra=("fail",))
    with pytest.raises(EngineError, match="plugin slmdock"):
        await VllmProcess(plugless).start()
