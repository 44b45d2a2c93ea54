"""Searches while learnwares are written and the next index is made: how long does the slowest take?

    python -m benchmarks.living_catalogue [--size 100000] [--fresh 25000] [--data DIR] [--folder DIR]

One thread searches without a pause, one writes; the process that makes the next index starts by itself. After each
write its last learnware must be the first that a search for its own task finds; deleted ones must be gone.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.catalogue import catalogue_of, drawn_in
from benchmarks.catalogue_data import arguments, rows, source, specify, tags_of
from benchmarks.drawn import Drawn
from benchmarks.report import finish, progress_bar, table
from catalogue import EdgeCatalogue, Entry
from retriever import Retriever
from specification import Specification

FOUND = 10
BATCH = 64
SAME = 1e-3
QUIET_SECONDS = 10.0
PHASES = ("before", "writing", "building", "after")


def main() -> None:
    parser = arguments(__doc__, 100_000)
    parser.add_argument("--fresh", type=int, default=25_000, help="learnwares that are written meanwhile")
    options = parser.parse_args()
    drawer, words = source(options.data, options.seed)
    tasks = drawer.draw(300, np.random.default_rng(options.seed + 1))
    fresh = drawer.draw(options.fresh, np.random.default_rng(options.seed + 2))
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)) / f"living-{options.size}-{options.seed}"
        drawn = drawn_in(folder, options.size, drawer, options.seed)
        place, _ = catalogue_of(folder, drawn, tags_of(len(drawn), options.seed))
        with EdgeCatalogue.open(place) as catalogue:
            results = _live(catalogue, tasks, fresh)
    finish("living_catalogue", {"texts": words, "learnwares": options.size, **results})


def _live(catalogue: EdgeCatalogue, tasks: Drawn, fresh: Drawn) -> dict[str, object]:
    identity = catalogue.settings.encoder
    asked = [specify(tasks, place, identity) for place in range(len(tasks))]
    retriever = Retriever(catalogue, None)  # type: ignore[arg-type]
    searching = _Searching(retriever, asked)
    index, missed, waits = catalogue._index, 0, []
    time.sleep(QUIET_SECONDS)
    searching.phase = "writing"
    written = [
        Entry(row.learnware.model_copy(update={"id": row.learnware.id[::-1]}), Specification.from_bytes(row.file))
        for row in rows(fresh, identity, tags_of(len(fresh), 7), seed=7)
    ]
    with progress_bar("writing", "learnwares") as progress:
        for start in range(0, len(written), BATCH):
            part = written[start : start + BATCH]
            begun = time.perf_counter()
            catalogue.upsert(part)
            waits.append(time.perf_counter() - begun)
            ranked = retriever.search(part[-1].specification, FOUND).ranked
            # Among equal ones any ten are right.
            known = part[-1].learnware.id in {item.learnware.id for item in ranked}
            missed += not known and ranked[-1].mmd > SAME
            progress(start + len(part), len(written))
    gone = written[5].learnware.id
    catalogue.delete([gone])
    searching.phase = "building"
    begun = time.perf_counter()
    _until(lambda: catalogue._index is not index)
    seconds = time.perf_counter() - begun
    searching.phase = "after"
    time.sleep(QUIET_SECONDS)
    searching.stop()
    lines = [searching.line(phase) for phase in PHASES]
    table(
        f"searches beside a writer: {len(written) / sum(waits):.0f} learnwares/s written, {missed} not found at "
        f"once, {len(catalogue.get([gone]))} deleted still there; new index {seconds:.0f} s after the last write",
        ["phase", "searches", "failed", "p50 ms", "p99 ms", "longest ms"],
        lines,
    )
    return {"phases": lines, "not found at once": missed, "written a second": len(written) / sum(waits)}


class _Searching:
    """Searches in a thread until it is stopped; notes in which phase each search began."""

    def __init__(self, retriever: Retriever, asked: list[Specification]) -> None:
        self.phase = PHASES[0]
        self._seconds: dict[str, list[float]] = {phase: [] for phase in PHASES}
        self._failed: dict[str, int] = dict.fromkeys(PHASES, 0)
        self._over = threading.Event()
        for task in asked[:20]:
            retriever.search(task, FOUND)
        retriever.warm_searches()
        self._thread = threading.Thread(target=self._search, args=(retriever, asked))
        self._thread.start()

    def _search(self, retriever: Retriever, asked: list[Specification]) -> None:
        number = 0
        while not self._over.is_set():
            number, phase, begun = number + 1, self.phase, time.perf_counter()
            try:
                self._failed[phase] += len(retriever.search(asked[number % len(asked)], FOUND).ranked) < FOUND
            except Exception:
                self._failed[phase] += 1
            self._seconds[phase].append(time.perf_counter() - begun)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def line(self, phase: str) -> list[object]:
        seconds = self._seconds[phase]
        middle, late = 1000 * np.quantile(seconds, [0.5, 0.99])
        return [phase, len(seconds), self._failed[phase], middle, late, 1000 * max(seconds)]


def _until(done: Callable[[], bool]) -> None:
    while not done():
        time.sleep(0.05)


if __name__ == "__main__":
    main()
