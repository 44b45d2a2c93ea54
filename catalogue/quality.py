"""What is known of how good a learnware is: signals, each with its source, beside what it was trained for."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from catalogue.labels import ID_PATTERN, MAX_NUMBER, Label
from specification.errors import TooLarge

MAX_SIGNALS = 200

Kind = Literal["capability", "gain", "trial", "feedback"]
Key = tuple[str, str, str, str]


def rounded(value: float) -> float:
    """Returns the value to six decimals: engines give some doubles back one unit in the last place off."""
    return round(value, 6)


class Signal(BaseModel):
    """One result. Only results with the same ``kind``, ``task`` and ``metric`` are compared with each other.

    ``capability`` is a score on a benchmark's task, ``gain`` the verified gain over the base model on the
    learnware's own examples, ``trial`` the outcome of a trial on a task, ``feedback`` the mean of users'
    votes in 0 … 1. ``subject`` tells whether the learnware or its base model was measured. ``examples`` are
    behind the value; ``specification`` is the digest of a specification of the task's prompts, if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    task: Label
    metric: Label = ""
    value: Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False), AfterValidator(rounded)]
    higher_is_better: bool = True
    subject: Literal["learnware", "base"] = "learnware"
    examples: Annotated[int, Field(ge=1, le=MAX_NUMBER)] | None = None
    specification: Annotated[str, Field(pattern=ID_PATTERN)] | None = None
    source: Annotated[Label, Field(min_length=1)]

    @property
    def key(self) -> Key:
        """What a newer result replaces; users' votes are added up instead."""
        return self.kind, self.subject, self.task, self.metric


Signals = Annotated[tuple[Signal, ...], Field(max_length=MAX_SIGNALS)]


def join_signals(known: Iterable[Signal], new: Iterable[Signal]) -> tuple[Signal, ...]:
    """Returns both in order of their keys: a newer result replaces the older one, votes are added up.

    Raises:
        TooLarge: more than MAX_SIGNALS.
    """
    joined = {signal.key: signal for signal in known}
    for signal in new:
        old = joined.get(signal.key)
        joined[signal.key] = _summed(old, signal) if old and signal.kind == "feedback" else signal
    if len(joined) > MAX_SIGNALS:
        raise TooLarge(f"{len(joined)} quality signals, the limit is {MAX_SIGNALS}")
    return tuple(joined[key] for key in sorted(joined))


def _summed(old: Signal, new: Signal) -> Signal:
    before, after = old.examples or 1, new.examples or 1
    value = (old.value * before + new.value * after) / (before + after)
    return Signal.model_validate({**new.model_dump(), "value": value, "examples": before + after})
