"""From a provider's adapter or whole model, card and specification to a learnware in the catalogue."""

import logging
import time
from pathlib import Path
from typing import Literal, NamedTuple

from catalogue import (
    Card,
    Catalogue,
    Entry,
    Learnware,
    State,
    description_of,
)
from catalogue.learnware import WHOLE_MODEL, is_id, other_case
from indexer.adapter import read_adapter
from indexer.base_models import BaseModels
from indexer.history import Change, as_reason, system_user
from indexer.life_cycle import HELD, MOVES, LifeCycle, change_of
from indexer.measured_tasks import FOLDER, MeasuredTasks
from indexer.near_duplicates import NearDuplicates
from indexer.store import AdapterStore
from indexer.update_sketches import SKETCHES_FILE, Sketch
from indexer.whole_model import is_whole_model, take_in
from specification import Encoder, Specification
from specification.errors import Conflict, HistoryUnavailable, InvalidInput

TakenAs = Literal["checked", "published"]

log = logging.getLogger(__name__)


class Artefact(NamedTuple):
    """What lies in the store: an adapter, or a whole model, which has no sketch; ``size`` in bytes."""

    id: str
    base_model: str
    rank: int
    size: int
    sketch: Sketch | None = None


class Indexer(LifeCycle):
    """Checks, stores and indexes learnwares, and keeps their life cycle. One writer at a time."""

    def __init__(self, catalogue: Catalogue, store: AdapterStore, bases: BaseModels, encoder: Encoder) -> None:
        super().__init__(catalogue, store)
        self.bases = bases
        self.encoder = encoder
        self.measured = MeasuredTasks(store.root / FOLDER)
        self.near_duplicates = NearDuplicates(catalogue, store.root.parent / SKETCHES_FILE)

    def submit(
        self,
        folder: Path,
        specification: Specification,
        card: Card,
        state: TakenAs = "published",
        who: str | None = None,
        *,
        base: str | None = None,
        rename: bool = False,
    ) -> Learnware:
        """Takes one learnware in, an adapter or a whole model, and makes both artefact and point durable.

        It is published at once, or held back as ``checked``. The same content is one learnware: submitted again,
        its card and specification are replaced, and its version stays, as does its state unless it was held back
        and is to be published now. Submitted again unchanged, nothing is written but an artefact that was lost.
        Near-duplicates that were there before are named in the record. ``who`` submits, for the history; None is
        the user of this process. ``base`` is the name of the base model that an adapter stands on, in place of
        what its configuration says. What is in under another name is refused, unless it is to be ``rename``d.

        Raises:
            Conflict: it is in under another name, which it keeps.
            InvalidAdapter, TooLarge: the folder fails a check.
            NotFound: no base model has the name ``base``.
            Incomparable: the specification was made by another encoder than the catalogue's.
            InvalidInput: the card's name is a base model's, or differs from a known one in case alone, or a whole
                model is said to stand on a base model.
        """
        who = system_user() if who is None else who
        try:
            self._check(specification, card)
            artefact = self._stored(folder, base)
            known = self._known(artefact, card, rename)
        except InvalidInput as error:
            self._refused(card, who, str(error).replace(f"{folder}/", ""))
            raise
        return self._index(artefact, known, specification, card, state, who)

    def adopt(
        self,
        id: str,
        specification: Specification,
        card: Card,
        state: TakenAs = "published",
        who: str | None = None,
        *,
        rename: bool = False,
    ) -> Learnware:
        """Takes in a whole model that lies in the store already, see ``whole_model.take_in``.

        Raises:
            NotFound: it does not. InvalidInput: ``id`` is none, or an adapter's. Otherwise see ``submit``.
        """
        who = system_user() if who is None else who
        try:
            self._check(specification, card)
            artefact = self._adopted(id)
            known = self._known(artefact, card, rename)
        except InvalidInput as error:
            self._refused(card, who, str(error), id)
            raise
        return self._index(artefact, known, specification, card, state, who)

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
        if card.name.lower() in map(str.lower, self.bases.names()):
            raise InvalidInput(f"learnware card: field 'name': {card.name!r} is the name of a base model")
        if other := self.catalogue.other_spelling(card.name):
            raise InvalidInput(f"learnware card: {other_case(card.name, other)}")

    def _known(self, artefact: Artefact, card: Card, rename: bool) -> Learnware | None:
        """Returns the record of what is in already; raises Conflict where it would lose its name unasked."""
        known = next(iter(self.catalogue.get([artefact.id])), None)
        if known is not None and known.name != card.name and not rename:
            raise Conflict(
                f"{card.name}: the same content is in already as {known.name}; submit it under that name, or with "
                "'slmdock submit --rename' (over the API: rename=true) to rename it"
            )
        return known

    def _stored(self, folder: Path, base: str | None) -> Artefact:
        # The artefact first, and never taken back: without its point it is invisible and harmless, while a
        # write that failed half-way may still have made the point.
        if is_whole_model(folder):
            if base is not None:
                raise InvalidInput(f"{folder}: a whole model stands on no base model; leave --base out")
            return self._adopted(take_in(folder, self.store))
        adapter = read_adapter(folder, self.bases, base)
        self.store.put(adapter.id, adapter.files)
        return Artefact(adapter.id, adapter.base_model, adapter.rank, adapter.size, adapter.sketch)

    def _adopted(self, id: str) -> Artefact:
        folder = self.store.path_of(id)
        if not is_whole_model(folder):
            raise InvalidInput(f"{id[:16]}… is no whole model; submit an adapter by its files")
        return Artefact(id, WHOLE_MODEL, 0, sum(file.stat().st_size for file in folder.iterdir()))

    def _refused(self, card: Card, who: str, why: str, id: str = "") -> None:
        known = id if is_id(id) else ""
        change = Change(
            learnware=known, name=card.name, state="refused", who=who, when=time.time(), why=as_reason(why)
        )
        self.history.note([change])

    def _index(
        self,
        artefact: Artefact,
        known: Learnware | None,
        specification: Specification,
        card: Card,
        state: TakenAs,
        who: str,
    ) -> Learnware:
        learnware = self._record(artefact, specification, card, known)
        learnware = learnware.model_copy(update={"status": _state_of(known, state)})
        if known is None or known.specification_digest != learnware.specification_digest:
            found = self.near_duplicates.find(learnware, specification, artefact.sketch)
            learnware = learnware.model_copy(update={"near_duplicates": found})
        if known != learnware:
            self.catalogue.upsert([make_entry(learnware, specification, self.encoder)])
            self.history.note(_changes(known, learnware, who))
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
            origin=specification.origin,
            near_duplicates=known.near_duplicates if known else (),
        )

    def _next_version(self, name: str) -> int:
        """Returns a version that no content had under this name, also none that was deleted since."""
        try:
            known = self.history.last_version(name)
        except HistoryUnavailable as error:
            log.error("%s: its version is counted without those that were deleted: %s", name, error)
            known = 0
        return max(self.catalogue.versions([name]).get(name, 0), known) + 1


def _state_of(known: Learnware | None, wanted: TakenAs) -> State:
    """Returns the state of what is submitted: what is retired, quarantined or published already stays so."""
    if known is None:
        return wanted
    return wanted if known.status in HELD and wanted in MOVES[known.status] else known.status


def _changes(known: Learnware | None, learnware: Learnware, who: str) -> list[Change]:
    """Returns what a submission changed."""
    if known is None:
        passed: tuple[State, ...] = ("submitted", "checked", "published")
        reached = passed[: passed.index(learnware.status) + 1]
        why = {"submitted": learnware.warning}
        return [change_of(learnware, state, who, why.get(state, "")) for state in reached]
    changes = []
    fields = [name for name in Learnware.model_fields if getattr(known, name) != getattr(learnware, name)]
    if fields != ["status"]:
        renamed = f"; it was {known.reference}" if known.reference != learnware.reference else ""
        words = ", ".join(_in_words(name, known, learnware) for name in fields if name != "status")
        warning = f"; {learnware.warning}" if "near_duplicates" in fields and learnware.warning else ""
        changes.append(change_of(learnware, "updated", who, f"changed: {words}{renamed}{warning}"))
    if known.status != learnware.status:
        changes.append(change_of(learnware, learnware.status, who))
    return changes


def _in_words(field: str, known: Learnware, learnware: Learnware) -> str:
    if field == "sample_size":
        return f"sample_size {known.sample_size} → {learnware.sample_size}"
    return "specification" if field == "specification_digest" else field


def make_entry(learnware: Learnware, specification: Specification, encoder: Encoder) -> Entry:
    """Returns a learnware as catalogues take it, its description encoded."""
    return Entry(learnware, specification, encoder.encode([description_of(learnware)])[0])
