"""What a task of the demo is called and what it is about."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LearnwareTask:
    """What one learnware of the demo was trained for."""

    name: str
    domain: str
    task_type: str
    description: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class UserTask:
    """A task some user brings; `sources` names the learnwares that fit it, none for a task from elsewhere."""

    name: str
    domain: str
    sources: tuple[str, ...]
    description: str
