"""What the commands on the life of learnwares print."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict
from rich.table import Column, Table
from rich.text import Text

from catalogue import Learnware, Signal
from indexer import Change
from slmdock.output import signal_line
from specification import Specification, compare

APART = ("created", "id", "near_duplicates", "quality", "specification_digest")
"""Fields that differ between any two learnwares, or are shown on lines of their own."""


class Difference(BaseModel):
    """In what two learnwares differ: fields with both values, and quality signals that only one of them has.

    ``mmd`` is the exact distance of their specifications, ``overlap`` the same as a share in [0, 1], and
    ``points`` how many points their reduced sets have.
    """

    model_config = ConfigDict(frozen=True)

    learnwares: tuple[str, str]
    ids: tuple[str, str]
    created: tuple[int, int]
    fields: dict[str, tuple[object, object]]
    points: tuple[int, int]
    mmd: float
    overlap: float
    signals: tuple[list[Signal], list[Signal]]

    @classmethod
    def of(cls, records: tuple[Learnware, Learnware], specifications: tuple[Specification, Specification]) -> Self:
        """Compares two learnwares; raises Incomparable if their specifications come of different encoders."""
        (left, right), (first, second) = records, specifications
        second.require_encoder(first.section.encoder)
        both = compare(first.reduced_set, [second.reduced_set])
        names = [name for name in Learnware.model_fields if name not in APART]
        return cls(
            learnwares=(left.reference, right.reference),
            ids=(left.id, right.id),
            created=(left.created, right.created),
            fields={
                name: (getattr(left, name), getattr(right, name))
                for name in names
                if getattr(left, name) != getattr(right, name)
            },
            points=(len(first.reduced_set), len(second.reduced_set)),
            mmd=float(both.mmd[0]),
            overlap=float(both.overlap[0]),
            signals=(
                [signal for signal in left.quality if signal not in right.quality],
                [signal for signal in right.quality if signal not in left.quality],
            ),
        )


def standing_json(learnware: Learnware, arrival: Change | None) -> dict[str, object]:
    """A learnware's state for programs."""
    kept = learnware.model_dump(mode="json", include={"id", "name", "version", "status"})
    found = arrival.model_dump(mode="json", include={"when", "who", "why"}) if arrival else {}
    return kept | {"when": None, "who": None, "why": None} | found


def standing_table(rows: Sequence[tuple[Learnware, Change | None]]) -> Table:
    """Learnwares and their states."""
    table = Table(Column("learnware", overflow="fold"), "state", "since", "by", "why", "id", box=None)
    for learnware, arrival in rows:
        since, who, why = (_moment(arrival.when), arrival.who, arrival.why) if arrival else ("-", "-", "-")
        table.add_row(Text(learnware.reference), learnware.status, since, Text(who), Text(why), learnware.id[:16])
    return table


def history_table(changes: Sequence[Change]) -> Table:
    """Changes in the order given."""
    table = Table("when", Column("learnware", overflow="fold"), "what", "who", "why", "id", box=None)
    for one in changes:
        name = one.name if one.version is None else f"{one.name}@{one.version}"
        table.add_row(
            _moment(one.when), Text(name), one.state, Text(one.who), Text(one.why), one.learnware[:16] or "-"
        )
    return table


def difference_table(difference: Difference) -> Table:
    """What differs, a field a line."""
    table = Table("", *(Column(name, overflow="fold") for name in difference.learnwares), box=None)
    table.add_row("id", *(id[:16] for id in difference.ids))
    table.add_row("created", *map(_moment, difference.created))
    for name, values in difference.fields.items():
        table.add_row(name.replace("_", " "), *(Text(_shown(value)) for value in values))
    table.add_row("points", *map(str, difference.points))
    table.add_row("signals", *(Text("\n".join(map(signal_line, each)) or "-") for each in difference.signals))
    table.add_row("MMD", f"{difference.mmd:.4f}", "")
    table.add_row("overlap", f"{difference.overlap:.4f}", "")
    return table


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value) or "-"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
