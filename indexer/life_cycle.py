"""The life of a learnware in the catalogue: which states follow which, changing them, and removing it.

Only ``published`` learnwares are found and answer. ``submitted``, ``checked`` and ``verified`` are held back on
their way there, ``retired`` has had its time, ``quarantined`` is not trusted. Every change is in the history.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence

from catalogue import Catalogue, Entry, Learnware, Row, Signal, State, join_signals
from indexer.history import HISTORY_FILE, Change, Event, History, require_reason
from indexer.store import AdapterStore
from specification import Specification
from specification.errors import Conflict, NotFound

MOVES: dict[State, tuple[State, ...]] = {
    "submitted": ("checked", "retired", "quarantined"),
    "checked": ("verified", "published", "retired", "quarantined"),
    "verified": ("published", "retired", "quarantined"),
    "published": ("retired", "quarantined"),
    "retired": ("published",),
    "quarantined": ("verified", "published", "retired"),
}
"""The states that each state may be followed by."""
HELD: tuple[State, ...] = ("submitted", "checked", "verified")
"""The states on the way to being published."""


class LifeCycle:
    """Moves learnwares from state to state, and removes them. One writer at a time."""

    def __init__(self, catalogue: Catalogue, store: AdapterStore) -> None:
        """``store`` lies in the dock's folder, where the history is kept too."""
        self.catalogue = catalogue
        self.store = store
        self.history = History(store.root.parent / HISTORY_FILE)

    def move(self, learnware: Learnware, state: State, who: str, why: str = "") -> Learnware:
        """Gives a learnware another state; returns the new record.

        Raises:
            Conflict: from the state that it is in, it cannot get there; see ``MOVES``.
            NotFound: it was removed meanwhile. InvalidInput: the reason is too long.
        """
        require_reason(why)
        row = self._row(learnware)
        require_move(row.learnware, state)
        moved = self._replaced(row, {"status": state})
        self.history.note([change_of(moved, state, who, why)])
        return moved

    def attach(self, learnware: Learnware, signals: Sequence[Signal]) -> Learnware:
        """Adds quality signals to a learnware; returns the new record.

        Raises:
            NotFound: it was removed meanwhile. TooLarge: more signals than a record holds.
        """
        row = self._row(learnware)
        return self._replaced(row, {"quality": join_signals(row.learnware.quality, signals)})

    def delete(self, learnware: Learnware, who: str, why: str = "") -> None:
        """Removes a learnware's point and its artefact. Whoever calls knows whether something still uses it.

        Raises:
            NotFound: it was removed meanwhile. InvalidInput: the reason is too long.
        """
        require_reason(why)
        if not self.catalogue.delete([learnware.id]):
            raise NotFound(f"learnware {learnware.reference} was removed meanwhile")
        self.history.note([change_of(learnware, "deleted", who, why)])
        # Another process may have submitted it again, or it was an entry whose artefact is elsewhere.
        if not self.catalogue.get([learnware.id]):
            with contextlib.suppress(NotFound):
                self.store.delete(learnware.id)

    def _row(self, learnware: Learnware) -> Row:
        row = next(iter(self.catalogue.fetch([learnware.id])), None)
        if row is None:
            raise NotFound(f"learnware {learnware.reference} was removed meanwhile; submit it again")
        return row

    def _replaced(self, row: Row, fields: Mapping[str, object]) -> Learnware:
        """Writes a record with other fields in place of the one in ``row``."""
        fresh = row.learnware.model_copy(update=fields)
        self.catalogue.upsert([Entry(fresh, Specification.from_bytes(row.file), row.text_vector)])
        return fresh


def require_move(learnware: Learnware, state: State) -> None:
    """Raises Conflict unless a learnware may get a state now."""
    possible = MOVES[learnware.status]
    if state not in possible:
        raise Conflict(
            f"learnware {learnware.reference} is {learnware.status} and cannot become {state}, only "
            f"{' or '.join(possible)}; 'slmdock status {learnware.name}' shows all its versions"
        )


def change_of(learnware: Learnware, event: Event, who: str, why: str = "") -> Change:
    """Returns what happens to a learnware now, for the history."""
    return Change(
        learnware=learnware.id, name=learnware.name, version=learnware.version,
        state=event, who=who, when=time.time(), why=why,
    )  # fmt: skip
