"""No process outlives whoever asked for it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import supervised

# A command that starts a child of its own and writes both numbers; neither ends by itself.
FAMILY = """
import os, signal, subprocess, sys, time
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1] + ".part", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
"""
ASKER = """
import subprocess, sys
subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
input()
"""


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "note"


def command(note: Path, manner: str = "polite") -> list[str]:
    family = [sys.executable, "-c", FAMILY, str(note), manner]
    return [sys.executable, "-I", supervised.__file__, "0.5", *family]


def lives(process: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def numbers(note: Path) -> list[int]:
    wait_until(note.exists)
    return [int(number) for number in note.read_text().split()]


def all_dead(family: list[int]) -> Callable[[], bool]:
    return lambda: not any(lives(process) for process in family)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("manner", ["polite", "stubborn"])
def test_closing_the_pipe_ends_the_family(manner: str, note: Path) -> None:
    with subprocess.Popen(command(note, manner), stdin=subprocess.PIPE, start_new_session=True) as process:
        family = numbers(note)
        assert all(lives(one) for one in family)
    wait_until(all_dead(family))
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_killed_asker_leaves_nobody(note: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ASKER, *command(note)], stdin=subprocess.PIPE) as asker:
        family = numbers(note)
        asker.kill()
    wait_until(all_dead(family))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_dead_command_takes_its_children_along(note: Path) -> None:
    with subprocess.Popen(command(note), stdin=subprocess.PIPE, start_new_session=True) as process:
        leader, child = numbers(note)
        os.kill(leader, signal.SIGKILL)
        wait_until(all_dead([leader, child]))
        process.wait()


def test_refuses_a_group_it_does_not_lead() -> None:
    command = [sys.executable, "-I", supervised.__file__, "1", "true"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert b"session of its own" in done.stderr
