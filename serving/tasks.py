"""Registered tasks: a user's specification once, and from then on the decision drawn from it, by id."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catalogue import Learnware
from catalogue.labels import ID_PATTERN
from serving.trial_wire import TrialOutcome
from specification.errors import Conflict, InvalidInput
from specification.files import write_atomically

TASK_ID_LENGTH = 16
TASK_ID_PATTERN = r"^[0-9a-f]{16}\Z"
SHOWN_TASKS = 5


class Part(BaseModel):
    """A learnware's part in a task that is a mixture: its id, and its share of the task's texts in (0, 1]."""

    model_config = ConfigDict(frozen=True)

    learnware: Annotated[str, Field(pattern=ID_PATTERN)]
    weight: Annotated[float, Field(gt=0, le=1)]


class Task(BaseModel):
    """A task and who answers it. ``id`` begins the specification's digest, so a task has one record.

    ``learnware`` is the id of the chosen learnware, None where none fitted and the base model answers.
    ``p_value`` and ``threshold`` are those of the decision; mixtures and older records have no p-value.
    ``created`` is when that was decided, in Unix seconds. If ``mixture`` is not empty, each prompt is answered by
    one of its parts, heaviest first; ``learnware`` is then the heaviest, and the share ``unknown`` fits nothing.
    ``trial`` is there where a trial decided it.
    """

    model_config = ConfigDict(frozen=True)

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    learnware: Annotated[str, Field(pattern=ID_PATTERN)] | None
    fit: float
    p_value: float | None = None
    threshold: float
    reason: str
    created: int
    mixture: tuple[Part, ...] = ()
    unknown: Annotated[float, Field(ge=0, le=1)] = 0.0
    trial: TrialOutcome | None = None

    @property
    def learnwares(self) -> list[str]:
        """The ids of those who answer it: of a mixture all, heaviest first."""
        return [part.learnware for part in self.mixture] or ([self.learnware] if self.learnware else [])


class TaskStore:
    """Tasks as files in one folder, written so that they survive a crash; ``revision`` grows with every write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.revision = 0

    def get(self, id: str) -> Task | None:
        """Returns the task, None if there is none of that id.

        Raises:
            InvalidInput: its file was altered and cannot be read.
        """
        if re.match(TASK_ID_PATTERN, id) is None or not self._file(id).is_file():
            return None
        try:
            return Task.model_validate_json(self._file(id).read_bytes())
        except ValidationError:
            raise InvalidInput(f"task {id}: its record is damaged; register the task again") from None

    def put(self, task: Task) -> None:
        """Writes the task; when it returns, the task is durable."""
        write_atomically(self._file(task.id), task.model_dump_json().encode())
        self.revision += 1

    def require_unused(self, learnware: Learnware) -> None:
        """Makes sure that no task is answered by a learnware; a task whose record is damaged is by none.

        Raises:
            Conflict: one or more are; the message names some of them.
        """
        users = sorted(id for id in self._ids() if learnware.id in self._answering(id))
        if users:
            shown = ", ".join(users[:SHOWN_TASKS]) + (" and others" if len(users) > SHOWN_TASKS else "")
            raise Conflict(
                f"learnware {learnware.reference} answers registered tasks, {len(users)} in number ({shown}); "
                "retire it and register them again, or force its removal: the base model answers them then"
            )

    def _ids(self) -> list[str]:
        return [file.stem for file in self.root.glob("*.json") if re.match(TASK_ID_PATTERN, file.stem)]

    def _answering(self, id: str) -> list[str]:
        try:
            task = self.get(id)
        except InvalidInput:
            return []
        return task.learnwares if task else []

    def _file(self, id: str) -> Path:
        return self.root / f"{id}.json"
