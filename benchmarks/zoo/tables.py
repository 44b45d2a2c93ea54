"""The zoo's tables as Markdown: averages, wins and losses, every task, and what it all cost."""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.zoo.results import DOCK, MATCH, NEAREST, SETS_ORACLE, Results
from benchmarks.zoo.scale import GENERALIST, TRIAL_SIZES

Row = Sequence[object]
LAST_TRIAL = f"dock, trial of {TRIAL_SIZES[-1]}"
COMPARED = (MATCH, DOCK, NEAREST, LAST_TRIAL)
SHOWN = ("strong base", "generalist", "random learnware", MATCH, DOCK, LAST_TRIAL, SETS_ORACLE, "oracle")


def tables(results: Results) -> str:
    """Returns everything as Markdown."""
    return "\n\n".join(
        [
            "Scores in percent of right answers, with 95 % intervals (bootstrap over examples).",
            _averages(results),
            "Wins, ties and losses by task, and the difference of the averages in points:",
            _against(results),
            "Every task, in *italics* where it is left out of the headline; last, what match and quality chose:",
            _tasks(results),
            "Short answers by how likely the gold one is: -log p in nats a token, lower is better:",
            _short(results),
            "What the dock found of the learnwares:",
            _learnwares(results),
            "Time and tokens:",
            _cost(results),
        ]
    )


def _averages(results: Results) -> str:
    rows = []
    for system in results.systems:
        cells = [results.average(system, tasks) for tasks in results.groups.values()]
        rows.append([system, *(f"{each.mean:.1f} ({each.low:.1f}–{each.high:.1f})" for each in cells)])
    return markdown(["", *(f"{name} ({len(tasks)})" for name, tasks in results.groups.items())], rows)


def _against(results: Results) -> str:
    rows = []
    for system in COMPARED:
        for other in ("strong base", "generalist", "best single, in hindsight", SETS_ORACLE):
            cells = []
            for tasks in results.groups.values():
                gap = results.average(system, tasks, minus=other)
                score = "–".join(map(str, results.against(system, other, tasks)))
                cells.append(f"{score}; {gap.mean:+.1f} ({gap.low:+.1f} to {gap.high:+.1f})")
            rows.append([f"{system} against {other}", *cells])
    return markdown(["", *results.groups], rows)


def _tasks(results: Results) -> str:
    head = {task.key for task in results.headline}
    rows = []
    for task in results.tasks:
        scores = [float(results.vector(system, task).mean()) for system in SHOWN]
        name = task.key if task.key in head else f"*{task.key}*"
        chosen = results.systems[DOCK][task.key][0]
        cells = [f"{100 * each:.0f}" for each in (task.constant, *scores)]
        rows.append([name, len(task.test), *cells, chosen])
    return markdown(["task", "examples", "blind", *SHOWN, "chosen"], rows)


def _short(results: Results) -> str:
    systems = [system for system in SHOWN if system != SETS_ORACLE]
    scores = [[results.surprise(system, task) for system in systems] for task in results.short]
    rows = [[task.key, *(f"{one:.2f}" for one in row)] for task, row in zip(results.short, scores, strict=True)]
    if scores:
        rows.append(["average", *(f"{one:.2f}" for one in np.mean(scores, axis=0))])
    return markdown(["task", *systems], rows)


def _learnwares(results: Results) -> str:
    """How good and poor learnwares of a kind are on their own tasks and elsewhere."""
    rows: list[Row] = []
    kinds = {"as good as it gets": False, "deliberately poor": True}
    for label, poor in kinds.items():
        names = [each.name for each in results.recipes if each.poor == poor]
        if not names:
            continue
        mean = np.mean([[results.score(name, task) for task in results.tasks] for name in names])
        rows.append([label, len(names), f"{100 * float(mean):.1f}"])
    return markdown(["learnwares", "number", "average, all tasks"], rows)


def _cost(results: Results) -> str:
    training = dict(results.manifest["training_seconds"])
    generalist = training.pop(GENERALIST)
    bases = sum(training.pop(name) for name in list(training) if name.startswith("zoo-"))
    asked = {"measuring": results.answers, "trials": results.trials}
    rows: list[Row] = [
        ["training, one thread: both bases", f"{bases / 60:.0f} min", ""],
        ["training, one thread: generalist", f"{generalist / 60:.0f} min", ""],
        [f"training, one thread: {len(training)} adapters", f"{sum(training.values()) / 60:.0f} min", ""],
    ]
    for name, spent in results.manifest["seconds"].items():
        rows.append([f"stage: {name}", f"{spent / 60:.1f} min", ""])
    for name, answers in asked.items():
        read, written = (
            sum(getattr(each, field) for each in answers.values())
            for field in ("prompt_tokens", "completion_tokens")
        )
        rows.append([f"{name}: tokens", "", f"{read:,} read, {written:,} written"])
    return markdown(["", "time", "tokens"], rows)


def markdown(head: Sequence[str], rows: Sequence[Row]) -> str:
    """Returns a table."""
    return "\n".join(_lines(head, rows))


def _lines(head: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'--|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |"
