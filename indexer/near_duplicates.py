"""Learnwares that are almost the same as one that comes in: they are pointed out, never refused."""

import logging
import sqlite3
from pathlib import Path
from typing import Literal

from catalogue import Catalogue, Filter, Learnware, Match
from catalogue.learnware import MAX_NEAR_DUPLICATES, NearDuplicate
from indexer.update_sketches import Sketch, UpdateSketches
from specification import Specification, StoredSpecification, compare

CONSIDERED = 32
LEAST_COSINE = 0.95
"""Of updates: at most .3 between adapters for different tasks, at least .97 after noise of 20 % (docs/log.md)."""
MOST_APART = 0.2
"""MMD² as a share of what sketches of different texts of one distribution have to expect (docs/log.md)."""
ROUNDING = 1e-6

log = logging.getLogger(__name__)


class NearDuplicates:
    """Finds those on the same base model whose weights or specification are almost the same."""

    def __init__(self, catalogue: Catalogue, file: Path) -> None:
        """``file`` keeps sketches of what adapters change. What has none there is compared by specification."""
        self.catalogue = catalogue
        self.sketches = UpdateSketches(file)

    def find(
        self, learnware: Learnware, specification: Specification, sketch: Sketch | None
    ) -> tuple[NearDuplicate, ...]:
        """Returns the likest near-duplicates of an adapter, and keeps its sketch for those that come after it.

        Versions of one name are expected to have like specifications, and are told by their weights alone. A whole
        model, which has no base model, has no near-duplicates.
        """
        if learnware.whole:
            return ()
        found = self._by_specification(learnware, specification)
        if sketch is not None:
            found |= self._by_weights(learnware, sketch)
        best = sorted(found.values(), key=lambda each: (-each.likeness, each.id))
        return tuple(best[:MAX_NEAR_DUPLICATES])

    def _by_specification(self, learnware: Learnware, specification: Specification) -> dict[str, NearDuplicate]:
        where = Filter(conditions=(Match(field="base_model", values=(learnware.base_model,)),))
        rows = self.catalogue.near_task(specification.reduced_set, CONSIDERED, where)
        others = [row for row in rows if row.learnware.name != learnware.name]
        stored = [StoredSpecification(row.file) for row in others]
        gamma = self.catalogue.settings.feature_map.gamma
        match = compare(specification.reduced_set, [each.reduced_set for each in stored], gamma)
        here = _noise(match.task, specification.sample_size, specification.section.compression_error)
        found = {}
        for place, (row, kept) in enumerate(zip(others, stored, strict=True)):
            there = _noise(match.own[place], row.learnware.sample_size, kept.compression_error)
            # Of the more exact one: with what its maker says of it nobody comes near to everything.
            expected = 2 * min(here, there)
            if row.learnware.id != learnware.id and match.mmd[place] ** 2 <= max(MOST_APART * expected, ROUNDING):
                found[row.learnware.id] = _near(row.learnware, "specification", match.overlap[place])
        return found

    def _by_weights(self, learnware: Learnware, sketch: Sketch) -> dict[str, NearDuplicate]:
        try:
            cosines = self.sketches.nearest(learnware.base_model, sketch, LEAST_COSINE, CONSIDERED)
            if learnware.id not in cosines:
                self.sketches.add(learnware.id, learnware.base_model, sketch)
        except (sqlite3.Error, ValueError) as error:
            log.error("%s: not compared by weights (%s); move it away to begin anew", self.sketches.path, error)
            return {}
        others = self.catalogue.get([id for id in cosines if id != learnware.id])
        return {other.id: _near(other, "weights", cosines[other.id]) for other in others}


def _noise(own: float, sample_size: int, error: float | None) -> float:
    """Returns the squared distance of a sketch from its distribution that sampling and compression let expect."""
    return (1 - own) / sample_size + (error or 0.0) ** 2


def _near(other: Learnware, by: Literal["weights", "specification"], likeness: float) -> NearDuplicate:
    # Rounding takes the cosine of a sketch with itself beyond 1.
    return NearDuplicate(id=other.id, reference=other.reference, by=by, likeness=min(1.0, float(likeness)))
