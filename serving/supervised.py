"""Runs a command in a process group that cannot outlive whoever asked for it.

    python -I supervised.py [--alone] <grace seconds> <command> [argument ...]    with a pipe as standard input

The asker holds the other end of the pipe. When that end closes, for whatever reason (a stop, a crash, a
SIGKILL), the command gets SIGTERM and the grace to tidy up; then, or when the command ends by itself, the
whole group is killed with everything the command started. This needs no cooperation of the command.

With ``--alone`` the group has no network but a loopback of its own, and runs when the processor has nothing better
to do; where the system does not allow that, nothing is started.

Run by its path and in isolated mode, so only the standard library is imported here.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

ALONE = "--alone"
NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000
SET_FLAGS, UP_AND_RUNNING = 0x8914, 0x41
NICE = 10


def main(grace: float, command: list[str]) -> None:
    """Runs ``command`` and ends with the group killed; must be the leader of its process group."""
    if os.getpgid(0) != os.getpid():
        sys.exit("supervised: start it in a session of its own, since it kills its process group")
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_stop_when_abandoned, args=(child, grace), daemon=True).start()
    status = child.wait()
    print(f"supervised: the command ended with status {status}", flush=True)
    _kill_group()


def leave_network() -> None:
    """Moves this process, with what it starts from now on, to a network of its own: loopback, and nobody there.

    Raises:
        OSError: the system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    if not _unshared(NEW_NETWORK):
        if not _unshared(NEW_USER | NEW_NETWORK):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        for file, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{file}", "w") as opened:
                opened.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        fcntl.ioctl(opened, SET_FLAGS, struct.pack("16sh14x", b"lo", UP_AND_RUNNING))


def _unshared(what: int) -> bool:
    failed: int = ctypes.CDLL(None, use_errno=True).unshare(what)
    return not failed


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
    words = sys.argv[1:]
    if words[0] == ALONE:
        words.pop(0)
        try:
            leave_network()
        except OSError as refusal:
            sys.exit(
                f"supervised: the network cannot be cut off ({refusal.strerror}); allow network namespaces here, "
                "or give --with-network ('slmdock serve': --verify-with-network)"
            )
        os.nice(NICE)
    main(float(words[0]), words[1:])
