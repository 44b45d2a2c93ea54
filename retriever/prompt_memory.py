"""What routing prompts reads again and again, kept in memory: records and sketches of candidates."""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

from catalogue import Catalogue, Learnware
from retriever.prompt_match import Sketch

MAX_SKETCHES = 1000
"""About 65 kB each."""
MAX_RECORDS = 10_000
RECORD_SECONDS = 5.0


class PromptMemory:
    """Reads the catalogue through; any thread may ask.

    Sketches are kept by the digest of their file and so never stale. Records are forgotten when this process
    writes to the catalogue, and after RECORD_SECONDS, since other processes may write to it too.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._sketches: OrderedDict[str, Sketch] = OrderedDict()
        self._records: dict[str, Learnware] = {}
        self._before: dict[str, Learnware] = {}
        self._read = (-1, 0.0)
        self._lock = threading.Lock()

    def get(self, ids: Sequence[str]) -> list[Learnware]:
        """See ``Catalogue.get``."""
        records = self._fresh_records()
        missing = [id for id in ids if id not in records]
        if missing:
            # Into the dictionary taken before reading: a write meanwhile has put another in its place.
            before = self._before
            for item in self.catalogue.get(missing):
                # Kept decisions hold records: an unchanged one stays one object, however often it is read.
                old = before.get(item.id)
                records[item.id] = old if old == item else item
        return [found for id in ids if (found := records.get(id)) is not None]

    def sketches(self, learnwares: Sequence[Learnware]) -> dict[str, Sketch]:
        """Returns the sketches of records by id, without those whose specification is gone."""
        with self._lock:
            known = {item.id: self._sketches.get(item.specification_digest) for item in learnwares}
        missing = [item for item in learnwares if known[item.id] is None]
        gamma = self.catalogue.settings.feature_map.gamma
        read = self.catalogue.read_files(missing, lambda file: Sketch.read(file, gamma)) if missing else {}
        found = {id: sketch for id, sketch in known.items() if sketch is not None} | read
        with self._lock:
            for item in learnwares:
                if item.id in found:
                    self._sketches[item.specification_digest] = found[item.id]
                    self._sketches.move_to_end(item.specification_digest)
            while len(self._sketches) > MAX_SKETCHES:
                self._sketches.popitem(last=False)
        return found

    def forget_records(self) -> None:
        """Makes the next ``get`` read the catalogue."""
        with self._lock:
            self._records = {}

    def _fresh_records(self) -> dict[str, Learnware]:
        revision, now = self.catalogue.revision, time.monotonic()
        with self._lock:
            read, since = self._read
            stale = read != revision or now - since > RECORD_SECONDS or len(self._records) > MAX_RECORDS
            if stale:
                self._before, self._records, self._read = self._records, {}, (revision, now)
            return self._records
