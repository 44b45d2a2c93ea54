"""The whitening in use: estimated from the catalogue, kept in a file, made anew in the background as it grows."""

import logging
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from catalogue import PUBLISHED, Catalogue
from specification import VIEWS, PromptSketch, StoredSpecification, Whitening
from specification.errors import DockError, InvalidInput
from specification.files import read_file, write_atomically

LARGEST_FILE = 2**30
MOST_LEARNWARES = 10_000
PAGE = 200
GROWTH = 0.1
CHECK_SECONDS = 5.0

log = logging.getLogger(__name__)


class LiveWhitening:
    """Gives the catalogue's whitening; whoever asks gets one whole version and never waits for the next.

    The first is read from ``file`` or made at once. When the number of published learnwares has changed by a
    tenth, a thread makes the next one while the old one serves. At most MOST_LEARNWARES are read, in order of
    id, which are hashes and so a fair sample.
    """

    def __init__(
        self, catalogue: Catalogue, file: Path | None = None, check_seconds: float = CHECK_SECONDS
    ) -> None:
        self.catalogue = catalogue
        self.file = file
        self.check_seconds = check_seconds
        self.revision = 0
        """Grows when another whitening comes into use."""
        self._current: Whitening | None = None
        self._checked = 0.0
        self._making = threading.Lock()

    def current(self) -> Whitening:
        """Returns the whitening to use now.

        Raises:
            CatalogueError: it is the first one, and the catalogue cannot be read.
        """
        current = self._current
        if current is None:
            with self._making:
                current = self._use(self._current or self._stored() or self._made())
        if time.monotonic() - self._checked >= self.check_seconds:
            self._checked = time.monotonic()
            counted = self.catalogue.count(PUBLISHED)
            if abs(counted - current.learnwares) > GROWTH * current.learnwares and not self._making.locked():
                threading.Thread(target=self.refresh, name="whitening", daemon=True).start()
        return current

    def refresh(self) -> None:
        """Makes the next whitening from the catalogue as it is, and puts it in place of the old one."""
        try:
            with self._making:
                self._use(self._made())
        except DockError as error:
            log.warning("the whitening could not be refreshed, the old one stays: %s", error)

    def _use(self, whitening: Whitening) -> Whitening:
        if whitening is not self._current:
            self._current = whitening
            self.revision += 1
        return whitening

    def _made(self) -> Whitening:
        learnwares = self.catalogue.count(PUBLISHED)
        made = Whitening.estimate(self._sketches(), self.catalogue.settings.encoder, learnwares)
        if self.file is not None:
            write_atomically(self.file, made.to_bytes())
        return made

    def _stored(self) -> Whitening | None:
        if self.file is None or not self.file.exists():
            return None
        try:
            return Whitening.from_bytes(read_file(self.file, LARGEST_FILE), self.catalogue.settings.encoder)
        except InvalidInput:
            return None

    def _sketches(self) -> Iterator[PromptSketch]:
        """Yields the sketches page by page; pages are small, since the engine holds Python's lock in each."""
        for page in islice(self.catalogue.pages(PUBLISHED, PAGE), MOST_LEARNWARES // PAGE):
            for stored in self.catalogue.read_files(page, StoredSpecification).values():
                sketch = stored.prompt
                if sketch is not None and sketch.section.views == VIEWS:
                    yield sketch
