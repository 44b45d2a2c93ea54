"""One task against many specifications: ours, exact and in two stages, and the searcher of the package learnware.

Specifications are reduced sets of overlapping neighbourhoods of the embeddings. The two-stage search goes
through the real catalogue and retriever; its ten best are compared with the exact ones.

    python -m benchmarks.match [--data DIR] [--learnwares 10000]
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.learnware_package import ask_peer
from benchmarks.report import arguments, finish, progress_bar, table
from benchmarks.sample import embeddings
from benchmarks.shelf import CachedEncoder, shelve
from retriever import Ranking
from specification import (
    DEFAULT_GAMMA,
    DEFAULT_SIZE,
    Progress,
    ReducedSet,
    Section,
    Specification,
    compare,
    no_progress,
    reduce,
)
from specification.kernel import Floats

TEXTS = 64
TASKS = 10
FOUND = 10


class WordlessEncoder(CachedEncoder):
    """Gives every description the same vector: they are not searched here, and 10 000 would take minutes."""

    def encode(self, texts: Sequence[str], progress: Progress = no_progress) -> Floats:
        return np.repeat(super().encode(["no description"]), len(texts), axis=0)


def main() -> None:
    parser = arguments(__doc__, data=False)
    parser.add_argument("--data", type=Path, default=None, help="folder of real texts; without it, drawn vectors")
    parser.add_argument("--learnwares", type=int, default=10_000)
    options = parser.parse_args()
    size = options.size or DEFAULT_SIZE
    sample, words = embeddings(5000, options.data, options.seed)
    generator = np.random.default_rng(options.seed)
    with progress_bar("specifications") as progress:
        shelf = []
        for done in range(options.learnwares + TASKS):
            shelf.append(reduce(_neighbourhood(sample, generator), min(size, TEXTS // 2)))
            progress(done, options.learnwares + TASKS)
    tasks, shelf = shelf[:TASKS], shelf[TASKS:]
    seconds, agreement = _ours(tasks, shelf)
    peer, _ = ask_peer("search", _arrays(tasks[0], shelf), gamma=DEFAULT_GAMMA, repeats=2)
    seconds["searcher of learnware 0.4.0.post1"] = median(peer["seconds"])
    slowest = seconds["searcher of learnware 0.4.0.post1"]
    rows = [(name, f"{1000 * each:.1f}", f"{slowest / each:.0f}") for name, each in seconds.items()]
    table(
        f"One task against {len(shelf)} specifications of at most {size} points ({words})",
        ("search", "ms a task", "times faster"),
        rows,
    )
    print(f"recall@{FOUND} of the two stages against exact MMD: {agreement:.3f}")
    finish("match", {"learnwares": len(shelf), "points": size, "seconds": seconds, "recall_at_10": agreement})


def _ours(tasks: list[ReducedSet], shelf: list[ReducedSet]) -> tuple[dict[str, float], float]:
    """Median seconds a task of each of our ways, and the two stages' recall."""
    encoder = WordlessEncoder()
    identity = encoder.identity

    def specification(reduced: ReducedSet) -> Specification:
        section = Section(encoder=identity, sample_size=TEXTS, compression_error=0.0, gamma=DEFAULT_GAMMA)
        return Specification(reduced, section)

    with tempfile.TemporaryDirectory() as folder:
        named = {f"learnware-{place}": specification(each) for place, each in enumerate(shelf)}
        retriever = shelve(Path(folder) / "catalogue", encoder, named)
        asked = [specification(task) for task in tasks]
        two_stages, found = _timed(lambda task: retriever.search(task, FOUND), asked)
        from_catalogue, exact = _timed(lambda task: retriever.search_exactly(task, FOUND), asked)
        in_memory = []
        for task in tasks:
            started = time.perf_counter()
            compare(task, shelf).mmd.argsort()
            in_memory.append(time.perf_counter() - started)
        retriever.catalogue.close()
    shared = [_ids(left) & _ids(right) for left, right in zip(found, exact, strict=True)]
    return {
        "ours, two stages (Retriever.search)": two_stages,
        "ours, exact in memory (compare)": median(in_memory),
        "ours, exact from the catalogue (Retriever.search_exactly)": from_catalogue,
    }, float(np.mean([len(each) / FOUND for each in shared]))


def _timed(search: Callable[[Specification], Ranking], tasks: list[Specification]) -> tuple[float, list[Ranking]]:
    search(tasks[0])
    rankings = [search(task) for task in tasks]
    return median(ranking.seconds for ranking in rankings), rankings


def _ids(ranking: Ranking) -> set[str]:
    return {item.learnware.id for item in ranking.ranked}


def _neighbourhood(sample: Floats, generator: np.random.Generator) -> Floats:
    """TEXTS of the 256 embeddings nearest to a random one."""
    near = np.argpartition(-(sample @ sample[generator.integers(len(sample))]), 256)[:256]
    chosen: Floats = sample[generator.choice(near, TEXTS, replace=False)]
    return chosen


def _arrays(task: ReducedSet, shelf: list[ReducedSet]) -> dict[str, np.ndarray]:
    """The same specifications as rectangular arrays, missing points with weight 0."""
    width = max(len(each) for each in shelf)
    points = np.stack([np.pad(each.points, ((0, width - len(each)), (0, 0))) for each in shelf])
    weights = np.stack([np.pad(each.weights, (0, width - len(each))) for each in shelf])
    return {"task_points": task.points, "task_weights": task.weights, "points": points, "weights": weights}


if __name__ == "__main__":
    main()
