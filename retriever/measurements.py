"""From the quality signals in records to what ``retriever.quality`` weighs: standings, nearness, likeness."""

from collections.abc import Callable, Sequence

import numpy as np

from catalogue import Signal
from retriever.mixture import Candidate
from retriever.quality import RELIABLE_EXAMPLES, Doubles, Expected, Results, expect, nearness, standings
from specification import Comparison, Specification, compare

MAX_PAIRS = 200_000

FindTask = Callable[[str], Specification | None]
Column = dict[int, Signal]
"""The signals of one key, by the candidate's place."""


def no_task(digest: str) -> Specification | None:
    """Knows no measured task."""
    return None


class Measurements:
    """Weighs the signals of candidates. ``find`` returns the specification of a measured task by its digest.

    Distances between measured tasks and learnwares are remembered, since neither changes.
    """

    def __init__(self, find: FindTask, gamma: float) -> None:
        self._find = find
        self._gamma = gamma
        self._pairs: dict[tuple[str, str], tuple[float, float]] = {}

    def expect(self, task: Specification, candidates: Sequence[Candidate], match: Comparison) -> Expected:
        """Returns what to expect of the candidates on a task, from match and from their signals."""
        near = nearness(match.overlap, match.mmd, noise(task, candidates))
        columns = _columns(candidates)
        gains = [_standings(column, len(candidates))[0] for key, column in columns.items() if key[0] == "gain"]
        verified = _average(gains, len(candidates))
        return expect(near, self._results(task, candidates, columns), verified)

    def _results(
        self, task: Specification, candidates: Sequence[Candidate], columns: dict[tuple[str, ...], Column]
    ) -> Results:
        tasks: dict[str, list[Column]] = {}
        for (kind, name, _), column in columns.items():
            if kind != "gain":
                tasks.setdefault(name, []).append(column)
        count = len(candidates)
        measured = [[_standings(column, count) for column in group] for group in tasks.values()]
        found = [self._found(group) for group in tasks.values()]
        return Results(
            standings=_stacked([_average([row for row, _ in group], count) for group in measured], count),
            weights=_stacked([np.max([row for _, row in group], axis=0) for group in measured], count),
            near=_stacked([self._near(known, candidates) for known in found], count),
            likeness=self._likeness(task, found),
        )

    def _found(self, columns: Sequence[Column]) -> Specification | None:
        digests = (signal.specification for column in columns for signal in column.values())
        return next((known for digest in digests if digest and (known := self._find(digest))), None)

    def _near(self, known: Specification | None, candidates: Sequence[Candidate]) -> Doubles:
        """The nearness of every candidate to a measured task, 0 where its prompts are not known."""
        if known is None:
            return np.zeros(len(candidates))
        keys = [(known.digest, each.learnware.specification_digest) for each in candidates]
        missing = {key: each.reduced for key, each in zip(keys, candidates, strict=True) if key not in self._pairs}
        if len(self._pairs) + len(missing) > MAX_PAIRS:
            self._pairs.clear()
            return self._near(known, candidates) if len(keys) <= MAX_PAIRS else np.zeros(len(candidates))
        match = compare(known.reduced_set, list(missing.values()), self._gamma)
        self._pairs.update(zip(missing, zip(match.overlap, match.mmd, strict=True), strict=True))
        fit, mmd = np.array([self._pairs[key] for key in keys]).T
        return nearness(fit, mmd, noise(known, candidates))

    def _likeness(self, task: Specification, found: Sequence[Specification | None]) -> Doubles:
        """The RKHS cosine of measured tasks with the one asked about; the median for those that are not known."""
        known = [other.reduced_set for other in found if other is not None]
        cosines = compare(task.reduced_set, known, self._gamma).cosine
        result = np.full(len(found), np.median(cosines) if len(known) else 1.0)
        result[[other is not None for other in found]] = cosines
        return result


def noise(task: Specification, candidates: Sequence[Candidate]) -> Doubles:
    """Returns 1/n + 1/m of a task and each learnware, float64 [c]."""
    sizes = np.array([each.learnware.sample_size for each in candidates], dtype=np.float64)
    noises: Doubles = 1 / task.sample_size + 1 / sizes
    return noises


def _columns(candidates: Sequence[Candidate]) -> dict[tuple[str, ...], Column]:
    """Signals by (kind, task, metric); a base model's result stands in for a learnware that has none itself."""
    columns: dict[tuple[str, ...], Column] = {}
    for place, each in enumerate(candidates):
        for signal in sorted(each.learnware.quality, key=lambda signal: signal.subject):
            columns.setdefault((signal.kind, signal.task, signal.metric), {})[place] = signal
    return columns


def _standings(column: Column, count: int) -> tuple[Doubles, Doubles]:
    """The standings of one key and their weights, [c] each."""
    values, weights = np.full(count, np.nan), np.zeros(count)
    for place, signal in column.items():
        values[place] = signal.value if signal.higher_is_better else -signal.value
        weights[place] = signal.examples / (signal.examples + RELIABLE_EXAMPLES) if signal.examples else 1
    return standings(values), weights


def _average(rows: Sequence[Doubles], count: int) -> Doubles:
    """The mean of what is known in each column, NaN where nothing is."""
    stacked = _stacked(rows, count)
    known = ~np.isnan(stacked)
    total = np.where(known, stacked, 0).sum(axis=0)
    result: Doubles = np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
    return result


def _stacked(rows: Sequence[Doubles], count: int) -> Doubles:
    return np.stack(rows) if rows else np.zeros((0, count))
