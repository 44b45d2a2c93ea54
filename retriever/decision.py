"""What a search answers: ranked learnwares and one decision, which may be that none fits."""

from dataclasses import dataclass
from math import nan

from catalogue import Learnware

MAX_UNKNOWN = 0.5
DECIMALS = 6
"""Of measured numbers as they are reported."""


@dataclass(frozen=True)
class Ranked:
    """A learnware with its exact fit to a task, and what match and quality together let expect of it.

    ``fit`` lies in [0, 1], 1 for identical distributions; ``mmd`` is the maximum mean discrepancy,
    nan where a single prompt or a private sketch was asked about, which has no distance. ``p_value`` is the
    share of the learnware's genuine tasks, of as many texts, that would lie as far from it.
    ``expected`` is the learnware's expected standing on the task and ``deviation`` its standard deviation, in
    standard deviations of the learnwares' scores on a task, 0 being the middle (``retriever.quality``);
    ``measured`` is how many measured tasks speak in it. All three are None for a single prompt.
    ``parameters`` is the cosine of the parameter vectors, None where not both have comparable ones, and
    ``distance`` what MMD and it make together (``retriever.parameter_match``), None where no candidate has one.
    """

    learnware: Learnware
    fit: float
    mmd: float
    expected: float | None = None
    deviation: float | None = None
    measured: float | None = None
    p_value: float = nan
    parameters: float | None = None
    distance: float | None = None

    @property
    def apart(self) -> float:
        """The distance that orders by match: the fused one, or the MMD where there is none."""
        return self.mmd if self.distance is None else self.distance


@dataclass(frozen=True)
class Decision:
    """The learnware that should answer, or None: then the base model serves. ``reason`` is for people.

    ``threshold`` is the share of genuine tasks that may be refused: none fits if ``p_value``, which is that of the
    nearest learnware, lies under it. Within a mixture there is no p-value: nan.
    """

    learnware: Learnware | None
    fit: float
    p_value: float
    threshold: float
    reason: str


@dataclass(frozen=True)
class Share:
    """A learnware's part in a task: ``weight`` is the share of the task's texts, ``error`` its standard error."""

    learnware: Learnware
    weight: float
    error: float


@dataclass(frozen=True)
class Pruned:
    """A learnware that lowered the residual and was left out all the same, and why, for people."""

    learnware: Learnware
    weight: float
    reason: str


@dataclass(frozen=True)
class Mixture:
    """A task as a non-negative combination of learnwares, heaviest first.

    ``unknown`` is the share of the task that fits nothing, at least; the weights sum to at most 1 - ``unknown``.
    ``residual`` is ‖μ_U - Σw_iμ_i‖² and ``noise`` what of it sampling and compression are expected to cause.
    """

    shares: tuple[Share, ...]
    unknown: float
    residual: float
    noise: float
    pruned: tuple[Pruned, ...] = ()

    @property
    def planned(self) -> bool:
        """Whether several learnwares should share the task: at least two, and most of it fits them."""
        return len(self.shares) > 1 and self.unknown <= MAX_UNKNOWN

    @property
    def reason(self) -> str:
        """The mixture in words."""
        parts = [f"{share.weight:.0%} {share.learnware.name}" for share in self.shares]
        rest = [f"{self.unknown:.0%} fits nothing"] if self.unknown >= 0.005 else []
        return ", ".join(parts + rest) or "nothing fits"


@dataclass(frozen=True)
class Ranking:
    """Learnwares from best to worst, the decision drawn from them, and the seconds it took.

    ``candidates`` is how many learnwares the approximate search handed to the exact rerank.
    ``mixture`` is the task as a combination of learnwares, None where a prompt was asked about, or a private task.
    """

    ranked: tuple[Ranked, ...]
    decision: Decision
    candidates: int
    seconds: float
    mixture: Mixture | None = None


def rounded(number: float) -> float:
    """Returns a measured number as it is reported."""
    return round(float(number), DECIMALS)
