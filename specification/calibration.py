"""How near a learnware's own texts come to it, by number of texts: what turns a fit into a p-value.

The fit is the cosine ⟨μ_P,μ_Q⟩/(‖μ_P‖‖μ_Q‖) in the RKHS. Its distribution is cross-fitted: a learnware's
texts are split in two, one half makes the reduced set, the other half lends the texts that are compared with it.
Single texts are split at random. From two texts on whole k-means clusters go to one half or the other, since
users word their tasks otherwise than providers do: by the fit of a random half most genuine tasks would be
refused (docs/log.md). A p-value is conformal (Vovk et al., "Algorithmic Learning in a Random World", 2005): the
share of own subsets, of as many texts, that fit no better.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from specification.comparison import compare
from specification.encoder import EncoderIdentity
from specification.kernel import DEFAULT_GAMMA, Floats
from specification.reduced_set import ReducedSet, reduce

LEVELS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 0.9)
MAX_ROWS = 7
PROMPT_GAMMA = 8.0
MIN_SAMPLE = 8
CLUSTERS = 8
SPLITS = 8
DRAWS = 4
TEXT_SPLITS = 2
SMALLEST = 1e-12


def _ascending(row: tuple[float, ...]) -> tuple[float, ...]:
    if list(row) != sorted(row):
        raise ValueError("the quantiles must ascend")
    return row


Row = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)], ...],
    Field(min_length=len(LEVELS), max_length=len(LEVELS)),
    AfterValidator(_ascending),
]


class Calibration(BaseModel):
    """Quantiles, at ``LEVELS``, of the fit of own subsets; row i is for subsets of 2^i texts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantiles: Annotated[tuple[Row, ...], Field(min_length=1, max_length=MAX_ROWS)]

    def p_value(self, fit: float, texts: int) -> float:
        """Returns the share of own subsets of ``texts`` texts that fit no better, in [0, 1].

        Linear in the logarithms of fit and size, since fits of single texts span orders of magnitude; below
        the lowest quantile in proportion to the fit. Beyond the last row, the last row judges.
        """
        rows = np.log(np.maximum(self.quantiles, SMALLEST))
        place = min(float(np.log2(max(texts, 1))), len(rows) - 1)
        below, above = int(np.floor(place)), int(np.ceil(place))
        row = rows[below] + (place - below) * (rows[above] - rows[below])
        logarithm = float(np.log(max(fit, SMALLEST)))
        if logarithm < row[0]:
            return float(LEVELS[0] * np.exp(logarithm - row[0]))
        return float(np.interp(logarithm, [*row, 0], [*LEVELS, 1]))


# The mean of the calibrations of 25 real and 12 demo training sets (docs/log.md), under the default encoder.
GENERAL_QUANTILES = (
    (9.33e-06, 1.74e-05, 3.29e-05, 9.93e-05, 0.000473, 0.00208, 0.00834, 0.129, 0.598),
    (1.34e-05, 2.27e-05, 4.09e-05, 0.000109, 0.000386, 0.00141, 0.00566, 0.154, 0.57),
    (0.166, 0.18, 0.197, 0.223, 0.276, 0.336, 0.426, 0.737, 0.909),
    (0.238, 0.251, 0.264, 0.295, 0.361, 0.429, 0.521, 0.801, 0.928),
    (0.311, 0.328, 0.343, 0.372, 0.444, 0.512, 0.6, 0.833, 0.942),
    (0.389, 0.403, 0.42, 0.448, 0.521, 0.58, 0.668, 0.857, 0.952),
    (0.429, 0.46, 0.483, 0.519, 0.566, 0.628, 0.718, 0.87, 0.958),
)
GENERAL = Calibration(quantiles=GENERAL_QUANTILES)
GENERAL_ENCODER = "b5c9b60c7a7a67a1c51b7aa526b044c25f8eb0219f85693f147a3b27adf45980"
"""The weights of the encoder that ``GENERAL`` was measured with."""


def fits(task: ReducedSet, learnwares: Sequence[ReducedSet]) -> NDArray[np.float64]:
    """Returns the fits that calibrations are about, float64 [len(learnwares)] in [0, 1].

    A single point meets a narrower kernel: under the wide one a prompt is half-way near to every diffuse
    learnware (docs/log.md).
    """
    gamma = PROMPT_GAMMA if len(task) == 1 else DEFAULT_GAMMA
    return compare(task, learnwares, gamma).cosine


def judges(own: Calibration | None, encoder: EncoderIdentity) -> tuple[Calibration, ...]:
    """Returns the calibrations that judge a learnware: its own, if it has one, and ``GENERAL``.

    A learnware whose texts are all worded alike knows nothing of other wordings; there the general one speaks.
    Under another encoder than its own, the general one stands in where a learnware has none.
    """
    if own is None:
        return (GENERAL,)
    return (own, GENERAL) if encoder.weights_sha256 == GENERAL_ENCODER else (own,)


def p_values(
    task: ReducedSet,
    texts: int,
    learnwares: Sequence[ReducedSet],
    calibrations: Sequence[Sequence[Calibration]],
) -> list[float]:
    """Returns the share of genuine tasks that fit each learnware no better than this one does, in [0, 1].

    The largest where several calibrations judge a learnware. A task of m points counts as one of at most 2m
    ``texts``: more texts in as few points fit no worse.
    """
    size = min(texts, 2 * len(task))
    return [
        max(known.p_value(fit, size) for known in several)
        for fit, several in zip(fits(task, learnwares), calibrations, strict=True)
    ]


def calibrate(sample: Floats, size: int | None = None, seed: int = 0) -> Calibration | None:
    """Calibrates a learnware by its sample, float32 [n, d], and the ``size`` of its reduced set.

    Rows go up to n / 2 texts, at most 64. None for fewer than MIN_SAMPLE texts, which are too few to be split.
    """
    if len(sample) < MIN_SAMPLE:
        return None
    generator = np.random.default_rng(seed)
    rows = min(MAX_ROWS, len(sample).bit_length() - 1)
    found: list[list[float]] = [[] for _ in range(rows)]
    for half, other in _halves(sample, np.arange(len(sample)), TEXT_SPLITS, generator):
        learnware = _reduced(half, size)
        found[0] += [float(fits(_reduced(text[None]), [learnware])[0]) for text in other]
    for half, other in _halves(sample, _clusters(sample, seed), SPLITS, generator):
        learnware = _reduced(half, size)
        for row in range(1, rows):
            # From very unequal halves the smaller one has no subsets of the larger sizes.
            for _ in range(DRAWS if len(other) >= 2**row else 0):
                drawn = other[generator.choice(len(other), 2**row, replace=False)]
                found[row].append(float(fits(_reduced(drawn), [learnware])[0]))
    return Calibration(quantiles=tuple(_quantiles(row) for row in found))


def _quantiles(fits: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in np.quantile(fits, LEVELS))


def _clusters(sample: Floats, seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans

    count = min(CLUSTERS, len(np.unique(sample, axis=0)))
    labels = KMeans(n_clusters=count, n_init=1, random_state=seed).fit(sample).labels_
    # Texts that are all the same make one cluster, which cannot be split: then each stands alone.
    return np.arange(len(sample)) if count < 2 else labels.astype(np.int64)


def _halves(
    sample: Floats, labels: NDArray[np.int64], splits: int, generator: np.random.Generator
) -> Iterator[tuple[Floats, Floats]]:
    """Yields both directions of ``splits`` random splits into groups of labels, as nearly equal as they come."""
    counts = np.bincount(labels)
    for _ in range(splits):
        order = generator.permutation(len(counts))
        filled = np.cumsum(counts[order])[:-1]
        chosen = order[: int(np.abs(filled - len(sample) / 2).argmin()) + 1]
        first = np.isin(labels, chosen)
        yield sample[first], sample[~first]
        yield sample[~first], sample[first]


def _reduced(sample: Floats, size: int | None = None) -> ReducedSet:
    if len(sample) == 1:
        return ReducedSet(sample, np.ones(1, dtype=np.float32))
    return reduce(sample, None if size is None else min(size, len(sample) // 2))
