"""The published score table: how good is the learnware that the dock would choose for each task?

    python -m benchmarks.paper_table --data DIR --domain finance

Learnwares are specified from ``<domain>/train``, tasks from ``<domain>/user``; the choice of the real retriever
over a real catalogue is scored by ``paper/<domain>.csv``. Quality signals for a task are the scores of all other
tasks, never its own. Two levels: training sets, the models of one averaged as the paper does, and single models,
each a learnware of its own. The yardstick of both is the oracle over training sets.
"""

import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.data import Domain, Scores, read_domain, read_scores
from benchmarks.shelf import CachedEncoder, fill, identify, shelve
from catalogue import Signal
from retriever import Ranked, Ranking, Retriever
from specification import Encoder, Specification, specify

Doubles = NDArray[np.float64]
Shelf = dict[str, Specification]
EQUAL = 1e-6


@dataclass(frozen=True)
class Level:
    """Learnwares by name with their specifications, and their scores [tasks, learnwares], NaN where unknown.

    ``tasks`` are all rows of the table, also those without texts.
    """

    name: str
    shelf: Shelf
    tasks: tuple[str, ...]
    values: Doubles

    def row(self, task: str) -> Doubles:
        found: Doubles = self.values[self.tasks.index(task)]
        return found


@dataclass(frozen=True)
class Asked:
    """The tasks that have texts: their specifications from all texts, and from fewer, by (task, number)."""

    tasks: Shelf
    fewer: Mapping[tuple[str, int], Sequence[Specification]]


@dataclass
class Chosen:
    """The mean score of what a rule chose for a task, and its name, by (level, rule, task)."""

    scores: dict[tuple[str, str, str], float] = field(default_factory=dict)
    names: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def rules(self) -> list[tuple[str, str]]:
        return list(dict.fromkeys((level, rule) for level, rule, _ in self.scores))

    def of(self, level: str, rule: str, tasks: Sequence[str]) -> Doubles:
        return np.array([self.scores[level, rule, task] for task in tasks])


def main() -> None:
    options = _options()
    domain = read_domain(options.data, options.domain, options.sample, options.seed)
    scores = read_scores(options.data, options.domain)
    encoder = CachedEncoder()
    shelf, asked = _specifications(domain, scores, encoder, options)
    chosen = Chosen()
    levels = _levels(scores, shelf, asked)
    for level in levels:
        with tempfile.TemporaryDirectory() as folder:
            measured = {task.digest: task for task in asked.tasks.values()}
            retriever = shelve(Path(folder), encoder, level.shelf, measured.get)
            with closing(retriever.catalogue):
                _ask(retriever, level, asked, chosen)
    _report(levels[0], levels[1], list(asked.tasks), chosen)


def _options() -> Namespace:
    parser = report.arguments(__doc__)
    parser.add_argument("--domain", default="finance", help="a folder in --data, and paper/<domain>.csv")
    parser.add_argument("--sample", type=int, default=128, help="texts of a file")
    parser.add_argument("--texts", type=int, nargs="*", default=[4, 8, 16, 32], help="sizes of smaller tasks")
    parser.add_argument("--draws", type=int, default=4, help="random draws of a smaller task's texts")
    return parser.parse_args()


def _specifications(domain: Domain, scores: Scores, encoder: Encoder, options: Namespace) -> tuple[Shelf, Asked]:
    """Specifications of the table's training sets and tasks; missing files are named and left out."""
    shelf: Shelf = {}
    asked = Asked({}, {})
    fewer: dict[tuple[str, int], list[Specification]] = {}
    wanted = {f"training set {name}": domain.training_set(name) for name in dict.fromkeys(scores.sets)}
    tasks = {name: domain.task(name) for name in scores.tasks}
    with report.progress_bar("encoding", "files") as progress:
        for done, (label, paths) in enumerate(wanted.items()):
            progress(done, len(wanted) + len(tasks))
            texts = [example.text for path in paths for example in domain.examples(path)]
            if texts:
                shelf[label.removeprefix("training set ")] = _specify(texts, encoder, options.size)
            else:
                print(f"left out: {label} has no file in {domain.folder}")
        for done, (name, path) in enumerate(tasks.items()):
            progress(len(wanted) + done, len(wanted) + len(tasks))
            if path is None or np.isnan(scores.values[scores.tasks.index(name)]).all():
                print(f"left out: task {name} has no file in {domain.folder}, or no score in the table")
                continue
            texts = [example.text for example in domain.examples(path)]
            asked.tasks[name] = _specify(texts, encoder, options.size)
            fewer |= {(name, count): _draws(texts, count, encoder, options) for count in options.texts}
    if not shelf or not asked.tasks:
        raise SystemExit(f"error: {domain.folder} has texts of no training set, or of no task, of the table")
    return shelf, Asked(asked.tasks, fewer)


def _specify(texts: Sequence[str], encoder: Encoder, size: int | None) -> Specification:
    return specify(texts, encoder, min(size, len(texts) // 2) if size else None)


def _draws(texts: Sequence[str], count: int, encoder: Encoder, options: Namespace) -> list[Specification]:
    generator = np.random.default_rng(options.seed)
    draws = [generator.permutation(len(texts))[:count] for _ in range(options.draws)]
    return [_specify([texts[int(place)] for place in draw], encoder, options.size) for draw in draws]


def _levels(scores: Scores, shelf: Shelf, asked: Asked) -> tuple[Level, Level]:
    """Training sets, their models averaged, and single models; without those that no asked task has a score of."""
    rows = [scores.tasks.index(task) for task in asked.tasks]
    known = np.isfinite(scores.values[rows]).sum(axis=0)
    models = [place for place, name in enumerate(scores.sets) if name in shelf and known[place]]
    sets = list(dict.fromkeys(scores.sets[place] for place in models))
    columns = [[place for place in models if scores.sets[place] == name] for name in sets]
    averaged = np.stack([_mean(scores.values[:, places], axis=1) for places in columns], axis=1)
    single = {scores.models[place]: shelf[scores.sets[place]] for place in models}
    return (
        Level("training sets", {name: shelf[name] for name in sets}, scores.tasks, averaged),
        Level("single models", single, scores.tasks, scores.values[:, models]),
    )


def _ask(retriever: Retriever, level: Level, asked: Asked, chosen: Chosen) -> None:
    """Asks for every task, by match alone and with the signals of the other tasks."""
    with report.progress_bar(f"asking for {level.name}", "tasks") as progress:
        for fused in (False, True):
            rule = "match and quality" if fused else "match alone"
            for done, (task, specification) in enumerate(asked.tasks.items()):
                progress(done + fused * len(asked.tasks), 2 * len(asked.tasks))
                if fused:
                    fill(retriever, level.shelf, _signals(level, task, asked.tasks))
                _note(chosen, level, rule, task, [retriever.search(specification, len(level.shelf))])
                for (name, count), draws in asked.fewer.items():
                    if name == task:
                        rankings = [retriever.search(draw, len(level.shelf)) for draw in draws]
                        _note(chosen, level, f"{rule}, {count} texts", task, rankings)


def _signals(level: Level, task: str, specified: Shelf) -> dict[str, list[Signal]]:
    """What is known of each learnware from every task but this one."""
    signals: dict[str, list[Signal]] = {name: [] for name in level.shelf}
    for other in level.tasks:
        digest = specified[other].digest if other in specified else None
        for name, value in zip(level.shelf, level.row(other), strict=True):
            if other != task and not np.isnan(value):
                signals[name].append(
                    Signal(kind="capability", task=other, value=value, specification=digest, source="the paper")
                )
    return signals


def _note(chosen: Chosen, level: Level, rule: str, task: str, rankings: Sequence[Ranking]) -> None:
    """Notes the mean score of the first of each ranking; of equals (same model data, no signals), their mean."""
    by_id = {identify(name): (name, score) for name, score in zip(level.shelf, level.row(task), strict=True)}
    scores, names = [], []
    for ranking in rankings:
        scored = [item for item in ranking.ranked if not np.isnan(by_id[item.learnware.id][1])]
        first = scored[0]
        equal = [item for item in scored if _key(item) == _key(first)]
        scores.append(float(np.mean([by_id[item.learnware.id][1] for item in equal])))
        names.append(by_id[first.learnware.id][0] + (f" or {len(equal) - 1} more" if len(equal) > 1 else ""))
    chosen.scores[level.name, rule, task] = float(np.mean(scores))
    chosen.names[level.name, rule, task] = " / ".join(dict.fromkeys(names))


def _key(item: Ranked) -> tuple[float, float | None]:
    return item.mmd, item.expected


def _mean(values: Doubles, axis: int) -> Doubles:
    """The mean of what is known, NaN where nothing is."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis=axis)
    result: Doubles = np.where(known.any(axis=axis), total / np.maximum(known.sum(axis=axis), 1), np.nan)
    return result


def _yardsticks(level: Level, tasks: Sequence[str]) -> dict[str, Doubles]:
    """Scores by task of the oracle, of a random learnware, of the best single one in hindsight and without."""
    values = np.stack([level.row(task) for task in tasks])
    best = int(np.nanargmax(_mean(values, axis=0)))
    others = [_mean(level.values[[name != task for name in level.tasks]], axis=0) for task in tasks]
    elsewhere = [np.where(np.isnan(row), -np.inf, other) for row, other in zip(values, others, strict=True)]
    blind = [row[int(np.nanargmax(other))] for row, other in zip(values, elsewhere, strict=True)]
    return {
        "oracle": np.nanmax(values, axis=1),
        "random": _mean(values, axis=1),
        "best single, in hindsight": np.where(np.isnan(values[:, best]), _mean(values, axis=1), values[:, best]),
        "best on the other tasks": np.array(blind),
    }


def _report(sets: Level, models: Level, tasks: Sequence[str], chosen: Chosen) -> None:
    marks = {level.name: _yardsticks(level, tasks) for level in (sets, models)}
    oracle = marks[sets.name]["oracle"]
    rows = [(level, rule, values) for level, rules in marks.items() for rule, values in rules.items()]
    rows += [(level, rule, chosen.of(level, rule, tasks)) for level, rule in chosen.rules()]
    _print_tasks(tasks, oracle, (sets.name, models.name), chosen)
    summary = []
    for level, rule, values in sorted(rows, key=lambda row: row[0], reverse=True):
        ties = int((values >= marks[level]["oracle"] - EQUAL).sum())
        mean = float(values.mean())
        summary.append((level, rule, mean, 100 * mean / float(oracle.mean()), ties))
    title = f"{len(tasks)} tasks; share of the training sets' oracle; ties with the level's own oracle"
    report.table(title, ("level", "selection", "average", "share, %", "ties"), summary)
    report.finish(
        "paper_table",
        {
            "tasks": list(tasks),
            "training_sets": list(sets.shelf),
            "models": len(models.shelf),
            "selections": [
                dict(zip(("level", "rule", "average", "share", "ties"), row, strict=True)) for row in summary
            ],
            "chosen": [
                {
                    "level": level,
                    "rule": rule,
                    "task": task,
                    "learnware": name,
                    "score": chosen.scores[level, rule, task],
                }
                for (level, rule, task), name in chosen.names.items()
            ],
        },
    )


def _print_tasks(tasks: Sequence[str], oracle: Doubles, levels: tuple[str, str], chosen: Chosen) -> None:
    shown = [(levels[0], "match alone"), (levels[0], "match and quality"), (levels[1], "match and quality")]
    rows = []
    for task, best in zip(tasks, oracle, strict=True):
        cells: list[object] = [task, float(best)]
        for level, rule in shown:
            cells += [chosen.names[level, rule, task], chosen.scores[level, rule, task]]
        rows.append(cells)
    columns = ["task", "oracle", "match alone", "score", "match and quality", "score", "single model", "score"]
    report.table("what is chosen for each task", columns, rows)


if __name__ == "__main__":
    main()
