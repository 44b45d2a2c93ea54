"""The content-addressed store: ``root/<id[:2]>/<id>/`` holds one adapter or one whole model, written once.

Light to import, since the resolver inside the serving engine uses it. Ids go in; paths never do.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from specification.errors import InvalidInput, NotFound
from specification.files import make_folder, sync_folder

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
INCOMING = ".incoming-"
SWEEP_SECONDS = 3600


class AdapterStore:
    """Adapters and whole models by id (64 hex digits). A folder that is visible is complete."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of(self, id: str) -> Path:
        """Returns the folder of an adapter.

        Raises:
            InvalidInput: ``id`` is no id. NotFound: no such adapter.
        """
        path = self._place(id)
        if not path.is_dir():
            raise NotFound(f"adapter {id[:16]}… is not in the store")
        return path

    def by_prefix(self, prefix: str) -> Path | None:
        """Returns the folder of the one adapter whose id begins with ``prefix`` (at least 16 hex digits)."""
        if not re.fullmatch(r"[0-9a-f]{16,64}", prefix):
            raise InvalidInput(f"adapter prefix {prefix[:80]!r} is not 16 to 64 lower-case hex digits")
        shelf = self.root / prefix[:2]
        if not shelf.is_dir():
            return None
        with os.scandir(shelf) as entries:
            found = [entry for entry in entries if entry.name.startswith(prefix)]
        if len(found) != 1 or not found[0].is_dir(follow_symlinks=False):
            return None
        return Path(found[0].path)

    def put(self, id: str, files: Mapping[str, bytes]) -> bool:
        """Stores an adapter's files, synced before they become visible; False if it was there already."""
        place = self._place(id)
        if all((place / name).is_file() for name in files):
            return False
        with self.incoming() as folder:
            for name, data in files.items():
                with (folder / name).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            self.publish(folder, id)
        return True

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Gives a new folder that nobody sees. What is not published from it is removed in the end."""
        folder = self.root / f"{INCOMING}{uuid4().hex}"
        make_folder(self.root)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, folder: Path, id: str) -> None:
        """Makes an incoming folder, whose files are synced, visible as ``id``, unless it was there already."""
        place = self._place(id)
        if all((place / file.name).is_file() for file in folder.iterdir()):
            return
        make_folder(place.parent)
        sync_folder(folder)
        # Only a hand from outside can have left an incomplete folder there.
        shutil.rmtree(place, ignore_errors=True)
        folder.rename(place)
        sync_folder(place.parent)

    def delete(self, id: str) -> None:
        """Removes an adapter; it disappears at once, its bytes soon after."""
        gone = self.root / f"{INCOMING}{uuid4().hex}"
        self.path_of(id).rename(gone)
        shutil.rmtree(gone)

    def ids(self) -> Iterator[str]:
        """Yields the ids in the store, in order."""
        for shelf in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            yield from sorted(path.name for path in shelf.iterdir())

    def sweep(self) -> None:
        """Removes what a crash in the middle of ``put`` left: hidden folders that are an hour old."""
        for path in self.root.glob(f"{INCOMING}*"):
            if path.stat().st_mtime < time.time() - SWEEP_SECONDS:
                shutil.rmtree(path, ignore_errors=True)

    def _place(self, id: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", id):
            raise InvalidInput(f"adapter id {id[:80]!r} is not 64 lower-case hex digits")
        return self.root / id[:2] / id
