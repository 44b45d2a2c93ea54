"""How near a learnware's own texts come to it, by number of texts: what turns a fit into a p-value.

The fit is the cosine ⟨μ_P,μ_Q⟩/(‖μ_P‖‖μ_Q‖) in the RKHS. Its distribution is cross-fitted: a learnware's
texts are split in two, one half makes the reduced set, the other half lends the texts that are compared with it.
Single texts are split at random. From two texts on whole k-means clusters go to one half or the other, since
users word their tasks otherwise than providers do: by the fit of a random half most genuine tasks would be
refused (docs/log.md). A p-value is conformal (Vovk et al., "Algorithmic Learning in a Random World", 2005): the
share of own subsets, of as many texts, that fit no better.
"""

from collections.abc import Iterator, Sequence
from math import ceil, exp, log, log2
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
        place = min(log2(max(texts, 1)), len(self.quantiles) - 1)
        below = int(place)
        lower, upper = (_logarithms(self.quantiles[row]) for row in (below, ceil(place)))
        row = [low + (place - below) * (high - low) for low, high in zip(lower, upper, strict=True)]
        (logarithm,) = _logarithms([fit])
        if logarithm < row[0]:
            return LEVELS[0] * exp(logarithm - row[0])
        return float(np.interp(logarithm, [*row, 0], [*LEVELS, 1]))


def _logarithms(values: Sequence[float]) -> list[float]:
    return [log(max(value, SMALLEST)) for value in values]


# Pooled from the calibrations of 25 real and 12 demo training sets (docs/log.md), under the default encoder.
GENERAL_QUANTILES = (
    (8.51e-06, 1.59e-05, 3.25e-05, 0.000104, 0.000511, 0.00217, 0.00829, 0.132, 0.593),
    (0.0986, 0.117, 0.136, 0.161, 0.206, 0.267, 0.349, 0.656, 0.882),
    (0.136, 0.158, 0.181, 0.211, 0.271, 0.338, 0.431, 0.741, 0.908),
    (0.197, 0.217, 0.235, 0.27, 0.344, 0.419, 0.517, 0.801, 0.925),
    (0.253, 0.277, 0.298, 0.338, 0.418, 0.491, 0.589, 0.829, 0.938),
    (0.323, 0.346, 0.367, 0.405, 0.491, 0.552, 0.651, 0.851, 0.948),
    (0.369, 0.396, 0.419, 0.468, 0.545, 0.622, 0.718, 0.866, 0.965),
)
GENERAL = Calibration(quantiles=GENERAL_QUANTILES)
GENERAL_ENCODER = "b5c9b60c7a7a67a1c51b7aa526b044c25f8eb0219f85693f147a3b27adf45980"
"""The weights of the encoder that ``GENERAL`` was measured with."""


def fits(task: ReducedSet, texts: int, learnwares: Sequence[ReducedSet]) -> NDArray[np.float64]:
    """Returns the fits that calibrations are about, float64 [len(learnwares)] in [0, 1].

    A single text meets a narrower kernel: under the wide one a prompt is half-way near to every diffuse
    learnware (docs/log.md).
    """
    gamma = PROMPT_GAMMA if texts == 1 else DEFAULT_GAMMA
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

    The largest where several calibrations judge a learnware.
    """
    return [
        max(known.p_value(fit, texts) for known in several)
        for fit, several in zip(fits(task, texts, learnwares), calibrations, strict=True)
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
        found[0] += [float(fits(_reduced(text[None]), 1, [learnware])[0]) for text in other]
    for half, other in _halves(sample, _clusters(sample, seed), SPLITS, generator):
        learnware = _reduced(half, size)
        for row in range(1, rows):
            # From very unequal halves the smaller one has no subsets of the larger sizes.
            for _ in range(DRAWS if len(other) >= 2**row else 0):
                drawn = other[generator.choice(len(other), 2**row, replace=False)]
                found[row].append(float(fits(_reduced(drawn), 2**row, [learnware])[0]))
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
