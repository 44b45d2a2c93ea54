"""What a search answers: ranked learnwares and one decision, which may be that none fits."""

from dataclasses import dataclass

from catalogue import Learnware


@dataclass(frozen=True)
class Ranked:
    """A learnware with its exact fit to a task.

    ``fit`` lies in [0, 1], 1 for identical distributions; ``mmd`` is the maximum mean discrepancy,
    nan where a single prompt was asked about and no distance between distributions exists.
    """

    learnware: Learnware
    fit: float
    mmd: float


@dataclass(frozen=True)
class Decision:
    """The learnware that should answer, or None: then the base model serves. ``reason`` is for people."""

    learnware: Learnware | None
    fit: float
    threshold: float
    reason: str


@dataclass(frozen=True)
class Ranking:
    """Learnwares from best to worst, the decision drawn from them, and the seconds it took.

    ``candidates`` is how many learnwares the approximate search handed to the exact rerank.
    """

    ranked: tuple[Ranked, ...]
    decision: Decision
    candidates: int
    seconds: float
