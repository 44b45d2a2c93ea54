"""Optimizer steps on stderr: model, steps, rate, time left; a bar, or lines where that is no terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from transformers.utils import logging

Report = Callable[[str, int], None]
"""Told which model is being trained and the steps done in the whole build."""

LINE_SECONDS = 30.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} steps/s" if task.speed else "- steps/s")


@contextmanager
def steps_shown(total: int, shown: bool) -> Iterator[Report]:
    """Yields a function to report with; nothing is shown of the `total` steps unless `shown`."""
    if not shown:
        yield lambda model, done: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _in_lines(total)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), _Rate(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda model, done: bar.update(task, description=model, completed=done)


def _in_lines(total: int) -> Report:
    """Prints a line at first, every LINE_SECONDS and at last; the rate is that since the line before."""
    before: tuple[float, int] | None = None

    def report(model: str, done: int) -> None:
        nonlocal before
        now = monotonic()
        if before and (done == before[1] or (now - before[0] < LINE_SECONDS and done < total)):
            return
        line = f"{model} {done}/{total} steps"
        if before:
            rate = (done - before[1]) / (now - before[0])
            line += f", {rate:.1f} steps/s, {ceil((total - done) / rate / 60)} min left"
        print(line, file=sys.stderr, flush=True)
        before = now, done

    return report


@contextmanager
def library_bars_hidden() -> Iterator[None]:
    """Keeps transformers from drawing bars of its own."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
