"""Parameter vectors beside text match, in the demo's world: who finds the learnware that fits, at what cost.

    python -m benchmarks.parameter_vectors --steps 100
    python -m benchmarks.parameter_vectors --world conventions --forms gradient adaptive

The proxy is the demo's base model, which the project trains itself. In the world ``tasks`` twelve learnwares are
specified from their own training examples, seventeen users' tasks from theirs, in wording that no learnware saw;
fourteen have a learnware. In the world ``conventions`` each of the twelve is there three times, with the same
texts and other answers ("positive", "good", "bullish"), and so are their users: text cannot tell the three apart.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from scipy.stats import spearmanr

from benchmarks.report import arguments, finish, progress_bar, table
from benchmarks.shelf import CachedEncoder, shelve
from catalogue.schema import PARAMETER_VECTOR
from slmdock.demo.models import SCALES, DemoModels, build_models
from slmdock.demo.texts import CONVENTIONS, LEARNWARE_TASKS, USER_TASKS, convention_examples
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
FORMS = ("gradient", "adaptive", "tuned", "tuned without L1")


@dataclass(frozen=True)
class World:
    """Examples of learnwares and of tasks by name, and the learnwares that are right for a task."""

    learnwares: dict[str, list[Example]]
    tasks: dict[str, list[Example]]
    right: dict[str, tuple[str, ...]]


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
    parser.add_argument("--world", choices=("tasks", "conventions"), default="tasks", help="who is searched")
    parser.add_argument("--forms", choices=FORMS, nargs="+", default=FORMS, help="of vectors")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="of the tuned form")
    chosen = parser.parse_args()
    folder = chosen.models or cache_folder() / "demo" / chosen.scale / "models"
    models = build_models(folder, SCALES[chosen.scale], progress=True)
    make = _tasks if chosen.world == "tasks" else _conventions
    world = make(models, chosen)
    results = _run(models, world, chosen)
    finish("parameter_vectors", results)


def _tasks(models: DemoModels, chosen: argparse.Namespace) -> World:
    """The demo's learnwares and users."""
    return World(
        {name: read_examples(file)[: chosen.examples] for name, file in models.examples.items()},
        {name: read_examples(file)[: chosen.task_examples] for name, file in models.users.items()},
        {name: task.sources for name, task in USER_TASKS.items()},
    )


def _conventions(models: DemoModels, chosen: argparse.Namespace) -> World:
    """Three learnwares a task that differ in their answers alone, and a user of each."""
    pairs = {f"{task}-{each}": (task, each) for task in LEARNWARE_TASKS for each in range(CONVENTIONS)}
    return World(
        {name: convention_examples(*pair, chosen.examples, chosen.seed) for name, pair in pairs.items()},
        {
            name: convention_examples(*pair, chosen.task_examples, chosen.seed, user=True)
            for name, pair in pairs.items()
        },
        {name: (name,) for name in pairs},
    )


def _run(models: DemoModels, world: World, chosen: argparse.Namespace) -> dict[str, object]:
    encoder = CachedEncoder()
    started = time.perf_counter()
    shelf = {name: specify(_texts(found), encoder, chosen.size) for name, found in world.learnwares.items()}
    asked = {name: specify(_texts(found), encoder, chosen.size) for name, found in world.tasks.items()}
    seconds = (time.perf_counter() - started) / len([*shelf, *asked])
    proxy = Proxy(str(models.base))
    made = {
        form: _make(proxy, recipe, world, form)
        for form, recipe in _recipes(chosen.steps, chosen.seed).items()
        if form in chosen.forms
    }
    plain = _search(encoder, shelf, asked)
    rows = [_row(TEXT, world, plain, seconds, max(len(each.to_bytes()) for each in shelf.values()))]
    agreement: dict[str, Any] = {}
    for form, vectors in made.items():
        alone = {name: _by_cosine(vector, vectors.learnwares) for name, vector in vectors.tasks.items()}
        both = _search(encoder, _joined(shelf, vectors.learnwares), _joined(asked, vectors.tasks))
        size = max(len(vector.tensors()["vector"].tobytes()) for vector in vectors.learnwares.values())
        rows += [_row(form, world, alone, vectors.seconds, size), _row(f"{form} + text", world, both, None, None)]
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


def _make(proxy: Proxy, recipe: Recipe, world: World, label: str) -> Made:
    started = time.perf_counter()
    every = [*world.learnwares.items(), *world.tasks.items()]
    vectors = []
    with progress_bar(label, "vectors") as progress:
        for done, (_, examples) in enumerate(every, 1):
            vectors.append(specify_parameters(examples, proxy, recipe))
            progress(done, len(every))
    return Made(
        dict(zip(world.learnwares, vectors, strict=False)),
        dict(zip(world.tasks, vectors[len(world.learnwares) :], strict=True)),
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


def _row(
    label: str, world: World, rankings: Mapping[str, list[str]], seconds: float | None, size: int | None
) -> dict[str, Any]:
    own = {name: world.right[name] for name in rankings if world.right[name]}
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
    names = ("world", "scale", "examples", "task_examples", "steps", "seed")
    return {name: getattr(chosen, name) for name in names}


def _texts(examples: Sequence[Example]) -> list[str]:
    return [example.text for example in examples]


if __name__ == "__main__":
    main()
