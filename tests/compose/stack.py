"""docker-compose.yml read as compose reads it, and its services as plain processes on folders of a test.

A process gets the command and the environment that its service declares, and nothing else of ours but PATH,
PYTHONPATH and one thread. What is a volume, a secret or another service's name in a container is a folder or an
address here.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\})")

Service = dict[str, Any]


def variables() -> dict[str, str]:
    """Returns what .env.example sets."""
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    return dict(cast(tuple[str, str], line.split("=", 1)) for line in lines)


def resolve(value: Any, given: Mapping[str, str]) -> Any:
    """Returns a document with its variables replaced, by the rules of the forms that the file uses."""
    if isinstance(value, dict):
        return {key: resolve(each, given) for key, each in value.items()}
    if isinstance(value, list):
        return [resolve(each, given) for each in value]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        return "$" if found["dollar"] else given.get(found["name"], "") or found["default"] or ""

    replaced = VARIABLE.sub(replace, value)
    assert "${" not in VARIABLE.sub("", value), value
    return replaced


def document(given: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the compose file with the variables of .env.example, or with others."""
    found: dict[str, Any] = resolve(yaml.safe_load(FILE.read_text()), variables() if given is None else given)
    return found


def mounts(service: Service) -> dict[str, tuple[str, bool]]:
    """Returns what is mounted where in a service's container, and whether it is read-only."""
    parts = [volume.split(":") for volume in service.get("volumes", [])]
    return {target: (source, mode == ["ro"]) for source, target, *mode in parts}


@dataclass
class Stack:
    """The services on ``folder``, with a folder a volume.

    ``settings`` are variables as in .env; ``addresses`` maps, by service, what a container calls by another
    address than is used here.
    """

    folder: Path
    settings: dict[str, str]
    addresses: Mapping[str, Mapping[str, str]]

    def __post_init__(self) -> None:
        for name in ("dock", "store", "metrics-key", "tmp"):
            (self.folder / name).mkdir()
        # The one volume that lies inside another's folder.
        (self.folder / "dock" / "store").symlink_to(self.folder / "store")

    def service(self, name: str) -> Service:
        """Returns command, environment and health check of a service, with this machine's paths and addresses."""
        service: Service = document(variables() | self.settings)["services"][name]
        moved = dict(self.addresses.get(name, {})) | {"/tmp": str(self.folder / "tmp")}
        moved |= {target: str(self.folder / source) for target, (source, _) in mounts(service).items()}
        moved |= {f"/run/secrets/{one}": str(self.folder / "secrets" / one) for one in service.get("secrets", [])}
        pattern = re.compile("|".join(re.escape(each) for each in sorted(moved, key=len, reverse=True)))
        parts = ("entrypoint", "command", "environment", "healthcheck")
        return {part: _moved(service.get(part), pattern, moved) for part in parts}

    def words(self, name: str, program: Sequence[str]) -> list[str]:
        """Returns the service's command; ``program`` is its image's entry point, if it has none of its own."""
        service = self.service(name)
        return [*(service["entrypoint"] or program), *(service["command"] or [])]

    def environment(self, name: str) -> dict[str, str]:
        """Returns the service's environment."""
        ours = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        return ours | {key: str(value) for key, value in (self.service(name)["environment"] or {}).items()}

    def run(self, name: str, words: Sequence[str], **more: str) -> str:
        """Runs words in a service's environment, as ``docker compose exec`` does, and returns what they print."""
        done = subprocess.run(
            words, env=self.environment(name) | more, cwd=self.folder / "tmp", capture_output=True, text=True,
            timeout=250,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, name: str, program: Sequence[str]) -> Iterator[None]:
        """Runs a service until its own health check passes; afterwards it is ended as compose ends it."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.words(name, program), env=self.environment(name), cwd=self.folder / "tmp",
                stdout=output, stderr=output,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + 600
            while not self.healthy(name):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            process.wait(60)

    def healthy(self, name: str) -> bool:
        """Runs the service's health check."""
        kind, *words = self.service(name)["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run(words, env=self.environment(name), capture_output=True, timeout=60)
        return done.returncode == 0


def _moved(value: Any, pattern: re.Pattern[str], moved: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _moved(each, pattern, moved) for key, each in value.items()}
    if isinstance(value, list):
        return [_moved(each, pattern, moved) for each in value]
    return pattern.sub(lambda found: moved[found[0]], value) if isinstance(value, str) else value
