"""The specifications of tasks that quality signals were measured on, by digest: files in one folder."""

from pathlib import Path

from catalogue import is_id
from specification import Specification
from specification.errors import InvalidSpecification

FOLDER = "tasks"
MAX_KEPT = 1000


class MeasuredTasks:
    """Keeps specifications of measured tasks, read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[str, Specification | None] = {}

    def put(self, specification: Specification) -> None:
        """Keeps a specification; when it returns, it is durable."""
        specification.save(self._file(specification.digest))
        self._read.pop(specification.digest, None)

    def get(self, digest: str) -> Specification | None:
        """Returns the specification of that digest, None if there is none or its file was damaged."""
        if digest not in self._read:
            if len(self._read) >= MAX_KEPT:
                self._read.clear()
            self._read[digest] = self._load(digest)
        return self._read[digest]

    def _load(self, digest: str) -> Specification | None:
        if not is_id(digest) or not self._file(digest).is_file():
            return None
        try:
            return Specification.load(self._file(digest))
        except InvalidSpecification:
            return None

    def _file(self, digest: str) -> Path:
        return self.root / f"{digest}.safetensors"
