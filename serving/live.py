"""The last minute of a gateway, for ``slmdock top``: rates, quantiles, and the learnwares most used."""

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from serving.request_record import RequestRecord, Stage

WINDOW_SECONDS = 60
MOST_USED = 10
# Times kept of each second; quantiles of a busier second are those of its first requests.
SAMPLES = 100

Key = TypeVar("Key")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class ReplicaLoad(_Frozen):
    """One replica of an engine: the requests it works on, and the adapters in its memory, idle ones too.

    ``loads`` counts the adapters that were read into its memory so far.
    """

    replica: str
    up: bool
    in_flight: int
    residents: int
    loads: int = 0


class EngineState(_Frozen):
    """One base model's engine; ``replicas`` is empty for an engine that has none."""

    base_model: str
    healthy: bool
    replicas: tuple[ReplicaLoad, ...] = ()


class WholeModelState(_Frozen):
    """A whole model that runs, or starts if it is not ``up``; ``idle_seconds`` is 0 while it answers."""

    model: str
    up: bool
    bytes: int
    in_flight: int
    idle_seconds: float


class WholeModelsState(_Frozen):
    """The whole models in memory, and the bytes that they take of those that they may take."""

    budget: int
    used: int
    models: tuple[WholeModelState, ...]


class DockState(_Frozen):
    """The dock at this moment; ``learnwares`` is None if the catalogue does not answer.

    ``whole`` is None where whole models are not served.
    """

    engines: tuple[EngineState, ...]
    learnwares: int | None
    whole: WholeModelsState | None = None


class Quantiles(_Frozen):
    """Of times in seconds."""

    p50: float
    p95: float

    @classmethod
    def of(cls, times: Sequence[float]) -> "Quantiles | None":
        """Returns the nearest ranks, None if there is nothing to rank."""
        if not times:
            return None
        ordered = sorted(times)
        ranks = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.95)]
        return cls(p50=ranks[0], p95=ranks[1])


class Used(_Frozen):
    """How often a learnware answered: ``model`` is its engine name, ``learnware`` its id."""

    model: str
    learnware: str
    requests: int
    completion_tokens: int


class LastMinute(_Frozen):
    """Requests for tokens that ended within the last ``window_seconds``. Rates are per second."""

    window_seconds: float
    requests: float
    refused: float
    failed: float
    prompt_tokens: float
    completion_tokens: float
    first_token: Quantiles | None
    decision: Quantiles | None
    whole: Quantiles | None
    decisions: dict[str, int]
    most_used: tuple[Used, ...]


class LiveSnapshot(_Frozen):
    """What ``GET /v1/live`` answers. ``in_flight`` counts requests for tokens by stage."""

    uptime_seconds: float
    last_minute: LastMinute
    in_flight: dict[Stage, int]
    dock: DockState


@dataclass
class _Second:
    """What ended within one second."""

    at: int
    counts: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    uses: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_token: list[float] = field(default_factory=list)
    decision: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


class Recent:
    """Sums of the last minute, second by second, so that neither memory nor work grows with the load."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._seconds: deque[_Second] = deque(maxlen=WINDOW_SECONDS)

    def add(self, record: RequestRecord) -> None:
        """Counts a finished request for tokens."""
        second = self._now()
        second.counts["requests"] += 1
        if record.status >= 400:
            second.counts["failed" if record.status >= 500 else "refused"] += 1
        for kept, seconds in (
            (second.first_token, record.first_token_seconds),
            (second.decision, record.decision_seconds),
            (second.whole, record.seconds if record.status < 400 else None),
        ):
            if seconds is not None and len(kept) < SAMPLES:
                kept.append(seconds)
        completion = 0
        if record.usage is not None:
            completion = record.usage.completion_tokens
            second.counts["prompt_tokens"] += record.usage.prompt_tokens
            second.counts["completion_tokens"] += completion
        if record.choice is not None:
            second.decisions[record.choice.kind] += 1
            if record.choice.learnware:
                used = (record.choice.model, record.choice.learnware)
                second.uses[used] += 1
                second.tokens[used] += completion

    def last_minute(self) -> LastMinute:
        """Returns the sums."""
        now = time.monotonic()
        recent = [second for second in self._seconds if second.at > now - WINDOW_SECONDS]
        window = max(1.0, min(WINDOW_SECONDS, now - self.started))
        counts = _total(second.counts for second in recent)
        tokens = _total(second.tokens for second in recent)
        most_used = _total(second.uses for second in recent).most_common(MOST_USED)
        return LastMinute(
            window_seconds=window,
            requests=counts["requests"] / window,
            refused=counts["refused"] / window,
            failed=counts["failed"] / window,
            prompt_tokens=counts["prompt_tokens"] / window,
            completion_tokens=counts["completion_tokens"] / window,
            first_token=Quantiles.of([each for second in recent for each in second.first_token]),
            decision=Quantiles.of([each for second in recent for each in second.decision]),
            whole=Quantiles.of([each for second in recent for each in second.whole]),
            decisions=dict(_total(second.decisions for second in recent).most_common()),
            most_used=tuple(
                Used(model=used[0], learnware=used[1], requests=times, completion_tokens=tokens[used])
                for used, times in most_used
            ),
        )

    def _now(self) -> _Second:
        at = int(time.monotonic())
        if not self._seconds or self._seconds[-1].at != at:
            self._seconds.append(_Second(at))
        return self._seconds[-1]


def _total(counters: Iterable[Counter[Key]]) -> Counter[Key]:
    total: Counter[Key] = Counter()
    for counter in counters:
        total.update(counter)
    return total
