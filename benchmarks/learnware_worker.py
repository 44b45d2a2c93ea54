"""Runs inside the learnware package's own environment; knows nothing of this project.

python learnware_worker.py reduce|sketch|search given.npz answer.npz '{"gamma": 2.0, ...}'
"""

import json
import resource
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from learnware.market.easy.searcher import EasyStatSearcher
from learnware.specification import RKMETableSpecification
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

NAME = "RKMETableSpecification"


def reduce(given: Arrays, options: dict[str, float]) -> tuple[dict[str, Any], Arrays]:
    """Reduced sets of ``sample`` at one size, ``repeats`` times."""
    size, seconds = int(options["size"]), []
    for seed in range(int(options["repeats"]) + 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        sample = given["sample"].astype(np.float64)
        started = time.perf_counter()
        made = RKMETableSpecification(gamma=options["gamma"], cuda_idx=-1)
        made.generate_stat_spec_from_data(sample, K=size)
        seconds.append(time.perf_counter() - started)
    return {"seconds": seconds[1:]}, {"points": made.get_z(), "weights": made.get_beta()}


def sketch(given: Arrays, options: dict[str, float]) -> tuple[dict[str, Any], Arrays]:
    """The reduced set of every sample, as ``RKMETextSpecification`` makes it by default once texts are vectors."""
    made: Arrays = {}
    for name, sample in given.items():
        torch.manual_seed(0)
        np.random.seed(0)
        specification = RKMETableSpecification(cuda_idx=-1)
        specification.generate_stat_spec_from_data(sample.astype(np.float64))
        made |= {f"{name} points": specification.get_z(), f"{name} weights": specification.get_beta()}
    return {"gamma": specification.gamma}, made


def search(given: Arrays, options: dict[str, float]) -> tuple[dict[str, Any], Arrays]:
    """One task against many specifications, by the loop of its own searcher."""
    gamma = options["gamma"]
    task = _specification(given["task_points"], given["task_weights"], gamma)
    shelf = []
    for place, (points, weights) in enumerate(zip(given["points"], given["weights"], strict=True)):
        made = _specification(points, weights, gamma)
        holder = SimpleNamespace(get_stat_spec_by_name=lambda name, made=made: made)
        shelf.append(SimpleNamespace(id=str(place), specification=holder))
    searcher = EasyStatSearcher(organizer=None)
    searcher.stat_spec_type = NAME
    searcher._search_by_rkme_spec_single(shelf[:100], task)
    seconds = []
    for _ in range(int(options["repeats"])):
        started = time.perf_counter()
        distances, found = searcher._search_by_rkme_spec_single(shelf, task)
        seconds.append(time.perf_counter() - started)
    best = [int(item.id) for item in found[:10]]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": seconds, "gigabytes": memory}, {
        "best": np.array(best),
        "distances": np.array(distances[:10]),
    }


def _specification(points: NDArray[Any], weights: NDArray[Any], gamma: float) -> Any:
    made = RKMETableSpecification(gamma=gamma, cuda_idx=-1)
    made.z = torch.from_numpy(points.astype(np.float64))
    made.beta = torch.from_numpy(weights.astype(np.float64))
    made.num_points = len(points)
    return made


if __name__ == "__main__":
    task, given_file, answer_file, options = sys.argv[1:]
    with np.load(given_file) as arrays:
        answer, results = {"reduce": reduce, "sketch": sketch, "search": search}[task](
            dict(arrays), json.loads(options)
        )
    np.savez(answer_file, allow_pickle=False, **results)
    print(json.dumps(answer))
