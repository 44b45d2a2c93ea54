"""Runs a command in a process group that cannot outlive whoever asked for it.

    python -I supervised.py <grace seconds> <command> [argument ...]     with a pipe as its standard input

The asker holds the other end of the pipe. When that end closes, for whatever reason (a stop, a crash, a
SIGKILL), the command gets SIGTERM and the grace to tidy up; then, or when the command ends by itself, the
whole group is killed with everything the command started. This needs no cooperation of the command.

Run by its path and in isolated mode, so only the standard library is imported here.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main(grace: float, command: list[str]) -> None:
    """Runs ``command`` and ends with the group killed; must be the leader of its process group."""
    if os.getpgid(0) != os.getpid():
        sys.exit("supervised: start it in a session of its own, since it kills its process group")
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_stop_when_abandoned, args=(child, grace), daemon=True).start()
    status = child.wait()
    print(f"supervised: the command ended with status {status}", flush=True)
    _kill_group()


def _stop_when_abandoned(child: subprocess.Popen[bytes], grace: float) -> None:
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 1):
            pass
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace)
    _kill_group()


def _kill_group() -> None:
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
