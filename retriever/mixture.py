"""A task's mixture of learnwares in the catalogue, and which of them should answer a prompt."""

from collections.abc import Mapping, Sequence
from math import nan

import numpy as np

from catalogue import Learnware
from retriever.decision import Decision, Mixture, Pruned, Share, rounded
from retriever.separation import Part, Sketch, separate
from specification import FeatureMap, ReducedSet, Section, Specification, evaluate, self_term
from specification.comparison import Doubles
from specification.kernel import Floats

SHARPNESS = 10.0
"""A kernel this wide tells little of a density: its values are raised to this power (docs/log.md)."""

UNKNOWN_SCORE = 0.15
"""What a prompt that fits nothing still scores: prompts of other domains reach .135 (docs/log.md)."""

Candidate = tuple[Learnware, ReducedSet]


def mixture_of(
    task: Specification, candidates: Sequence[Candidate], sections: Mapping[str, Section], gamma: float
) -> Mixture:
    """Returns the task as a mixture of those candidates whose section is known, by the catalogue's kernel.

    A private learnware, which is one point and tells no compression error, takes no part.
    """
    known = [
        (item, Sketch(reduced, sections[item.id]))
        for item, reduced in candidates
        if item.id in sections and sections[item.id].compression_error is not None
    ]
    sketch = Sketch(task.reduced_set, task.section)
    solution = separate(sketch, [candidate for _, candidate in known], gamma)

    def share(part: Part) -> Share:
        return Share(known[part.place][0], rounded(part.weight), rounded(part.error))

    return Mixture(
        shares=tuple(map(share, solution.parts)),
        unknown=rounded(solution.unknown),
        residual=rounded(solution.residual),
        noise=rounded(solution.noise),
        pruned=tuple(Pruned(known[part.place][0], rounded(part.weight), part.reason) for part in solution.pruned),
    )


def remainder(
    task: Specification, mixture: Mixture, sets: Mapping[str, ReducedSet], feature_map: FeatureMap
) -> Floats:
    """Returns the feature vector [D] of what the mixture leaves of the task, scaled to that of a distribution.

    ``sets`` holds the reduced sets of its learnwares by id; ``mixture.unknown`` must be positive.
    """
    vector = feature_map.embed(task.reduced_set)
    for share in mixture.shares:
        vector = vector - np.float32(share.weight) * feature_map.embed(sets[share.learnware.id])
    return vector / np.float32(mixture.unknown)


def assign(scores: Doubles, members: Sequence[tuple[Learnware, float]], unknown: float) -> Decision:
    """Returns which member answers a prompt with these ``prompt_scores`` [c]; its fit is its posterior.

    ``members`` are learnwares with positive weights. What fits nothing takes part as a member of weight
    ``unknown`` whose score is always UNKNOWN_SCORE; where it wins, none fits.
    """
    weights = [weight for _, weight in members]
    if unknown > 0:
        scores, weights = np.append(scores, UNKNOWN_SCORE), [*weights, unknown]
    chances = posterior(scores[None], weights)[0]
    best = int(chances.argmax())
    chance = rounded(chances[best])
    if best == len(members):
        return Decision(None, chance, nan, 0.0, f"none fits: no part of the task's mixture, {chance:.3f} sure")
    learnware, weight = members[best]
    reason = f"{learnware.name}, {weight:.0%} of the task's mixture, answers this prompt, {chance:.3f} sure"
    return Decision(learnware, chance, nan, 0.0, reason)


def prompt_scores(points: Floats, members: Sequence[ReducedSet], gamma: float) -> Doubles:
    """Returns how well each of c learnwares fits each of n prompts, float64 [n, c]: the cosine μ_i(x)/‖μ_i‖."""
    lengths = np.sqrt([self_term(member, gamma) for member in members])
    scores: Doubles = evaluate(points, members, gamma) / lengths
    return scores


def posterior(scores: Doubles, weights: Sequence[float]) -> Doubles:
    """Returns P(i|x) ∝ w_i·score_i(x)^SHARPNESS for scores [n, c] and positive weights [c]: float64 [n, c]."""
    logs = SHARPNESS * np.log(np.maximum(scores, np.finfo(np.float64).tiny)) + np.log(weights)
    odds = np.exp(logs - logs.max(axis=1, keepdims=True))
    result: Doubles = odds / odds.sum(axis=1, keepdims=True)
    return result
