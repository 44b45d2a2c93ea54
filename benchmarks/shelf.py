"""A real catalogue filled with specifications alone, and the real encoder with a memory of what it encoded."""

import hashlib
import re
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalogue import CatalogueSettings, Learnware, Signal
from catalogue.edge import EdgeCatalogue
from indexer import make_entry
from retriever import Retriever
from retriever.measurements import FindTask, no_task
from slmdock.dock import cache_folder
from specification import (
    Encoder,
    EncoderIdentity,
    Progress,
    SentenceEncoder,
    Specification,
    no_progress,
)

BASE_MODEL = "benchmark-base"


class CachedEncoder:
    """An encoder whose vectors are kept on disk by text, so that benchmarks encode each text once."""

    def __init__(self, encoder: Encoder | None = None, file: Path | None = None) -> None:
        self.encoder = encoder or SentenceEncoder()
        file = file or cache_folder() / "benchmarks" / "embeddings.sqlite"
        file.parent.mkdir(parents=True, exist_ok=True)
        self._store = sqlite3.connect(file, timeout=60, check_same_thread=False)
        self._store.execute("CREATE TABLE IF NOT EXISTS embedding (key BLOB PRIMARY KEY, vector BLOB)")

    @property
    def identity(self) -> EncoderIdentity:
        return self.encoder.identity

    def encode(self, texts: Sequence[str], progress: Progress = no_progress) -> NDArray[np.float32]:
        """See ``Encoder.encode``."""
        keys = [self._key(text) for text in texts]
        known = {key: vector for key in set(keys) if (vector := self._known(key)) is not None}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            fresh = self.encoder.encode(list(missing.values()), progress)
            known.update(zip(missing, fresh, strict=True))
            rows = [(key, known[key].tobytes()) for key in missing]
            with self._store:
                self._store.executemany("INSERT OR IGNORE INTO embedding VALUES (?, ?)", rows)
        return np.stack([known[key] for key in keys])

    def _known(self, key: bytes) -> NDArray[np.float32] | None:
        row = self._store.execute("SELECT vector FROM embedding WHERE key = ?", (key,)).fetchone()
        return None if row is None else np.frombuffer(row[0], dtype=np.float32)

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.identity.weights_sha256} {text}".encode("utf-8", "replace")).digest()


def shelve(
    folder: Path, encoder: Encoder, shelf: Mapping[str, Specification], measured: FindTask = no_task
) -> Retriever:
    """Fills a new embedded catalogue with learnwares that have a name and a specification, and no adapter."""
    catalogue = EdgeCatalogue.open(folder, CatalogueSettings.of(encoder.identity))
    retriever = Retriever(catalogue, encoder, measured=measured)
    fill(retriever, shelf, {})
    return retriever


def fill(
    retriever: Retriever, shelf: Mapping[str, Specification], quality: Mapping[str, Sequence[Signal]]
) -> None:
    """Puts learnwares into a catalogue, or replaces them, with these quality signals by name."""
    records = [(_record(name, made, quality.get(name, ())), made) for name, made in shelf.items()]
    retriever.catalogue.upsert([make_entry(record, made, retriever.encoder) for record, made in records])


def identify(name: str) -> str:
    """Returns the id of the learnware that was shelved under this name."""
    return hashlib.sha256(name.encode()).hexdigest()


def _record(name: str, specification: Specification, quality: Sequence[Signal]) -> Learnware:
    return Learnware(
        name=re.sub(r"[^A-Za-z0-9._-]", "_", name),
        id=identify(name),
        version=1,
        base_model=BASE_MODEL,
        rank=8,
        adapter_bytes=0,
        sample_size=specification.sample_size,
        created=0,
        specification_digest=specification.digest,
        quality=tuple(quality),
        origin=specification.origin,
    )
