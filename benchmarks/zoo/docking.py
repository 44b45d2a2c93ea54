"""The zoo's learnwares in a real dock, and what it decides for each task: by match, with quality, who is tried."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.shelf import CachedEncoder
from benchmarks.zoo.answering import Answers
from benchmarks.zoo.scale import BASES
from benchmarks.zoo.tasks import Task
from benchmarks.zoo.training import Workshop
from catalogue import Card, Learnware, Signal
from retriever import Ranking, trial_candidates
from serving.examination import Verdict
from slmdock.dock import Dock, DockConfig
from specification import Example, Progress, Specification, specify
from specification.files import write_atomically

SKETCHED = 128
"""Prompts of its training examples that a learnware's specification is made from."""
TRIED = 10


@dataclass(frozen=True)
class Choice:
    """What the dock does with a task: the learnware it chose, None for the base model, and the nearest one."""

    chosen: str | None
    nearest: str
    fit: float
    p_value: float

    @classmethod
    def of(cls, ranking: Ranking) -> "Choice":
        chosen, first = ranking.decision.learnware, ranking.ranked[0]
        name = chosen.name if chosen else None
        return cls(name, first.learnware.name, round(ranking.decision.fit, 4), round(ranking.decision.p_value, 4))


@dataclass(frozen=True)
class Decisions:
    """Choices by task, without and with quality signals, and the names of those that are tried, best first.

    ``similarity`` and ``capability`` are the trial's prior, see ``TrialPrior``.
    """

    match: Choice
    quality: Choice
    tried: list[str]
    fit: list[float]
    similarity: list[list[float]]
    capability: list[list[float]] | None


class ZooDock:
    """A dock made anew from what was trained; the texts' embeddings are kept between runs."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self._folder = shop.folder / "dock"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self.dock = Dock(DockConfig(self._folder))
        self.encoder = CachedEncoder(file=shop.folder / "embeddings.sqlite")
        self.dock.__dict__["encoder"] = self.encoder
        for base in BASES:
            self.dock.bases.add(base, shop.model(base))
        self.learnwares: dict[str, Learnware] = {}

    @property
    def store(self) -> Path:
        return self.dock.store.root

    def fill(self, progress: Progress) -> None:
        """Takes in every adapter with the specification of the examples it was trained on."""
        recipes = self.shop.recipes
        for done, recipe in enumerate(recipes):
            progress(done, len(recipes))
            made = self.sketch([each.text for each in recipe.drawn(self.shop.sets)[:SKETCHED]])
            domain = recipe.sets[0].partition("-")[0]
            self.learnwares[recipe.name] = self.dock.indexer.submit(
                self.shop.adapter(recipe), made, Card(name=recipe.name, domain=domain)
            )
        progress(len(recipes), len(recipes))

    def sketch(self, texts: Sequence[str]) -> Specification:
        return specify(texts, self.encoder)

    def held_out(self, name: str) -> list[Example]:
        """Returns the examples of a learnware's sets that nobody was trained on, in turn."""
        recipe = next(each for each in self.shop.recipes if each.name == name)
        parts = [each.held_out for each in self.shop.sets if each.key in recipe.sets]
        return [example for row in zip(*parts, strict=True) for example in row]

    def attach(
        self, verdicts: Mapping[str, Verdict], held_out: Mapping[str, Answers], tasks: Sequence[Task]
    ) -> None:
        """Notes as quality what was measured on held-out parts of training sets; no user's label is among it."""
        digests = {task.key: self.dock.measure(self.sketch([each.text for each in task.test])) for task in tasks}
        for name, learnware in self.learnwares.items():
            signals = [
                Signal(
                    kind="capability", task=f"held-out {task.key}", metric="accuracy", examples=len(task.test),
                    value=sum(held_out[name].rights[task.key]) / len(task.test), specification=digests[task.key],
                    source="the zoo",
                )
                for task in tasks
            ]  # fmt: skip
            gain = verdicts[name].signal()
            self.learnwares[name] = self.dock.indexer.attach(learnware, [*signals, *([gain] if gain else [])])

    def choices(self, tasks: Mapping[str, Specification]) -> dict[str, Choice]:
        """Returns what the dock decides for each task, with what it knows now."""
        every = len(self.learnwares)
        return {key: Choice.of(self.dock.retriever.search(task, every)) for key, task in tasks.items()}

    def decide(
        self, tasks: Mapping[str, Specification], matched: Mapping[str, Choice], file: Path
    ) -> dict[str, Decisions]:
        """Returns and keeps all decisions; ``matched`` are those made before quality was known."""
        found: dict[str, Decisions] = {}
        for key, choice in self.choices(tasks).items():
            candidates = trial_candidates(self.dock.retriever, tasks[key], TRIED)
            assert candidates is not None
            prior = candidates.prior
            capability = None if prior.capability is None else prior.capability.tolist()
            names = [each.learnware.name for each in candidates.ranked]
            found[key] = Decisions(
                matched[key], choice, names, prior.fit.tolist(), prior.similarity.tolist(), capability
            )
        said = {
            key: {"match": vars(one.match), "match and quality": vars(one.quality), "tried": one.tried}
            for key, one in found.items()
        }
        write_atomically(file, json.dumps(said, indent=1).encode())
        return found

    def close(self) -> None:
        self.dock.close()
