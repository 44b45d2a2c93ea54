"""Makes an index of the embedded catalogue in a process of its own: ``python -m catalogue.build FOLDER NAME``.

Building graphs holds Python's lock for seconds to minutes, and takes memory that ends with the process. It reads
settings from its first line of input, says on its output how far it is, and ends when its input does.
"""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from catalogue.contract import CatalogueSettings
from catalogue.edge_index import FLUSH, EdgeIndex, engine_errors
from catalogue.filters import EVERYTHING
from catalogue.ledger import Ledger
from specification import Progress
from specification.errors import CatalogueError, DockError

LEDGER = "ledger.sqlite"
BATCH = 1000
FEW = 5_000
"""So few points are faster and surer found without a graph."""
STOP_SECONDS = 10.0
ONE_THREAD = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
"""The environment of processes that compute little and leave the cores to others."""


class Build:
    """A process that makes the index ``name`` in a catalogue's folder."""

    def __init__(self, folder: Path, name: str, settings: CatalogueSettings) -> None:
        self.index = folder / name
        words = [sys.executable, "-P", "-m", "catalogue.build", str(folder), name]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ONE_THREAD
        )
        assert self._process.stdin is not None
        self._process.stdin.write(settings.model_dump_json() + "\n")
        self._process.stdin.flush()

    def wait(self, progress: Progress) -> None:
        """Returns when the index is whole.

        Raises:
            CatalogueError: the process failed or was stopped; what it made is gone.
        """
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        try:
            for line in self._process.stdout:
                done, total = line.split()
                progress(int(done), int(total))
            error = self._process.stderr.read().strip()
            if self._process.wait() != 0:
                reason = error.splitlines()[-1] if error else f"exit status {self._process.returncode}"
                raise CatalogueError(f"the index was not made: {reason}")
        except BaseException:
            self.stop()
            raise
        finally:
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()

    def stop(self) -> None:
        """Ends the process, if it still runs, and removes what it made."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.returncode != 0:
            shutil.rmtree(self.index, ignore_errors=True)


def build(folder: Path, name: str, settings: CatalogueSettings, progress: Progress) -> None:
    """Makes an index of all that the ledger holds now."""
    with engine_errors("make an index", folder):
        EdgeIndex.create(folder / name, settings)
        index, ledger = EdgeIndex(folder / name, settings.plan), Ledger(folder / LEDGER)
        last = ledger.last
        while changes := ledger.changes(index.applied, BATCH):
            index.apply(changes)
            progress(min(index.applied, last), last)
            if index.unflushed >= FLUSH:
                index.flush()
        index.finish(graphs=index.count(EVERYTHING) >= FEW)
        index.close()
        ledger.close()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    folder, name = Path(sys.argv[1]), sys.argv[2]
    settings = CatalogueSettings.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Searches go first.
    os.nice(10)
    try:
        build(folder, name, settings, lambda done, total: print(done, total, flush=True))
    except DockError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
