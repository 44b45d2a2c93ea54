"""Ours beside others, in one run: time and memory of one search as the catalogue grows, and a plot of it.

    python -m benchmarks.catalogue_beside [--size 1000 10000 100000] [--data DIR] [--folder DIR] [--plot FILE]

Exact MMD in numpy, qdrant-client's local mode, the searcher of the package learnware, and this project's whole
search on the same drawn learnwares and tasks. Each runs in a process of its own; the last two columns are its
memory at the end and, from the size before, the exponent with which its time grows.
"""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import QdrantClient

from benchmarks.catalogue import WARM_UP, catalogue_of, drawn_in, kept_in
from benchmarks.catalogue_data import arguments, distances, rows, source, specify, tags_of
from benchmarks.drawn import Drawn
from benchmarks.learnware_package import ask_peer
from benchmarks.report import finish, resident, table
from catalogue import Catalogue, CatalogueSettings, EdgeCatalogue
from catalogue.server import ServerCatalogue
from retriever import Retriever
from specification import DEFAULT_GAMMA, SentenceEncoder

FOUND = 10
OURS = "slmdock, Qdrant Edge"
LARGEST = {"qdrant-client, local mode": 10_000, "learnware 0.4.0.post1": 10_000}
"""How far each of the others gets in a few minutes."""

Measured = tuple[float, float]
"""Median seconds of a search, and gigabytes of the process."""
Search = Callable[[Path, Drawn], Measured]
"""Measures searches for tasks among the learnwares that a folder holds."""


def main() -> None:
    parser = arguments(__doc__, 1000, 10_000, 100_000)
    parser.add_argument("--plot", type=Path, default=None, help="where the plot is written (SVG)")
    options = parser.parse_args()
    drawer, words = source(options.data, options.seed)
    tasks = drawer.draw(60, np.random.default_rng(options.seed + 1))
    found: dict[str, dict[int, Measured]] = {name: {} for name in SYSTEMS}
    with tempfile.TemporaryDirectory() as temporary:
        for size in sorted(options.size):
            folder = (options.folder or Path(temporary)) / f"{size}-{options.seed}"
            drawn = drawn_in(folder, size, drawer, options.seed)
            catalogue_of(folder, drawn, tags_of(size, options.seed), options.seed)
            for name, search in SYSTEMS.items():
                if size <= LARGEST.get(name, size):
                    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                        found[name][size] = process.submit(search, folder, tasks).result()
                    print(f"{name}, {size}: {1000 * found[name][size][0]:.1f} ms", file=sys.stderr, flush=True)
    lines = [line for name, by_size in found.items() for line in _lines(name, by_size)]
    table(f"one search; {words}", ["system", "learnwares", "ms", "GB", "grows with n^"], lines)
    if options.plot:
        _plot(found, options.plot)
    finish("catalogue_beside", {"texts": words, "rows": lines})


def _lines(name: str, by_size: dict[int, Measured]) -> list[list[object]]:
    lines: list[list[object]] = []
    for place, (size, (seconds, memory)) in enumerate(by_size.items()):
        growth = None
        if place:
            before = list(by_size)[place - 1]
            growth = float(np.log(seconds / by_size[before][0]) / np.log(size / before))
        lines.append([name, size, 1000 * seconds, memory, growth])
    return lines


def _exact(folder: Path, tasks: Drawn) -> Measured:
    drawn = kept_in(folder)
    held = Drawn(np.array(drawn.points), drawn.weights)
    ones = [Drawn(tasks.points[place : place + 1], tasks.weights[place : place + 1]) for place in range(4)]
    return _timed([partial(distances, held, one) for one in ones], 1)


def _ours(folder: Path, tasks: Drawn) -> Measured:
    with EdgeCatalogue.open(folder / "catalogue") as catalogue:
        return _searched(catalogue, tasks, WARM_UP)


def _local_mode(folder: Path, tasks: Drawn) -> Measured:
    drawn, encoder = kept_in(folder), SentenceEncoder().identity
    with tempfile.TemporaryDirectory() as place:
        catalogue = ServerCatalogue(QdrantClient(path=place), CatalogueSettings.of(encoder))
        catalogue.load(list(rows(drawn, encoder, tags_of(len(drawn), 0), 0)))
        with catalogue:
            return _searched(catalogue, tasks, 1)


def _searched(catalogue: Catalogue, tasks: Drawn, warm_up: int) -> Measured:
    retriever = Retriever(catalogue, None)  # type: ignore[arg-type]
    retriever.warm_searches()
    asked = [specify(tasks, place, catalogue.settings.encoder) for place in range(len(tasks))]
    return _timed([partial(retriever.search, task, FOUND) for task in asked], warm_up)


def _learnware(folder: Path, tasks: Drawn) -> Measured:
    drawn, task = kept_in(folder), tasks.reduced(0)
    arrays: dict[str, NDArray[Any]] = {
        "task_points": task.points, "task_weights": task.weights, "points": np.array(drawn.points),
              "weights": drawn.weights}  # fmt: skip
    answer, _found = ask_peer("search", arrays, gamma=DEFAULT_GAMMA, repeats=2)
    return median(answer["seconds"]), answer["gigabytes"]


def _timed(searches: Sequence[Callable[[], object]], warm_up: int) -> Measured:
    seconds = []
    for search in searches:
        started = time.perf_counter()
        search()
        seconds.append(time.perf_counter() - started)
    return median(seconds[warm_up:]), resident()


def _plot(found: dict[str, dict[int, Measured]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, title, place, factor in zip(
        figure.subplots(1, 2), ("one search, ms", "memory of the process, GB"), (0, 1), (1000, 1), strict=True
    ):
        for name, by_size in found.items():
            style = {"linewidth": 2.5} if name == OURS else {"linewidth": 1.2, "linestyle": "--"}
            values = [factor * measured[place] for measured in by_size.values()]
            axes.loglog(list(by_size), values, marker="o", label=name, **style)
        axes.set_xlabel("learnwares")
        axes.set_title(title, loc="left")
        axes.grid(True, which="major", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    figure.savefig(file)


SYSTEMS: dict[str, Search] = {
    OURS: _ours,
    "numpy, exact": _exact,
    "qdrant-client, local mode": _local_mode,
    "learnware 0.4.0.post1": _learnware,
}

if __name__ == "__main__":
    main()
