"""Parameter vectors beside text match, in the demo's world: who finds the learnware that fits, at what cost.

    python -m benchmarks.parameter_vectors --steps 100

The proxy is the demo's base model, which the project trains itself. Twelve learnwares are specified from their own
training examples, seventeen users' tasks from theirs, in wording that no learnware saw; fourteen have a learnware.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.report import arguments, finish, progress_bar, table
from benchmarks.shelf import CachedEncoder, shelve
from catalogue.schema import PARAMETER_VECTOR
from slmdock.demo.models import SCALES, DemoModels, build_models
from slmdock.demo.texts import USER_TASKS
from slmdock.dock import cache_folder
from specification import (
    Example,
    ParameterVector,
    Recipe,
    Specification,
    Tuning,
    read_examples,
    specify,
)
from specification.parameter_vector import DEFAULT_STEPS
from specification.proxy import Proxy
from specification.proxy_training import specify_parameters

TEXT = "text match"


@dataclass(frozen=True)
class Made:
    """The vectors of one form, by learnware and by task, and the seconds a vector took."""

    learnwares: dict[str, ParameterVector]
    tasks: dict[str, ParameterVector]
    seconds: float


def main() -> None:
    parser = arguments(__doc__, data=False)
    parser.add_argument("--scale", choices=sorted(SCALES), default="full", help="of the demo's models")
    parser.add_argument("--models", type=Path, help="where they are kept; default: the demo's cache")
    parser.add_argument("--examples", type=int, default=48, help="of a learnware")
    parser.add_argument("--task-examples", type=int, default=16, help="of a task")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="of the tuned form")
    chosen = parser.parse_args()
    folder = chosen.models or cache_folder() / "demo" / chosen.scale / "models"
    models = build_models(folder, SCALES[chosen.scale], progress=True)
    learnwares = {name: read_examples(file)[: chosen.examples] for name, file in models.examples.items()}
    tasks = {name: read_examples(file)[: chosen.task_examples] for name, file in models.users.items()}
    results = _run(models, learnwares, tasks, chosen)
    finish("parameter_vectors", results)


def _run(
    models: DemoModels,
    learnwares: Mapping[str, Sequence[Example]],
    tasks: Mapping[str, Sequence[Example]],
    chosen: argparse.Namespace,
) -> dict[str, object]:
    encoder = CachedEncoder()
    started = time.perf_counter()
    shelf = {name: specify(_texts(found), encoder, chosen.size) for name, found in learnwares.items()}
    asked = {name: specify(_texts(found), encoder, chosen.size) for name, found in tasks.items()}
    seconds = (time.perf_counter() - started) / len([*shelf, *asked])
    proxy = Proxy(str(models.base))
    made = {
        form: _make(proxy, recipe, learnwares, tasks, form)
        for form, recipe in _recipes(chosen.steps, chosen.seed).items()
    }
    plain = _search(encoder, shelf, asked)
    rows = [_row(TEXT, plain, seconds, max(len(each.to_bytes()) for each in shelf.values()))]
    agreement: dict[str, Any] = {}
    for form, vectors in made.items():
        alone = {name: _by_cosine(vector, vectors.learnwares) for name, vector in vectors.tasks.items()}
        both = _search(encoder, _joined(shelf, vectors.learnwares), _joined(asked, vectors.tasks))
        size = max(len(vector.tensors()["vector"].tobytes()) for vector in vectors.learnwares.values())
        rows += [_row(form, alone, vectors.seconds, size), _row(f"{form} + text", both, None, None)]
        agreement[form] = {other: _correlation(vectors, made[other]) for other in made} | {
            "projection": _projected(encoder, _joined(shelf, vectors.learnwares), vectors)
        }
    _show(rows, agreement, chosen)
    return {"rows": rows, "agreement": agreement, **_settings(chosen)}


def _recipes(steps: int, seed: int) -> dict[str, Recipe]:
    return {
        "gradient": Recipe(form="gradient", seed=seed),
        "adaptive": Recipe(form="adaptive", seed=seed),
        "tuned": Recipe(form="tuned", seed=seed, tuning=Tuning(steps=steps)),
        "tuned without L1": Recipe(form="tuned", seed=seed, tuning=Tuning(steps=steps, l1=0)),
    }


def _make(
    proxy: Proxy,
    recipe: Recipe,
    learnwares: Mapping[str, Sequence[Example]],
    tasks: Mapping[str, Sequence[Example]],
    label: str,
) -> Made:
    started = time.perf_counter()
    every = [*learnwares.items(), *tasks.items()]
    vectors = []
    with progress_bar(label, "vectors") as progress:
        for done, (_, examples) in enumerate(every, 1):
            vectors.append(specify_parameters(examples, proxy, recipe))
            progress(done, len(every))
    return Made(
        dict(zip(learnwares, vectors, strict=False)),
        dict(zip(tasks, vectors[len(learnwares) :], strict=True)),
        (time.perf_counter() - started) / len(every),
    )


def _search(
    encoder: CachedEncoder, shelf: Mapping[str, Specification], asked: Mapping[str, Specification]
) -> dict[str, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        retriever = shelve(Path(folder) / "catalogue", encoder, shelf)
        with retriever.catalogue:
            return {
                name: [item.learnware.name for item in retriever.search(task, len(shelf)).ranked]
                for name, task in asked.items()
            }


def _projected(encoder: CachedEncoder, shelf: Mapping[str, Specification], vectors: Made) -> float:
    """The mean rank correlation of the catalogue's search in projected vectors with the exact cosines."""
    with tempfile.TemporaryDirectory() as folder:
        catalogue = shelve(Path(folder) / "catalogue", encoder, shelf).catalogue
        with catalogue:
            found = []
            for vector in vectors.tasks.values():
                hits = catalogue.nearest(vector.projection, len(shelf), using=PARAMETER_VECTOR)
                names = [item.name for item in catalogue.get([hit.id for hit in hits])]
                exact = [vector.cosine(vectors.learnwares[name]) for name in names]
                found.append(float(spearmanr(-np.arange(len(names)), exact).statistic))
    return float(np.mean(found))


def _joined(
    shelf: Mapping[str, Specification], vectors: Mapping[str, ParameterVector]
) -> dict[str, Specification]:
    return {name: replace(made, parameters=vectors[name]) for name, made in shelf.items()}


def _by_cosine(task: ParameterVector, learnwares: Mapping[str, ParameterVector]) -> list[str]:
    return sorted(learnwares, key=lambda name: -task.cosine(learnwares[name]))


def _correlation(one: Made, other: Made) -> float:
    """Spearman's rank correlation of the learnwares' cosines in two forms, mean over tasks."""
    rows = []
    for task in one.tasks:
        pair = [[made.tasks[task].cosine(vector) for vector in made.learnwares.values()] for made in (one, other)]
        rows.append(float(spearmanr(*pair).statistic))
    return float(np.mean(rows))


def _row(label: str, rankings: Mapping[str, list[str]], seconds: float | None, size: int | None) -> dict[str, Any]:
    own = {name: USER_TASKS[name].sources for name in rankings if USER_TASKS[name].sources}
    ranks = [min(rankings[name].index(source) for source in sources) + 1 for name, sources in own.items()]
    return {
        "selection": label,
        "right": sum(rank == 1 for rank in ranks),
        "of": len(ranks),
        "reciprocal_rank": float(np.mean([1 / rank for rank in ranks])),
        "seconds": seconds,
        "bytes": size,
        "wrong": [name for name, rank in zip(own, ranks, strict=True) if rank > 1],
    }


def _show(rows: list[dict[str, Any]], agreement: dict[str, Any], chosen: argparse.Namespace) -> None:
    columns = ("selection", "right", "of", "reciprocal_rank", "seconds", "bytes")
    title = f"{json.dumps(_settings(chosen))}; seconds a specification, bytes of the vector (text: the file)"
    table(title, columns, [[row[column] for column in columns] for row in rows])
    forms = list(agreement)
    table(
        "rank correlation of the cosines between forms, and of the projected search with the exact cosines",
        ("form", *forms, "projection"),
        [[form, *(agreement[form][other] for other in (*forms, "projection"))] for form in forms],
    )


def _settings(chosen: argparse.Namespace) -> dict[str, object]:
    names = ("scale", "examples", "task_examples", "steps", "seed")
    return {name: getattr(chosen, name) for name in names}


def _texts(examples: Sequence[Example]) -> list[str]:
    return [example.text for example in examples]


if __name__ == "__main__":
    main()
