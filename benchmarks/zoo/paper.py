"""``--scale paper``: the real configuration, by name, and a dry run of what it would take."""

from pathlib import Path


def plan(data: Path) -> str:
    """Returns the plan as text."""
    raise NotImplementedError
