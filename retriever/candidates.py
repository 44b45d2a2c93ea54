"""Who takes part in a trial: the learnwares worth trying for a task, and what is known of them before it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from catalogue import EVERYTHING, Filter, Learnware
from retriever.decision import Ranked
from retriever.retriever import Retriever
from retriever.trial import MAX_CANDIDATES, Doubles, TrialPrior, shortlist
from specification import ReducedSet, Specification, evaluate

CONSIDERED = 100


@dataclass(frozen=True)
class TrialCandidates:
    """The learnwares of a trial, most promising first, and the prior over them in that order."""

    ranked: tuple[Ranked, ...]
    prior: TrialPrior


def trial_candidates(
    retriever: Retriever, task: Specification, count: int, where: Filter = EVERYTHING
) -> TrialCandidates | None:
    """Returns up to ``count`` of the best-matching learnwares that differ enough to be worth trying together.

    They are drawn from the CONSIDERED best matches by ``shortlist``. None where no learnware passes the filter.

    Raises:
        Incomparable: the specification was made by another encoder than the catalogue's.
        InvalidInput: ``count`` is not in 1 … MAX_CANDIDATES.
    """
    ranked = retriever.search(task, max(CONSIDERED, min(count, MAX_CANDIDATES)), where).ranked
    reduced = retriever.catalogue.reduced_sets([item.learnware for item in ranked])
    found = [item for item in ranked if item.learnware.id in reduced]
    if not found:
        return None
    gamma = retriever.catalogue.settings.feature_map.gamma
    match = match_prior(found, [reduced[item.learnware.id] for item in found], gamma)
    learnwares = [item.learnware for item in found]
    prior = TrialPrior(match.fit, match.similarity, capability(learnwares, task.digest))
    chosen = shortlist(prior, count)
    return TrialCandidates(tuple(found[one] for one in chosen), part_of(prior, chosen))


def match_prior(ranked: list[Ranked], reduced: list[ReducedSet], gamma: float) -> TrialPrior:
    """Returns the prior that match alone gives: fits, and the RKHS cosines of all pairs of specifications."""
    products = np.array([one.weights @ evaluate(one.points, reduced, gamma) for one in reduced])
    lengths = np.sqrt(products.diagonal())
    similarity = np.clip((products + products.T) / (2 * np.outer(lengths, lengths)), 0, 1)
    return TrialPrior(np.array([item.fit for item in ranked]), similarity)


def capability(learnwares: Sequence[Learnware], task: str) -> Doubles | None:
    """Returns the learnwares' own scores on tasks other than ``task``, a digest: [t, c], NaN where unknown.

    A task counts where two learnwares at least have a score in 0 … 1 by one metric. None if there is no such task.
    """
    rows: dict[tuple[str, str, str], Doubles] = {}
    for place, learnware in enumerate(learnwares):
        for signal in learnware.quality:
            own = signal.subject == "learnware" and signal.kind in ("capability", "trial")
            if own and signal.specification != task and 0 <= signal.value <= 1:
                row = rows.setdefault((signal.kind, signal.task, signal.metric), np.full(len(learnwares), np.nan))
                row[place] = signal.value if signal.higher_is_better else -signal.value
    several = [row for row in rows.values() if np.isfinite(row).sum() >= 2]
    return np.array(several) if several else None


def part_of(prior: TrialPrior, chosen: list[int]) -> TrialPrior:
    """Returns the prior over some of its candidates, in the given order."""
    capability = None if prior.capability is None else prior.capability[:, chosen]
    return TrialPrior(prior.fit[chosen], prior.similarity[np.ix_(chosen, chosen)], capability)


def with_base(prior: TrialPrior) -> TrialPrior:
    """Returns the prior with the base model as a last candidate, which matches nothing and is like nobody."""
    similarity = np.eye(len(prior) + 1)
    similarity[:-1, :-1] = prior.similarity
    rows = prior.capability
    if rows is not None:
        rows = np.column_stack([rows, np.full(len(rows), np.nan)])
    return TrialPrior(np.append(prior.fit, 0.0), similarity, rows)
