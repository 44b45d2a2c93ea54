"""A progress bar of optimizer steps on stderr: model, steps, rate, time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} steps/s" if task.speed else "- steps/s")


@contextmanager
def steps_shown(total: int, shown: bool) -> Iterator[Report]:
    """Yields a function to report with; it draws a bar up to `total` steps if `shown` and nothing otherwise."""
    if not shown:
        yield lambda model, done: None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), _Rate(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda model, done: bar.update(task, description=model, completed=done)


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
