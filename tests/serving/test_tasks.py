"""Tasks on disk: what was written comes back, and what earlier versions wrote can still be read."""

import json
from pathlib import Path

import pytest

from serving import Task, TaskStore
from serving.tasks import Part
from specification.errors import InvalidInput

EARLIER = {"id": "0" * 16, "learnware": "a" * 64, "fit": 0.9, "threshold": 0.4, "reason": "fits", "created": 1}


def test_a_mixture_is_durable(tmp_path: Path) -> None:
    parts = (Part(learnware="a" * 64, weight=0.6), Part(learnware="b" * 64, weight=0.3))
    task = Task.model_validate({**EARLIER, "mixture": parts, "unknown": 0.1})
    TaskStore(tmp_path).put(task)
    assert TaskStore(tmp_path).get(task.id) == task


def test_records_without_a_mixture_still_load(tmp_path: Path) -> None:
    (tmp_path / f"{'0' * 16}.json").write_text(json.dumps(EARLIER))
    task = TaskStore(tmp_path).get("0" * 16)
    assert task is not None
    assert (task.learnware, task.mixture, task.unknown) == ("a" * 64, (), 0.0)


@pytest.mark.parametrize("part", [{"learnware": "../x", "weight": 0.5}, {"learnware": "a" * 64, "weight": 0}])
def test_a_damaged_mixture_is_an_error(tmp_path: Path, part: dict[str, object]) -> None:
    (tmp_path / f"{'0' * 16}.json").write_text(json.dumps({**EARLIER, "mixture": [part]}))
    with pytest.raises(InvalidInput, match="register the task again"):
        TaskStore(tmp_path).get("0" * 16)
