"""Reduced sets beside ``RKMETableSpecification`` of the PyPI package learnware: time, and MMD to the sample.

Both get the same 5 000 x 384 embeddings, the same number of points and the same kernel; the median of several
runs after a warm-up. The peer runs in its own virtual environment, made on first use.

    python -m benchmarks.reduced_set [--data DIR]
"""

import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.learnware_package import ask_peer
from benchmarks.report import arguments, finish, progress_bar, table
from benchmarks.sample import embeddings
from specification import DEFAULT_GAMMA, DEFAULT_SIZE, ReducedSet, mmd, reduce
from specification.kernel import Floats

COUNT = 5000


def main() -> None:
    parser = arguments(__doc__, data=False)
    parser.add_argument("--data", type=Path, default=None, help="folder of real texts; without it, drawn vectors")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    sample, words = embeddings(COUNT, options.data, options.seed)
    sizes = [options.size] if options.size else sorted({4, 8, 16, 32, 100, DEFAULT_SIZE})
    rows = []
    with progress_bar("sizes") as progress:
        for done, size in enumerate(sizes):
            progress(done, len(sizes))
            rows.append(_row(sample, size, options.repeats))
    columns = ("points", "ours, s", "peer, s", "times faster", "our MMD", "peer's MMD")
    keys = ("points", "seconds", "peer_seconds", "ratio", "mmd", "peer_mmd")
    table(
        f"Reduced sets of {words}, γ = {DEFAULT_GAMMA:g}",
        columns,
        [[_cell(row[key]) for key in keys] for row in rows],
    )
    finish("reduced_set", {"sample": words, "gamma": DEFAULT_GAMMA, "rows": rows})


def _row(sample: Floats, size: int, repeats: int) -> dict[str, Any]:
    reduce(sample, size)
    seconds = []
    for seed in range(repeats):
        started = time.perf_counter()
        ours = reduce(sample, size, seed=seed)
        seconds.append(time.perf_counter() - started)
    answer, found = ask_peer("reduce", {"sample": sample}, size=size, gamma=DEFAULT_GAMMA, repeats=repeats)
    peer = ReducedSet(found["points"].astype(np.float32), found["weights"].astype(np.float32))
    whole = ReducedSet(sample, np.full(len(sample), 1 / len(sample), dtype=np.float32))
    return {
        "points": size,
        "seconds": median(seconds),
        "peer_seconds": median(answer["seconds"]),
        "ratio": median(answer["seconds"]) / median(seconds),
        "mmd": mmd(whole, ours),
        "peer_mmd": mmd(whole, peer),
    }


def _cell(value: float) -> object:
    return f"{value:.3f}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
