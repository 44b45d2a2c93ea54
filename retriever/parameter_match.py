"""Parameter vectors beside text: candidates by both, and one order from two distances.

The fused distance is (MMD / s + a / t) / 2, with a = √(2 - 2·cosine) the distance of the two parameter vectors and
s, t the medians of MMD and a over the candidates whose vector may be compared with the task's. A candidate without
such a vector keeps MMD / s. So neither side's scale matters; where no vector can be compared the order is MMD's.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from catalogue import PUBLISHED, Catalogue, Filter
from catalogue.schema import PARAMETER_VECTOR
from retriever.decision import Ranked
from retriever.mixture import Candidate
from specification import ParameterVector


def nearest_by_parameters(
    catalogue: Catalogue, task: ParameterVector | None, limit: int, where: Filter
) -> list[str]:
    """Returns the ids of learnwares whose projected vectors are nearest to the task's; none if it has none."""
    if task is None:
        return []
    hits = catalogue.nearest(task.projection, limit, PUBLISHED & where, using=PARAMETER_VECTOR)
    return [hit.id for hit in hits]


def with_parameters(
    candidates: Sequence[Candidate], task: ParameterVector | None, ranked: Sequence[Ranked]
) -> list[Ranked]:
    """Adds the exact cosines and fused distances of candidates whose parameter vector may be compared."""
    if task is None or not ranked:
        return list(ranked)
    vectors = {each.learnware.id: each.stored.parameters for each in candidates}
    cosines = [_cosine(task, vectors.get(item.learnware.id)) for item in ranked]
    distances = fused([item.mmd for item in ranked], cosines)
    return [
        replace(item, parameters=cosine, distance=distance)
        for item, cosine, distance in zip(ranked, cosines, distances, strict=True)
    ]


def fused(mmd: Sequence[float], cosines: Sequence[float | None]) -> list[float | None]:
    """Returns the fused distances of c candidates, all None if no cosine is known."""
    known = [(each, _apart(cosine)) for each, cosine in zip(mmd, cosines, strict=True) if cosine is not None]
    if not known:
        return [None] * len(mmd)
    scale, other = np.maximum(np.median(np.array(known), axis=0), 1e-6)
    return [
        round(float(each / scale if cosine is None else (each / scale + _apart(cosine) / other) / 2), 6)
        for each, cosine in zip(mmd, cosines, strict=True)
    ]


def _apart(cosine: float) -> float:
    return float(np.sqrt(max(2 - 2 * cosine, 0)))


def _cosine(task: ParameterVector, other: ParameterVector | None) -> float | None:
    if other is None or other.section.space != task.section.space or other.values.shape != task.values.shape:
        return None
    return round(task.cosine(other), 6)
