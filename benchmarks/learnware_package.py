"""The PyPI package ``learnware`` as a peer: its own virtual environment, and a process in it that is asked.

The package pulls in large dependencies, so it never meets the project's environment; arrays travel as files.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmdock.dock import cache_folder

REQUIREMENTS = ("learnware==0.4.0.post1", "fast_pytorch_kmeans==0.2.0.1")
TORCH = "torch==2.13.0"
WORKER = Path(__file__).with_name("learnware_worker.py")


def ask_peer(task: str, arrays: dict[str, NDArray[Any]], **options: float) -> tuple[Any, dict[str, NDArray[Any]]]:
    """Runs one task of the worker in the peer's environment; returns its JSON answer and its arrays."""
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "given.npz", Path(folder) / "answer.npz"
        np.savez(given, allow_pickle=False, **arrays)
        command = [_python(), str(WORKER), task, str(given), str(answer), json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"error: the learnware package failed:\n{done.stderr[-2000:]}")
        with np.load(answer, allow_pickle=False) as found:
            return json.loads(done.stdout.splitlines()[-1]), dict(found)


def _python() -> str:
    """Returns the interpreter of the peer's environment, made on first use."""
    folder = cache_folder() / "benchmarks" / "learnware-0.4.0.post1"
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        print("making the virtual environment of the learnware package (a minute or two)", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        for packages in ((TORCH,), REQUIREMENTS):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, stderr=sys.stderr)
        (folder / "installed").touch()
    return str(python)
