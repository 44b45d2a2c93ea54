"""The zoo's pictures: a radar plot a domain, as in the paper, and one bar chart of the averages."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np

from benchmarks.zoo.results import DOCK, MATCH, ORACLE, Results
from benchmarks.zoo.scale import TRIAL_SIZES
from benchmarks.zoo.tasks import Task

COLOURS = {
    "weak base": "#b0b7bf", "strong base": "#6b7785", "generalist": "#d08a2e", "random learnware": "#c9b8d8",
    MATCH: "#7fb2e5", DOCK: "#1f6fb2", f"dock, trial of {TRIAL_SIZES[-1]}": "#2a9d6f", ORACLE: "#222222",
}  # fmt: skip
RADAR = ("strong base", "generalist", DOCK, f"dock, trial of {TRIAL_SIZES[-1]}", ORACLE)
LEAST_SPOKES = 3
COLUMNS = 2
LONGEST = 22


def draw(results: Results, folder: Path) -> list[Path]:
    """Writes ``zoo-radar.svg`` and ``zoo-bars.svg`` into the folder."""
    files = [folder / "zoo-radar.svg", folder / "zoo-bars.svg"]
    _radar(results, files[0])
    _bars(results, files[1])
    return files


def _radar(results: Results, file: Path) -> None:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(task.domain for task in results.tasks))
    groups = {name: [task for task in results.tasks if task.domain == name] for name in names}
    groups = {name: tasks for name, tasks in groups.items() if len(tasks) >= LEAST_SPOKES}
    rows = max(ceil(len(groups) / COLUMNS), 1)
    figure = Figure(figsize=(6.2 * COLUMNS, 5 * rows), layout="constrained")
    for place, (name, tasks) in enumerate(groups.items(), 1):
        axes = figure.add_subplot(rows, COLUMNS, place, projection="polar")
        angles = np.linspace(0, 2 * np.pi, len(tasks), endpoint=False)
        for system in RADAR:
            scores = [100 * float(results.vector(system, task).mean()) for task in tasks]
            style = {"color": COLOURS[system], "linestyle": ":" if system == ORACLE else "-"}
            axes.plot([*angles, angles[0]], [*scores, scores[0]], label=system, linewidth=1.8, **style)  # type: ignore[arg-type]
        axes.set_xticks(angles, _labels(tasks, results), fontsize=10)
        for label, angle in zip(axes.get_xticklabels(), angles, strict=True):
            side = np.cos(angle)
            label.set_horizontalalignment("center" if abs(side) < 0.2 else "left" if side > 0 else "right")
        axes.tick_params(axis="x", pad=4)
        highest = 25 * ceil(4 * max(float(results.vector(ORACLE, task).mean()) for task in tasks))
        axes.set_ylim(0, highest)
        rings = range(25, highest, 25)
        axes.set_yticks(rings, [f"{ring} %" for ring in rings], fontsize=9, color="#666666")
        axes.set_title(f"{name}: right answers; * not in the headline", fontsize=13, pad=26)
    if groups:
        lines = figure.axes[0].get_legend_handles_labels()
        figure.legend(*lines, fontsize=13, frameon=False, loc="lower right", bbox_to_anchor=(0.9, 0.12))
    figure.savefig(file, bbox_inches="tight")


def _labels(tasks: Sequence[Task], results: Results) -> list[str]:
    head = {task.key for task in results.headline}
    names = [task.name.replace("mathematics", "maths") for task in tasks]
    short = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
    return [name if task.key in head else f"{name}*" for name, task in zip(short, tasks, strict=True)]


def _bars(results: Results, file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(COLOURS)
    for place, (system, colour) in enumerate(COLOURS.items()):
        found = [results.average(system, tasks) for tasks in results.groups.values()]
        means = np.array([each.mean for each in found])
        spans = np.array([[each.mean - each.low, each.high - each.mean] for each in found]).T
        where = np.arange(len(found)) + (place - (len(COLOURS) - 1) / 2) * width
        axes.bar(where, means, width, label=system, color=colour, yerr=spans, ecolor="#444444", capsize=1.5)
    sizes = {name: len(tasks) for name, tasks in results.groups.items()}
    labels = [f"{name}\n{size} task{'s' * (size > 1)}" for name, size in sizes.items()]
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylabel("right answers, %")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.18), frameon=False)
    figure.savefig(file)
