"""From a provider's adapter or whole model, card and specification to a learnware in the catalogue."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from catalogue import (
    Card,
    Catalogue,
    Entry,
    Learnware,
    Signal,
    description_of,
    join_signals,
)
from catalogue.learnware import WHOLE_MODEL
from indexer.adapter import read_adapter
from indexer.base_models import BaseModels
from indexer.measured_tasks import FOLDER, MeasuredTasks
from indexer.store import AdapterStore
from indexer.whole_model import is_whole_model, take_in
from specification import Encoder, Specification
from specification.errors import InvalidInput


class Artefact(NamedTuple):
    """What lies in the store: an adapter, or a whole model; ``size`` in bytes."""

    id: str
    base_model: str
    rank: int
    size: int


class Indexer:
    """Checks, stores and indexes learnwares. One writer at a time."""

    def __init__(self, catalogue: Catalogue, store: AdapterStore, bases: BaseModels, encoder: Encoder) -> None:
        self.catalogue = catalogue
        self.store = store
        self.bases = bases
        self.encoder = encoder
        self.measured = MeasuredTasks(store.root / FOLDER)

    def submit(self, folder: Path, specification: Specification, card: Card) -> Learnware:
        """Takes one learnware in, an adapter or a whole model, and makes both artefact and point durable.

        The same content is one learnware: submitted again, its card and specification are replaced.
        Submitted again unchanged, nothing is written but an artefact that was lost.

        Raises:
            InvalidAdapter, TooLarge: the folder fails a check.
            Incomparable: the specification was made by another encoder than the catalogue's.
            InvalidInput: the card's name is a base model's.
        """
        self._check(specification, card)
        # The artefact first, and never taken back: without its point it is invisible and harmless, while a
        # write that failed half-way may still have made the point.
        if is_whole_model(folder):
            return self.adopt(take_in(folder, self.store), specification, card)
        adapter = read_adapter(folder, self.bases)
        self.store.put(adapter.id, adapter.files)
        return self._index(
            Artefact(adapter.id, adapter.base_model, adapter.rank, adapter.size), specification, card
        )

    def adopt(self, id: str, specification: Specification, card: Card) -> Learnware:
        """Takes in a whole model that lies in the store already, see ``whole_model.take_in``.

        Raises:
            NotFound: it does not. InvalidInput: ``id`` is none, or an adapter's. Otherwise see ``submit``.
        """
        self._check(specification, card)
        folder = self.store.path_of(id)
        if not is_whole_model(folder):
            raise InvalidInput(f"{id[:16]}… is no whole model; submit an adapter by its files")
        size = sum(file.stat().st_size for file in folder.iterdir())
        return self._index(Artefact(id, WHOLE_MODEL, 0, size), specification, card)

    def attach(self, learnware: Learnware, signals: Sequence[Signal]) -> Learnware:
        """Adds quality signals to a learnware that was read from the catalogue; returns the new record.

        Raises:
            NotFound: the learnware was removed meanwhile. TooLarge: more signals than a record holds.
        """
        specification = Specification.from_bytes(self.catalogue.specification_file(learnware))
        quality = join_signals(learnware.quality, signals)
        rated = learnware.model_copy(update={"quality": quality})
        self.catalogue.upsert([make_entry(rated, specification, self.encoder)])
        return rated

    def measure(self, task: Specification) -> str:
        """Keeps the specification of a task that signals name, and returns its digest.

        Raises:
            Incomparable: it was made by another encoder than the catalogue's.
        """
        self.catalogue.settings.encoder.require(task.section.encoder)
        self.measured.put(task)
        return task.digest

    def _check(self, specification: Specification, card: Card) -> None:
        self.catalogue.settings.encoder.require(specification.section.encoder)
        if card.name in self.bases.names():
            raise InvalidInput(f"learnware card: field 'name': {card.name!r} is the name of a base model")

    def _index(self, artefact: Artefact, specification: Specification, card: Card) -> Learnware:
        known = next(iter(self.catalogue.get([artefact.id])), None)
        learnware = self._record(artefact, specification, card, known)
        if known != learnware:
            self.catalogue.upsert([make_entry(learnware, specification, self.encoder)])
        return learnware

    def _record(
        self, artefact: Artefact, specification: Specification, card: Card, known: Learnware | None
    ) -> Learnware:
        same_name = known is not None and known.name == card.name
        return Learnware(
            **card.model_dump(),
            id=artefact.id,
            version=known.version if known and same_name else self._next_version(card.name),
            base_model=artefact.base_model,
            rank=artefact.rank,
            adapter_bytes=artefact.size,
            sample_size=specification.sample_size,
            created=known.created if known else int(time.time()),
            specification_digest=specification.digest,
            quality=known.quality if known else (),
            privacy=str(specification.privacy),
        )

    def _next_version(self, name: str) -> int:
        return self.catalogue.versions([name]).get(name, 0) + 1


def make_entry(learnware: Learnware, specification: Specification, encoder: Encoder) -> Entry:
    """Returns a learnware as catalogues take it, its description encoded."""
    return Entry(learnware, specification, encoder.encode([description_of(learnware)])[0])
