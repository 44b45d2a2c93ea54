"""A catalogue of up to a million learnwares on one machine: ingest, index, the whole search, recall, memory, disk.

    python -m benchmarks.catalogue --size 1000 [--size 1000000 …] [--data DIR] [--folder DIR]

Learnwares are drawn (see ``benchmarks.drawn``); the exact MMD over the whole catalogue is the judge. Searches run
in a process of their own, one at a time, after a warm-up with other tasks; then the same tasks again, whose
learnwares' files are in memory by then.
"""

import argparse
import json
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.catalogue_data import SHARES, Masks, arguments, distances, rows, source, specify, tags_of
from benchmarks.drawn import Drawn, Source
from benchmarks.report import finish, progress_bar, resident, table
from catalogue import CatalogueSettings, EdgeCatalogue, Row, parse_filter
from retriever import Retriever
from specification import SentenceEncoder
from specification.kernel import Floats

FOUND = 10
WARM_UP = 20
BATCH = 2000
TIE = 1e-6
POINTS, WEIGHTS = "points.npy", "weights.npy"


def main() -> None:
    parser = arguments(__doc__, 1000, 10_000, 100_000)
    parser.add_argument("--tasks", type=int, default=100, help="tasks judged by the exact answer")
    parser.add_argument("--queries", type=int, default=300, help="searches that are timed")
    options = parser.parse_args()
    drawer, words = source(options.data, options.seed)
    tasks = drawer.draw(options.queries, np.random.default_rng(options.seed + 1))
    results: dict[str, Any] = {"texts": words}
    with tempfile.TemporaryDirectory() as temporary:
        for size in options.size:
            folder = (options.folder or Path(temporary)) / f"{size}-{options.seed}"
            drawn = drawn_in(folder, size, drawer, options.seed)
            results[str(size)] = _measured(drawn, tasks, folder, options)
    finish("catalogue", results)


def drawn_in(folder: Path, size: int, drawer: Source, seed: int) -> Drawn:
    """Learnwares that were drawn before, or new ones; mapped from files, since a million of them take 6 GB."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / WEIGHTS).exists():
        with progress_bar("drawing", "learnwares") as progress:
            drawn = drawer.draw(size, np.random.default_rng((seed, size)), progress)
        np.save(folder / POINTS, drawn.points)
        np.save(folder / WEIGHTS, drawn.weights)
    return kept_in(folder)


def kept_in(folder: Path) -> Drawn:
    """The learnwares that were drawn for a folder."""
    return Drawn(np.load(folder / POINTS, mmap_mode="r"), np.load(folder / WEIGHTS))


def _measured(drawn: Drawn, tasks: Drawn, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    tags = tags_of(len(drawn), options.seed)
    place, figures = catalogue_of(folder, drawn, tags, options.seed)
    judged = Drawn(tasks.points[: options.tasks], tasks.weights[: options.tasks])
    exact = distances(drawn, judged)
    disk = sum(file.stat().st_blocks * 512 for file in place.rglob("*") if file.is_file())
    lines: list[list[object]] = []
    for name, where in {"": "", **{tag: f"tags={tag}" for tag in SHARES}}.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, found, memory, opened = pool.apply(_search, (place, tasks, where))
        allowed = tags[name] if name else np.ones(len(drawn), dtype=bool)
        recall = _recall(found[: options.tasks], exact, allowed)
        figures_of = [figure for each in seconds for figure in 1000 * np.quantile(each, [0.5, 0.99, 1])]
        lines.append([name or "none", *figures_of, recall, memory, opened])
    table(
        f"{len(drawn)} learnwares: {figures['rate']:.0f}/s durable, {figures['index']:.1f} s for the index, "
        f"{disk / len(drawn) / 1000:.2f} kB on disk each",
        [
            "filter",
            "p50 ms",
            "p99 ms",
            "longest",
            "again p50",
            "p99",
            "longest",
            f"recall@{FOUND}",
            "resident GB",
            "opened s",
        ],
        lines,
    )
    return {**figures, "bytes": disk / len(drawn), "searches": lines}


def catalogue_of(folder: Path, drawn: Drawn, tags: Masks, seed: int = 0) -> tuple[Path, dict[str, float]]:
    """Returns the folder of a catalogue of these learnwares, made before or now, and the figures of its making."""
    note, place = folder / "made.json", folder / "catalogue"
    if not note.exists():
        shutil.rmtree(place, ignore_errors=True)
        note.write_text(json.dumps(_ingest(drawn, tags, place, seed)))
    figures: dict[str, float] = json.loads(note.read_text())
    return place, figures


def _ingest(drawn: Drawn, tags: Masks, place: Path, seed: int) -> dict[str, float]:
    encoder = SentenceEncoder().identity
    spent, batch = 0.0, list[Row]()
    with EdgeCatalogue.open(place, CatalogueSettings.of(encoder)) as catalogue:
        with progress_bar("loading", "learnwares") as progress:
            for done, row in enumerate(rows(drawn, encoder, tags, seed), 1):
                batch.append(row)
                if len(batch) == BATCH or done == len(drawn):
                    started = time.perf_counter()
                    catalogue.load(batch)
                    spent += time.perf_counter() - started
                    batch = []
                    progress(done, len(drawn))
        started = time.perf_counter()
        with progress_bar("index", "learnwares") as progress:
            catalogue.settle(progress)
        return {"rate": len(drawn) / spent, "index": time.perf_counter() - started}


def _search(folder: Path, tasks: Drawn, where: str) -> tuple[list[list[float]], list[list[str]], float, float]:
    """In a fresh process: seconds of each search, the first time and again, names found, GB, seconds to open."""
    started = time.perf_counter()
    catalogue = EdgeCatalogue.open(folder)
    opened = time.perf_counter() - started
    retriever = Retriever(catalogue, None)  # type: ignore[arg-type]
    identity, condition = catalogue.settings.encoder, parse_filter(where)
    asked = [specify(tasks, place, identity) for place in range(len(tasks))]
    for task in asked[-WARM_UP:]:
        retriever.search(task, FOUND, condition)
    retriever.warm_searches()
    seconds, found = [list[float](), list[float]()], list[list[str]]()
    for turn in seconds:
        found.clear()
        for task in asked:
            begun = time.perf_counter()
            ranking = retriever.search(task, FOUND, condition)
            turn.append(time.perf_counter() - begun)
            found.append([item.learnware.name for item in ranking.ranked])
    memory = resident()
    catalogue.close()
    return seconds, found, memory, opened


def _recall(found: list[list[str]], exact: Floats, allowed: NDArray[np.bool_]) -> float:
    """The share of the ten found that are as near as the exact tenth; equal distances count as found."""
    shares = []
    for names, own in zip(found, exact, strict=False):
        best = np.partition(own[allowed], min(FOUND, allowed.sum()) - 1)[:FOUND]
        places = [int(name.rpartition("-")[2]) for name in names]
        shares.append(np.mean(own[places] <= best.max() + TIE) * len(places) / min(FOUND, allowed.sum()))
    return float(np.mean(shares))


if __name__ == "__main__":
    main()
