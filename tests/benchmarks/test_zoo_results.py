"""The zoo's figures, on answers that are known: averages, intervals, oracles, trials, tables and pictures."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.zoo.answering import Answers
from benchmarks.zoo.docking import Choice, Decisions
from benchmarks.zoo.figures import draw
from benchmarks.zoo.recipes import Recipe
from benchmarks.zoo.results import DOCK, MATCH, NEAREST, ORACLE, SETS_ORACLE, Results
from benchmarks.zoo.scale import GENERALIST, STRONG, WEAK
from benchmarks.zoo.tables import markdown, tables
from benchmarks.zoo.tasks import Task
from specification import Example

GOOD = {"a-1": 0.9, "a-2": 0.7, "b-1": 0.5, "b-2": 0.2, WEAK: 0.3, STRONG: 0.4, GENERALIST: 0.8}
"""The shares of right answers, of every task alike but for the last, which nobody can do."""


def task(domain: str, name: str) -> Task:
    examples = [Example(f"{name} {n}", ("yes", "no")[n % 2]) for n in range(164)]
    return Task(domain, name, ("no", "yes"), tuple(examples[:64]), tuple(examples[64:]))


def answers(model: str, tasks: list[Task], sketch: bool = False) -> Answers:
    rights = {}
    nats = {"math-short": [2 - GOOD[model]] * 100}
    for place, one in enumerate(tasks):
        examples = one.sketch if sketch else one.test
        share = GOOD[model] if one.labels else 0.0
        share = 0.5 if one.name == "impossible" else share
        generator = np.random.default_rng([place, sum(model.encode())])
        found = np.zeros(len(examples), dtype=int)
        found[generator.permutation(len(examples))[: round(share * len(examples))]] = 1
        rights[one.key] = found.tolist()
    return Answers(rights, nats, 1000, 10, 1.5)


@pytest.fixture(scope="module")
def results() -> Results:
    tasks = [task(domain, name) for domain in ("finance", "math") for name in ("one", "two", "three")]
    tasks.append(task("math", "impossible"))
    tasks.append(Task("math", "short", (), tasks[0].sketch, tasks[0].test))
    recipes = [
        Recipe(name, STRONG, ("finance-one",), 8, 1e-3, 10, poor=name == "b-2")
        for name in GOOD
        if "zoo" not in name
    ]
    match, quality, none = (
        Choice("b-1", "b-1", 0.5, 0.4),
        Choice("a-1", "a-1", 0.6, 0.5),
        Choice(None, "a-2", 0.1, 0),
    )
    likeness = np.full((3, 3), 0.5) + 0.5 * np.eye(3)
    tried = (["a-1", "a-2", "b-1"], [0.5, 0.6, 0.7], likeness.tolist(), None)
    decisions = {one.key: Decisions(match, quality, *tried) for one in tasks}
    decisions["finance-two"] = Decisions(none, none, *tried)
    names = list(GOOD)
    return Results(
        tasks, recipes, {name: answers(name, tasks) for name in names},
        {name: answers(name, tasks, sketch=True) for name in names}, decisions,
        {"seconds": {"train": 60.0}, "training_seconds": dict.fromkeys(GOOD, 30.0)},
    )  # fmt: skip


def test_what_nobody_can_do_is_left_out(results: Results) -> None:
    assert [one.name for one in results.tasks if one not in results.headline] == ["impossible", "short"]


def test_averages_and_intervals(results: Results) -> None:
    head = results.headline
    assert results.average(ORACLE, head).mean == 90
    assert results.average(SETS_ORACLE, head).mean == 80
    assert results.average("random learnware", head).mean == pytest.approx(57.5)
    assert results.average("best single, in hindsight", head).mean == 90
    # On one of six tasks none fits, and the base answers; who never takes the base takes the second best.
    assert results.average(DOCK, head).mean == pytest.approx((5 * 90 + 40) / 6, abs=0.01)
    assert results.average(NEAREST, head).mean == pytest.approx((5 * 90 + 70) / 6, abs=0.01)
    gap = results.average(DOCK, head, minus="generalist")
    assert gap.mean == pytest.approx(1.67, abs=0.01)
    assert gap.low < gap.mean < gap.high
    one = results.average("generalist", head[:1])
    expected = 1.96 * 100 * (0.8 * 0.2 / 100) ** 0.5
    assert one.high - one.low == pytest.approx(2 * expected, rel=0.15)


def test_a_pair_that_answers_alike_has_no_interval(results: Results) -> None:
    gap = results.average(ORACLE, results.headline, minus="best single, in hindsight")
    assert (gap.low, gap.mean, gap.high) == (0, 0, 0)


def test_wins_ties_losses(results: Results) -> None:
    assert results.against(DOCK, "strong base", results.headline) == (5, 1, 0)
    assert results.against(MATCH, "generalist", results.headline) == (0, 0, 6)


def test_a_trial_finds_the_best(results: Results) -> None:
    assert results.average("dock, trial of 64", results.headline).mean == 90
    assert results.average("dock, trial of 16", results.headline).mean >= 70


def test_short_answers_are_measured_by_likelihood_too(results: Results) -> None:
    (short,) = results.short
    assert results.surprise(ORACLE, short) == pytest.approx(2 - 0.9)
    assert results.surprise("generalist", short) == pytest.approx(2 - 0.8)
    assert results.surprise("random learnware", short) == pytest.approx(2 - 0.575)


def test_groups(results: Results) -> None:
    sizes = {name: len(tasks) for name, tasks in results.groups.items()}
    assert sizes == {"finance": 3, "math": 3, "headline": 6, "finance, all": 3, "math, all": 5, "all tasks": 8}


def test_tables_and_pictures(results: Results, tmp_path: Path) -> None:
    text = tables(results)
    assert "*math-impossible*" in text
    assert "| deliberately poor | 1 |" in text
    assert "nan" not in text.replace("finance", "")
    for table in text.split("\n\n"):
        assert (
            len({line.replace("\\|", "").count("|") for line in table.splitlines() if line.startswith("|")}) <= 1
        )
    for file in draw(results, tmp_path):
        assert file.read_text().count("<path") > 20
    assert results.summary()["averages"]["headline"][ORACLE]["mean"] == 90


def test_a_cell_cannot_break_a_table() -> None:
    assert markdown(["a"], [["b|c"]]) == "| a |\n|--|\n| b/c |"
