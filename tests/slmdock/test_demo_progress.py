"""What the demo prints: lines of progress where nobody watches, and a table that fits a narrow terminal."""

import json
import re
import sys

import pytest
from rich.console import Console

from slmdock.demo import progress
from slmdock.demo.progress import steps_shown
from slmdock.demo.run import WIDE, Row, _print, _table
from slmdock.demo.texts import LEARNWARE_TASKS, USER_TASKS


def test_steps_are_told_in_lines_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([100.0, 110.0, 130.0, 131.0, 160.0, 170.0, 171.0])
    monkeypatch.setattr(progress, "monotonic", lambda: next(seconds))
    with steps_shown(3100, True) as report:
        for done in (632, 650, 662, 663, 692, 3100, 3100):
            report("base model", done)
    assert capsys.readouterr().err.splitlines() == [
        "base model 632/3100 steps",
        "base model 662/3100 steps, 1.0 steps/s, 41 min left",
        "base model 692/3100 steps, 1.0 steps/s, 41 min left",
        "base model 3100/3100 steps, 240.8 steps/s, 0 min left",
    ]


def rows_of(names: list[str]) -> list[Row]:
    """A row a task, all answered by a mixture of the learnwares with these names."""
    mixture = " + ".join(f"50% {name}" for name in names)
    return [Row(task, mixture, names[0], 0.87, 0.29, 0.8, 1.0, names[1], 32, 0.5) for task in USER_TASKS]


@pytest.mark.parametrize("columns", [80, WIDE, 160])
def test_the_demos_table_cuts_no_name(columns: int) -> None:
    names = sorted(LEARNWARE_TASKS, key=len)[-2:]
    console = Console(width=columns)
    averages = {"base": 0.29, "score": 0.8, "best": 0.77}
    with console.capture() as capture:
        console.print(_table(rows_of(names), averages, 158.0, wide=columns >= WIDE))
    shown = capture.get()
    for name in (*names, *USER_TASKS):
        assert re.search(rf"(^|\s){name}(\s|$)", shown, re.MULTILINE)
    assert len(shown.splitlines()) == 1 + 2 * len(USER_TASKS) + 1
    assert ("tokens/s" in shown) == (columns >= WIDE)


@pytest.mark.parametrize("terminal", [True, False])
def test_json_is_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    _print(rows_of(list(LEARNWARE_TASKS)[:2]), 60.0)
    *_, measured, last = capsys.readouterr().out.splitlines()
    assert measured.endswith("60 s with vLLM's start")
    if terminal:
        assert "make serve" in last
    else:
        assert len(json.loads(last)["rows"]) == len(USER_TASKS)
