"""What commands print: tables for people on standard output, or one JSON document for programs."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from math import isnan
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from catalogue import Learnware, Signal
from indexer import Change, ReadyReport
from retriever import Mixture, Ranking
from serving.trial_run import TrialReport
from specification import Specification

SHOWN_REFUSALS = 10


def console() -> Console:
    """A console on standard output; wide where it is no terminal, so that pipes get whole lines."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def safe(text: str) -> str:
    """Returns text from outside without control characters that a terminal would obey."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


def print_json(document: object) -> None:
    """Prints one JSON document on one line."""
    print(json.dumps(document, ensure_ascii=False))


@contextmanager
def progress_bar(label: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """Shows progress, rate and time left while standard error is a terminal; yields a callback (done, total)."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), _Rate(),
        TimeRemainingColumn(),
    )  # fmt: skip
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """As ``progress_bar`` for several at once; yields a callback (label, done, total), 0 where that is unknown."""
    terminal = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bars:
        tasks = dict[str, TaskID]()

        def told(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(safe(label), total=None)
            bars.update(tasks[label], completed=done, total=total or None)

        yield told


class _Rate(ProgressColumn):
    """How many a second, of late."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.{0 if speed >= 10 else 1}f}/s")


def submitted_line(learnware: Learnware, changes: Sequence[Change] | None) -> str:
    """What became of a submission; ``changes`` are those it made, oldest first, None where they are not known."""
    name = f"{learnware.name} version {learnware.version}"
    if changes is None or any(change.state == "submitted" for change in changes):
        return f"{name} is in, {learnware.status}, as {learnware.id}"
    said = [
        change.why.removesuffix(f"; {learnware.warning}") if change.state == "updated" else f"now {change.state}"
        for change in changes
    ]
    return f"{name} was in, {learnware.status}; {'; '.join(said) or 'nothing changed'}"


def learnware_table(learnwares: Sequence[Learnware]) -> Table:
    """A listing."""
    columns = ("version", "state", "domain", "base model", "rank", "texts", "licence", "id")
    table = Table(Column("name", overflow="fold"), *columns, box=None)
    for item in learnwares:
        table.add_row(
            Text(item.name), str(item.version), item.status, Text(item.domain),
            Text("whole model" if item.whole else item.base_model), "-" if item.whole else str(item.rank),
            str(item.sample_size), Text(item.licence), item.id[:16],
        )  # fmt: skip
    return table


def learnware_details(learnware: Learnware) -> Table:
    """One learnware, a field a line."""
    table = Table(show_header=False, box=None)
    for name, value in learnware.model_dump().items():
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if name == "quality":
            shown = "\n".join(map(signal_line, learnware.quality))
        if name == "near_duplicates":
            shown = "\n".join(map(str, learnware.near_duplicates))
        if name == "created":
            shown = f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M} UTC"
        table.add_row(Text(name.replace("_", " "), style="bold"), Text(shown or "-"))
    return table


def signal_line(signal: Signal) -> str:
    """A quality signal in words."""
    subject = "base model's " if signal.subject == "base" else ""
    what = " ".join(part for part in (signal.task, signal.metric) if part)
    return f"{subject}{signal.kind} {what}: {signal.value:g} ({signal.source})"


def ranking_table(ranking: Ranking) -> Table:
    """Ranked learnwares with fit, p-value, distance and expectation."""
    columns = ("fit", "p", "MMD", "expected", "domain", "description")
    table = Table("", Column("learnware", overflow="fold"), *columns, box=None)
    for place, item in enumerate(ranking.ranked, 1):
        distance = "-" if isnan(item.mmd) else f"{item.mmd:.3f}"
        # What is expected of nearness alone is no measurement.
        known = item.measured or item.learnware.quality
        expected = f"{item.expected:+.2f}" if item.expected is not None and known else "-"
        table.add_row(
            str(place), Text(_name(item.learnware)), f"{item.fit:.3f}", f"{item.p_value:.3f}", distance, expected,
            Text(item.learnware.domain), Text(item.learnware.description),
        )  # fmt: skip
    return table


def _name(learnware: Learnware) -> str:
    """Its name, marked where its specification was not made of examples."""
    return learnware.name if learnware.origin == "examples" else f"{learnware.name} ({learnware.origin})"


def decision_line(ranking: Ranking) -> str:
    """The decision in words."""
    chosen = ranking.decision.learnware
    head = f"chosen: {chosen.name}" if chosen else "chosen: the base model"
    compared = f"{ranking.candidates} candidate{'' if ranking.candidates == 1 else 's'}"
    return f"{head} ({compared}, {1000 * ranking.seconds:.0f} ms)\n{ranking.decision.reason}"


def mixture_line(mixture: Mixture) -> str:
    """A mixture in words, with what it leaves."""
    noise = f"{mixture.noise:.3f} expected of noise"
    return f"mixture: {mixture.reason} (residual {mixture.residual:.3f}, {noise})"


STOPPED = {
    "examples": "all examples were used",
    "clear": "the winner was clear",
    "alone": "one candidate was left",
    "interrupted": "interrupted",
}


def trial_table(report: TrialReport) -> Table:
    """Candidates of a trial, best first."""
    columns = ("score", "95 %", "P(best)", "fit", "examples", "tokens")
    table = Table("", Column("candidate", overflow="fold"), *columns, Column("", overflow="fold"), box=None)
    for place, item in enumerate(report.standings, 1):
        name = item.candidate.name if item.candidate.learnware else f"{item.candidate.name} (base model)"
        table.add_row(
            str(place), Text(name), f"{item.mean:.3f}", f"{item.low:.3f} to {item.high:.3f}",
            f"{item.probability:.3f}", f"{item.candidate.fit:.3f}" if item.candidate.learnware else "-",
            str(item.examples), str(item.tokens), Text(item.error),
        )  # fmt: skip
    return table


def trial_lines(report: TrialReport, kept: bool) -> str:
    """A trial's result and its cost in words."""
    best = report.winner
    compared = "nothing is better than it"
    if best.candidate.learnware:
        compared = f"better than the base model with probability {report.gain:.2f}"
    lines = [
        f"winner: {best.candidate.name}, {report.score} {best.mean:.3f} ({best.low:.3f} to {best.high:.3f}); "
        f"{compared}",
        f"cost: {report.prompt_tokens} + {report.completion_tokens} tokens, {report.seconds:.1f} s, "
        f"{report.answers} of {report.without_stopping} answers ({report.examples} examples; "
        f"{STOPPED[report.stopped]})",
    ]
    if kept:
        lines.append(f"task:{report.task} is answered by it from now on")
    return safe("\n".join(lines))


def trial_json(report: TrialReport, kept: bool) -> dict[str, object]:
    """A trial's report for programs."""
    document: dict[str, Any] = TypeAdapter(TrialReport).dump_python(report, mode="json")
    return document | {"winner": document["standings"][0], "kept": kept}


def refusal_lines(refused: Sequence[tuple[str, str]]) -> list[str]:
    """What was refused, and why."""
    return [f"refused: {label}: {reason}" for label, reason in refused]


def refusals_json(refused: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """The same for programs."""
    return [{"item": label, "reason": reason} for label, reason in refused]


def ready_lines(report: ReadyReport, indexing: float) -> str:
    """What became of a manifest of ready learnwares, and the first refusals; ``indexing`` is in seconds."""
    shown = report.reasons[:SHOWN_REFUSALS]
    lines = refusal_lines(shown)
    if report.refused > len(shown):
        lines.append(f"and {report.refused - len(shown)} more; --refused FILE writes them all")
    lines.append(
        f"{report.added} new, {report.changed} changed, {report.unchanged} unchanged, {report.refused} refused; "
        f"{report.seconds:.1f} s, {report.rate:,.0f} a second, and {indexing:.1f} s for the index"
    )
    return safe("\n".join(lines))


def ready_json(report: ReadyReport, indexing: float) -> dict[str, object]:
    """The same for programs."""
    counts = {name: getattr(report, name) for name in ("added", "changed", "unchanged", "refused", "seconds")}
    reasons = refusals_json(report.reasons)
    return {**counts, "per_second": report.rate, "indexing_seconds": indexing, "first_refused": reasons}


def specification_line(specification: Specification) -> str:
    """What a specification says of itself, in words."""
    section, privacy = specification.section, specification.privacy
    texts = "texts" if specification.origin == "examples" else "texts that the model wrote (derived)"
    head = f"{len(specification.reduced_set)} points for {section.sample_size} {texts}"
    if privacy.promised:
        length = privacy.noise(section.sample_size) * section.encoder.dimension**0.5
        return (
            f"one point for {section.sample_size} texts, {privacy}, noise {length:.2f}, encoder {section.encoder}"
        )
    return f"{head}, compression error {section.compression_error:.3f} (MMD), encoder {section.encoder}"


def specification_json(specification: Specification) -> dict[str, object]:
    """What a specification says of itself."""
    parameters = specification.parameters
    return {
        "digest": specification.digest,
        "points": len(specification.reduced_set),
        **specification.section.model_dump(mode="json", exclude_none=True, exclude={"calibration"}),
        "calibrated": specification.section.calibration is not None,
        "parameters": None if parameters is None else parameters.section.model_dump(mode="json"),
        "privacy": specification.privacy.model_dump(mode="json", exclude_none=True),
    }
