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


# Tells which networks it is in, and whether anybody can be reached there.
LOOK = """
import os, socket
print(sorted(name for _, name in socket.if_nameindex()), os.nice(0))
with socket.create_server(("127.0.0.1", 0)) as here:
    socket.create_connection(here.getsockname()).close()
try:
    socket.create_connection(("192.0.2.1", 9), timeout=5)
except OSError as error:
    print(error.strerror)
"""


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


def test_alone_it_has_no_network_but_loopback() -> None:
    words = [sys.executable, "-I", supervised.__file__, supervised.ALONE, "0.5", sys.executable, "-c", LOOK]
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as asked:
        asked.wait(30)
        said, refused = asked.stdout.read(), asked.stderr.read()  # type: ignore[union-attr]
    if "cannot be cut off" in refused:
        pytest.skip(refused.strip())
    assert sorted(said.splitlines())[:2] == ["Network is unreachable", f"['lo'] {supervised.NICE}"]
