"""From a task's specification to a decision: approximate candidates, exact rerank, fit, or none fits."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isnan, nan

import numpy as np
from threadpoolctl import threadpool_limits

from catalogue import EVERYTHING, PUBLISHED, Catalogue, Filter, Learnware, Row
from catalogue.contract import MAX_LIMIT
from catalogue.schema import PROMPT_VECTOR
from retriever.decision import DECIMALS, Decision, Mixture, Ranked, Ranking, rounded
from retriever.live_whitening import LiveWhitening
from retriever.measurements import FindTask, Measurements, no_task, noise
from retriever.mixture import (
    UNKNOWN_SCORE,
    Candidates,
    Unmixing,
    assign,
    newest_versions,
    prompt_scores,
)
from retriever.parameter_match import nearest_by_parameters, with_parameters
from retriever.prompt_match import Sketch, fits, log_likelihoods, order
from retriever.prompt_memory import PromptMemory
from retriever.quality import nearest_ones
from retriever.separation import MIN_WEIGHT
from specification import (
    Calibration,
    Comparison,
    Encoder,
    ReducedSet,
    Specification,
    compare,
    join_views,
    judges,
    p_values,
)
from specification.errors import InvalidInput, NotFound
from specification.kernel import Floats

MAX_PROMPT_CHARACTERS = 100_000
ATTEMPTS = 3
LOOKS = 2
"""How often a mixture is looked for, at most; more find no more (docs/log.md)."""
LEFT = 16
"""How many learnwares that are nearest to what a mixture leaves join its candidates then."""
DEFAULT_THRESHOLD = 0.05
"""The share of genuine tasks, and of genuine prompts, that may be refused."""

Asked = tuple[ReducedSet, int]
"""What was asked about, as a reduced set, and how many texts that was."""

Judging = Callable[[str], tuple[ReducedSet, Calibration | None]]
"""Gives what a learnware's p-value is made from, by its id."""


class Retriever:
    """Finds the learnware that fits a task. Reads the catalogue, writes nothing.

    ``whitening`` is the metric for single prompts; put one with a file in its place to keep it.
    ``prompt_encoder`` encodes single prompts; put a faster approximation of ``encoder`` in its place to save time.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        encoder: Encoder,
        threshold: float = DEFAULT_THRESHOLD,
        candidates: int | None = None,
        measured: FindTask = no_task,
    ) -> None:
        """``candidates`` is how many are reranked, as the catalogue's plan says if None.

        ``measured`` finds the specification of a task that quality signals were measured on, by its digest.
        """
        if not 0 <= threshold <= 1:
            raise InvalidInput(f"threshold {threshold}: the share of genuine tasks refused is between 0 and 1")
        self.catalogue = catalogue
        self.encoder = encoder
        self.prompt_encoder = encoder
        self.threshold = threshold
        self._candidates = candidates
        self.measurements = Measurements(measured, catalogue.settings.feature_map.gamma)
        self.whitening = LiveWhitening(catalogue)
        self.memory = PromptMemory(catalogue)

    @property
    def state(self) -> tuple[int, int]:
        """Changes when a prompt may get another answer: after each write here, and with another whitening."""
        return self.catalogue.revision, self.whitening.revision

    def warm(self) -> None:
        """Loads what the first prompts and tasks would wait for; for services, at their start.

        Raises:
            EncoderError, CatalogueError: as ``route``.
        """
        self.prompt_encoder.encode(["warm"])
        self.whitening.current()
        self.warm_searches()

    def warm_searches(self) -> None:
        """As ``warm``, for tasks alone. It is the whole process that is prepared.

        What is in memory by now stays there and is not looked at for garbage, which takes 30 ms and would hit one
        search in fifty. NumPy computes in one thread: a second one, waiting for its part of products as small as
        these, takes the core that another search or the index needs.
        """
        threadpool_limits(1, "blas")
        self.catalogue.read_ahead()
        gc.collect()
        gc.freeze()

    def search(self, task: Specification, limit: int = 10, where: Filter = EVERYTHING) -> Ranking:
        """Ranks learnwares for a task by match, and by quality where match does not decide.

        Match is the exact MMD to the task's specification; the fit is 1 - MMD²/(‖μ_P‖²+‖μ_Q‖²). The nearest
        learnware comes first if it is near at all. Among those that cannot be told from it, and among all where
        none is near, the higher expectation comes first (``retriever.quality``). Without quality signals the
        order is that of the MMD, fused with the distance of parameter vectors where task and learnware have
        comparable ones (``retriever.parameter_match``); ties go to the smaller id. The mixture is taken from
        all candidates, whatever ``limit`` is.

        A private task is one noisy point, whose distance to a distribution says most about the distribution's
        width: it is ranked by the cosine μ_Q(x)/‖μ_Q‖, which is its fit, and has no mixture.

        Raises:
            Incomparable: the specification was made by another encoder than the catalogue's.
            InvalidInput: ``limit`` is not in 1 … 10 000.
        """
        started = time.perf_counter()
        self.catalogue.settings.encoder.require(task.section.encoder)
        candidates = Candidates.of(self._near_task(task, limit, where))
        ranking = self._ranked(task, candidates, limit, started)
        mixture = None if task.privacy.promised else self._mixture(task, candidates.first(self.candidates), where)
        return replace(ranking, mixture=mixture, seconds=time.perf_counter() - started)

    def search_exactly(self, task: Specification, limit: int = 10, where: Filter = EVERYTHING) -> Ranking:
        """The judge of ``search``: compares the task with every learnware in the catalogue. Slow."""
        _check_limit(limit)
        started = time.perf_counter()
        self.catalogue.settings.encoder.require(task.section.encoder)
        everything = [item.id for item in self.catalogue.everything(PUBLISHED & where)]
        return self._ranked(task, Candidates.of(self.catalogue.fetch(everything)), limit, started)

    def route(self, prompt: str, limit: int = 5, where: Filter = EVERYTHING, beside: str = "") -> Ranking:
        """Ranks learnwares for a single prompt by likelihood under the catalogue's whitened metric.

        The fit is the cosine μ_Q(x)/‖μ_Q‖ in the RKHS; it need not fall with the rank. Learnwares without a
        prompt section come behind the others, by fit (see ``prompt_match.order``). The learnware with the id
        ``beside`` is judged too, as one more at the end where it is not among the best, if it is published.

        Raises:
            InvalidInput: an empty prompt, or one of more than 100 000 characters.
            EncoderError: the encoder fails.
        """
        return self._route(
            prompt, limit, lambda meaning, views: self._near_prompt(meaning, views, limit, where, beside), beside
        )

    def route_exactly(self, prompt: str, limit: int = 5, where: Filter = EVERYTHING) -> Ranking:
        """The judge of ``route``: compares the prompt with every learnware in the catalogue. Slow."""
        return self._route(prompt, limit, lambda *_: list(self.catalogue.everything(PUBLISHED & where)))

    def _route(
        self, prompt: str, limit: int, find: Callable[[Floats, Floats], list[Learnware]], beside: str = ""
    ) -> Ranking:
        started = time.perf_counter()
        meaning = self._encode(prompt)
        views = join_views([prompt], meaning)[0]
        candidates = self._sketched(lambda: find(meaning[0], views))
        sketches = [sketch for _, sketch in candidates]
        fit = fits(meaning[0], sketches, self.catalogue.settings.feature_map.gamma)
        scores = log_likelihoods(views, sketches, self.whitening.current())
        best = order(scores, fit, [item.id for item, _ in candidates], UNKNOWN_SCORE)
        ranked = [Ranked(candidates[place][0], rounded(fit[place]), nan) for place in best]
        known = {item.id: (sketch.reduced, sketch.calibration) for item, sketch in candidates}
        shown = ranked[:limit] + [item for item in ranked[limit:] if item.learnware.id == beside]
        point = ReducedSet(meaning, np.ones(1, dtype=np.float32))
        return self._ranking((point, 1), len(candidates), shown, len(shown), started, known.__getitem__)

    def assign(self, prompt: str, members: Sequence[tuple[Learnware, float]], unknown: float) -> Decision:
        """Decides which member of a task's mixture answers a prompt; see ``retriever.mixture.assign``.

        Members whose specification is gone are passed over.

        Raises:
            InvalidInput, EncoderError: as ``route``. NotFound: no member has a specification.
        """
        found = self.catalogue.reduced_sets([learnware for learnware, _ in members])
        known = [(learnware, weight) for learnware, weight in members if learnware.id in found]
        if not known:
            raise NotFound("the learnwares of the mixture are gone; register the task again")
        sets = [found[learnware.id] for learnware, _ in known]
        scores = prompt_scores(self._encode(prompt), sets, self.catalogue.settings.feature_map.gamma)
        return assign(scores[0], known, unknown)

    def find(self, text: str, limit: int = 10, where: Filter = EVERYTHING) -> list[Learnware]:
        """Returns learnwares whose description fits a free text, best first.

        Published ones, unless the filter says something of the status.
        """
        _check_limit(limit)
        self._require_encoder()
        chosen = where if any(each.field == "status" for each in where.conditions) else PUBLISHED & where
        text = text.encode("utf-8", "replace").decode()
        hits = self.catalogue.matching_text(text, self.encoder.encode([text])[0], limit, chosen)
        return self.catalogue.get([hit.id for hit in hits])

    @property
    def candidates(self) -> int:
        """How many learnwares the approximate search hands to the exact rerank."""
        return self._candidates or self.catalogue.settings.plan.candidates

    def _nearest_ids(self, task: ReducedSet, limit: int, where: Filter) -> list[str]:
        _check_limit(limit)
        hits = self.catalogue.nearest_task(task, max(self.candidates, limit), PUBLISHED & where)
        return [hit.id for hit in hits]

    def _near_task(self, task: Specification, limit: int, where: Filter) -> list[Row]:
        """Finds by text, and by parameters those that text did not find."""
        _check_limit(limit)
        wide = max(self.candidates, limit)
        found = self.catalogue.near_task(task.reduced_set, wide, PUBLISHED & where)
        known = {row.learnware.id for row in found}
        others = nearest_by_parameters(self.catalogue, task.parameters, wide, where)
        return found + self.catalogue.fetch([id for id in others if id not in known])

    def _near_prompt(
        self, meaning: Floats, views: Floats, limit: int, where: Filter, beside: str
    ) -> list[Learnware]:
        """Finds by prompt section and, for those without one, by text section too."""
        _check_limit(limit)
        wide = max(self.candidates, limit)
        hits = self.catalogue.nearest(views, wide, PUBLISHED & where, using=PROMPT_VECTOR)
        point = ReducedSet(meaning[None], np.ones(1, dtype=np.float32))
        ids = [hit.id for hit in hits] + self._nearest_ids(point, limit, where)
        found = self.memory.get(list(dict.fromkeys(ids)))
        also = self.memory.get([beside]) if beside and beside not in ids else []
        return found + [item for item in also if item.status == "published"]

    def _sketched(self, find: Callable[[], list[Learnware]]) -> list[tuple[Learnware, Sketch]]:
        """Returns what ``find`` finds, the newest version of each name, with its sketch.

        A learnware that is replaced or removed between the two readings makes both begin again; one that
        still is after the third time is left out.
        """
        for _ in range(ATTEMPTS):
            learnwares = newest_versions(find())
            found = self.memory.sketches(learnwares)
            if len(found) == len(learnwares):
                break
            self.memory.forget_records()
        return [(item, found[item.id]) for item in learnwares if item.id in found]

    def _ranked(self, task: Specification, candidates: Candidates, limit: int, started: float) -> Ranking:
        if task.privacy.promised:
            # With noise on it a point is as far from its learnware as a single text may be.
            ranked = self._by_cosine(task.reduced_set, candidates)
            asked = task.reduced_set, 1
        else:
            ranked = self._judged(task, candidates)
            asked = task.reduced_set, task.sample_size
        known = {each.learnware.id: each for each in candidates}

        def judging(id: str) -> tuple[ReducedSet, Calibration | None]:
            return known[id].reduced, known[id].stored.calibration

        return self._ranking(asked, len(candidates), ranked, limit, started, judging)

    def _by_cosine(self, point: ReducedSet, candidates: Candidates) -> list[Ranked]:
        fit = self._compare(point, candidates).cosine
        ranked = [Ranked(each.learnware, rounded(f), nan) for each, f in zip(candidates, fit, strict=True)]
        return sorted(ranked, key=lambda item: (-item.fit, item.learnware.id))

    def _judged(self, task: Specification, candidates: Candidates) -> list[Ranked]:
        match = self._compare(task.reduced_set, candidates)
        expected = self.measurements.expect(task, candidates, match)
        first = nearest_ones(match.overlap, match.mmd, noise(task, candidates))
        figures = np.array([match.overlap, match.mmd, expected.mean, expected.deviation, expected.tasks])
        rows = zip(candidates, figures.round(DECIMALS).T.tolist(), strict=True)
        ranked = [Ranked(each.learnware, *numbers) for each, numbers in rows]
        ranked = with_parameters(candidates, task.parameters, ranked)
        judged = any(each.learnware.quality for each in candidates)
        # A learnware's place among the first and its expectation decide only where there are signals.
        keys = {
            item.learnware.id: (not near, -(item.expected or 0)) if judged else ()
            for item, near in zip(ranked, first, strict=True)
        }
        return sorted(ranked, key=lambda item: (keys[item.learnware.id], item.apart, item.learnware.id))

    def _compare(self, task: ReducedSet, candidates: Candidates) -> Comparison:
        return compare(task, candidates.stack, self.catalogue.settings.feature_map.gamma)

    def _mixture(self, task: Specification, candidates: Candidates, where: Filter) -> Mixture:
        """Finds the mixture; where the candidates are not all there is, what it leaves is searched for again.

        A narrow learnware with a small part may be far from the whole task, but not from what others leave of it.
        """
        unmixing = Unmixing(task, self.catalogue.settings.feature_map.gamma)
        known, everything = set[str](), len(candidates) < self.candidates
        for _ in range(LOOKS):
            unmixing.add(candidates)
            mixture = unmixing.mixture()
            known |= {each.learnware.name for each in candidates}
            if mixture.unknown < MIN_WEIGHT or everything:
                break
            left = unmixing.remainder(mixture)
            rows = self.catalogue.near_task(left, min(self.candidates, LEFT), PUBLISHED & where)
            candidates = Candidates([each for each in Candidates.of(rows) if each.learnware.name not in known])
            if not candidates:
                break
        return mixture

    def _encode(self, prompt: str) -> Floats:
        if not prompt.strip() or len(prompt) > MAX_PROMPT_CHARACTERS:
            raise InvalidInput(f"a prompt of {len(prompt)} characters; 1 … {MAX_PROMPT_CHARACTERS} are allowed")
        self.catalogue.settings.encoder.require(self.prompt_encoder.identity)
        return self.prompt_encoder.encode([prompt])

    def _require_encoder(self) -> None:
        self.catalogue.settings.encoder.require(self.encoder.identity)

    def _ranking(
        self, asked: Asked, candidates: int, ranked: Sequence[Ranked], limit: int, started: float, judging: Judging
    ) -> Ranking:
        """Gives the best learnwares, and the nearest one, their p-values and decides."""
        nearest = [_nearest_of(ranked)] if ranked else []
        judged = self._with_p_values(asked, [*nearest, *ranked[:limit]], judging)
        return Ranking(
            ranked=tuple(judged[1:]),
            decision=decide(judged[1], judged[0], self.threshold) if judged else _nothing(self.threshold),
            candidates=candidates,
            seconds=time.perf_counter() - started,
        )

    def _with_p_values(self, asked: Asked, ranked: Sequence[Ranked], judging: Judging) -> list[Ranked]:
        encoder, known = self.catalogue.settings.encoder, [judging(item.learnware.id) for item in ranked]
        sets = [reduced for reduced, _ in known]
        found = p_values(*asked, sets, [judges(own, encoder) for _, own in known])
        return [replace(item, p_value=rounded(p)) for item, p in zip(ranked, found, strict=True)]


def _nearest_of(ranked: Sequence[Ranked]) -> Ranked:
    """The learnware at the least distance; for a prompt, where there is no distance, the first."""
    return min(ranked, key=lambda item: item.mmd)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit {limit} is not in 1 … {MAX_LIMIT}")


def decide(best: Ranked, nearest: Ranked, threshold: float) -> Decision:
    """Returns the best learnware, or "none fits" if the p-value of the nearest is under the threshold.

    So distance decides whether the catalogue has something for the task, and the ranking what.
    """
    name, near, rough = best.learnware.name, nearest.learnware.name, _origin_note(nearest)
    # A prompt, or a private sketch, whose noise makes it as uncertain as one.
    texts, tasks = ("what you sent looks", "prompts") if isnan(nearest.mmd) else ("your texts look", "tasks")
    share = f"{nearest.p_value:.2%} of the genuine {tasks} of {near} lie at least as far from it"
    if nearest.p_value < threshold:
        reason = (
            f"none fits: the nearest, {near}, has fit {nearest.fit:.3f}; only {share}, and {threshold:.2%} are "
            f"needed{rough}"
        )
        return Decision(None, nearest.fit, nearest.p_value, threshold, reason)
    reason = (
        f"{name} fits: {texts} like those it was made for (fit {best.fit:.3f}; {share}, "
        f"and {threshold:.2%} are enough{rough}{_quality_note(best, nearest)})"
    )
    return Decision(best.learnware, best.fit, nearest.p_value, threshold, reason)


def _nothing(threshold: float) -> Decision:
    return Decision(None, 0.0, 0.0, threshold, "none fits: no published learnware passes the filter")


def _origin_note(nearest: Ranked) -> str:
    """Warns people of a p-value that no example of the learnware's task stands behind."""
    if nearest.learnware.origin == "examples":
        return ""
    return f"; a rough share, since {nearest.learnware.name}'s specification is {nearest.learnware.origin}"


def _quality_note(best: Ranked, nearest: Ranked) -> str:
    """Says for people that quality decided, where it did."""
    if best.expected is None or nearest.expected is None or best.apart <= nearest.apart:
        return ""
    return (
        f"; match cannot tell it from {nearest.learnware.name}, quality on {best.measured:.1f} tasks like this "
        f"expects more of it ({best.expected:+.2f} against {nearest.expected:+.2f})"
    )
