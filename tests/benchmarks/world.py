"""A small world of the zoo's layout, from the demo's own texts."""

import json
from dataclasses import asdict
from pathlib import Path

from slmdock.demo.texts import LEARNWARE_TASKS, USER_TASKS, training_examples, user_examples
from specification import Example

FOLDERS = {"finance": "finance", "healthcare": "medical", "mathematics": "math"}


def write_world(folder: Path, examples: int = 150) -> Path:
    """Writes training sets by domain, and user files: the same tasks in users' words, where the demo has them."""
    for task in LEARNWARE_TASKS:
        domain = next(name for name in FOLDERS if task.startswith(name))
        write(folder / FOLDERS[domain] / "train" / f"{task}.jsonl", training_examples(task, examples, seed=1))
    for name, user in USER_TASKS.items():
        if user.sources:
            domain = next(each for each in FOLDERS if user.sources[0].startswith(each))
            write(folder / FOLDERS[domain] / "user" / f"{name}.jsonl", user_examples(name, examples, seed=2))
    return folder


def write(file: Path, examples: list[Example]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(asdict(each)) + "\n" for each in examples))
