"""What the zoo's answers come to: each system's score on each task, averages, their intervals, and who beats whom.

A system is a rule that names a model for each task, or a mixture of models whose average counts. All answered the
same examples, so systems are compared by pairs, and intervals come from drawing examples anew within each task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.zoo.answering import Answers
from benchmarks.zoo.docking import Choice, Decisions
from benchmarks.zoo.recipes import Recipe
from benchmarks.zoo.scale import GENERALIST, SEED, STRONG, TRIAL_SIZES, WEAK
from benchmarks.zoo.tasks import Task, possible
from retriever import Trial, TrialPrior, with_base
from retriever.halving import simulate

Doubles = NDArray[np.float64]
Team = Sequence[str]
"""The models whose average answers a task: one, mostly."""

RESAMPLES = 2000
DOCK, MATCH, ORACLE, SETS_ORACLE = "dock, match and quality", "dock, match", "oracle", "oracle of training sets"
NEAREST = "dock, match and quality, never the base"


@dataclass(frozen=True)
class Interval:
    """An average in percent, and the bounds of 95 % of its bootstrap."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, mean: float, draws: Doubles) -> "Interval":
        low, high = np.quantile(draws, (0.025, 0.975))
        return cls(round(100 * mean, 2), round(100 * float(low), 2), round(100 * float(high), 2))


@dataclass(frozen=True)
class Results:
    """Everything that was measured: ``answers`` to the measuring examples, ``trials`` to those of the sketches."""

    tasks: list[Task]
    recipes: list[Recipe]
    answers: dict[str, Answers]
    trials: dict[str, Answers]
    decisions: dict[str, Decisions]
    manifest: dict[str, Any]

    @cached_property
    def learnwares(self) -> list[str]:
        return [each.name for each in self.recipes]

    @cached_property
    def headline(self) -> list[Task]:
        """The tasks that count; see ``possible``, which asks nothing about the dock."""
        return [
            task
            for task in self.tasks
            if possible(task, [sum(each.rights[task.key]) for each in self.answers.values()])
        ]

    def score(self, model: str, task: Task) -> float:
        """The share of a task's measuring examples that a model got right."""
        return float(np.mean(self.answers[model].rights[task.key]))

    @cached_property
    def systems(self) -> dict[str, dict[str, Team]]:
        """Each system's team by task, in the order of the tables."""
        every = {task.key: task for task in self.tasks}
        same: dict[str, Team] = {
            "weak base": [WEAK],
            "strong base": [STRONG],
            "generalist": [GENERALIST],
            "random learnware": self.learnwares,
            "best single, in hindsight": [self._best_single(self.headline or self.tasks)],
        }
        return {
            **{system: dict.fromkeys(every, team) for system, team in same.items()},
            "best on the other tasks": {
                key: [self._best_single([one for one in self.headline or self.tasks if one.key != key])]
                for key in every
            },
            MATCH: {key: [_taken(self.decisions[key].match)] for key in every},
            DOCK: {key: [_taken(self.decisions[key].quality)] for key in every},
            NEAREST: {key: [self.decisions[key].quality.nearest] for key in every},
            **{
                f"dock, trial of {size}": {key: [self._tried(task, size)] for key, task in every.items()}
                for size in TRIAL_SIZES
            },
            SETS_ORACLE: {key: self._best_group(task) for key, task in every.items()},
            ORACLE: {
                key: [max(self.learnwares, key=lambda name: self.score(name, task))] for key, task in every.items()
            },
        }

    def _best_single(self, tasks: Sequence[Task]) -> str:
        return max(self.learnwares, key=lambda name: float(np.mean([self.score(name, task) for task in tasks])))

    def _best_group(self, task: Task) -> list[str]:
        """The models of the training set whose average is best, which is the paper's yardstick."""
        groups: dict[str, list[str]] = {}
        for each in self.recipes:
            groups.setdefault(each.group, []).append(each.name)
        return max(groups.values(), key=lambda names: float(np.mean([self.score(name, task) for name in names])))

    def _tried(self, task: Task, size: int) -> str:
        """The winner of the product's trial on the first ``size`` labelled examples."""
        found = self.decisions[task.key]
        prior = TrialPrior(
            np.array(found.fit), np.array(found.similarity),
            None if found.capability is None else np.array(found.capability),
        )  # fmt: skip
        field = [*found.tried, STRONG]
        rights = np.array([self.trials[name].rights[task.key] for name in field], dtype=np.float64).T
        trial = Trial(with_base(prior), min(size, len(rights)))
        simulate(trial, rights)
        return field[trial.winner]

    def vector(self, system: str, task: Task) -> Doubles:
        """What a system gets on each measuring example, float64 [examples] in 0 … 1."""
        rows = [self.answers[name].rights[task.key] for name in self.systems[system][task.key]]
        mean: Doubles = np.mean(np.array(rows, dtype=np.float64), axis=0)
        return mean

    @cached_property
    def _draws(self) -> dict[str, NDArray[np.int64]]:
        generator = np.random.default_rng(SEED)
        return {
            task.key: generator.integers(0, len(task.test), (RESAMPLES, len(task.test))) for task in self.tasks
        }

    def average(self, system: str, tasks: Sequence[Task], minus: str | None = None) -> Interval:
        """Returns a system's average over tasks, or what it has more than another one."""
        vectors = [self.vector(system, task) - (self.vector(minus, task) if minus else 0.0) for task in tasks]
        drawn = [one[self._draws[task.key]].mean(axis=1) for one, task in zip(vectors, tasks, strict=True)]
        return Interval.of(float(np.mean([one.mean() for one in vectors])), np.mean(drawn, axis=0))

    @cached_property
    def short(self) -> list[Task]:
        """The tasks with short answers, which are also measured by how likely the gold answer is."""
        return [task for task in self.tasks if not task.labels]

    def surprise(self, system: str, task: Task) -> float:
        """Returns a system's mean -log p of a short task's gold answers, in nats a token; lower is better.

        The oracles are those of this measure, not of right answers.
        """
        every = {name: float(np.mean(each.nats[task.key])) for name, each in self.answers.items()}
        if system == ORACLE:
            return min(every[name] for name in self.learnwares)
        return float(np.mean([every[name] for name in self.systems[system][task.key]]))

    def against(self, system: str, other: str, tasks: Sequence[Task]) -> tuple[int, int, int]:
        """Returns on how many tasks a system wins, ties and loses against another."""
        gaps = [float((self.vector(system, task) - self.vector(other, task)).mean()) for task in tasks]
        wins, losses = sum(gap > 1e-9 for gap in gaps), sum(gap < -1e-9 for gap in gaps)
        return wins, len(gaps) - wins - losses, losses

    @cached_property
    def groups(self) -> dict[str, list[Task]]:
        """The tasks of each average: the headline's domains, the headline, each domain whole, and all."""
        names = list(dict.fromkeys(task.domain for task in self.tasks))
        head = {name: [task for task in self.headline if task.domain == name] for name in names}
        whole = {f"{name}, all": [task for task in self.tasks if task.domain == name] for name in names}
        found = {**head, "headline": self.headline, **whole, "all tasks": self.tasks}
        return {name: tasks for name, tasks in found.items() if tasks}

    def summary(self) -> dict[str, Any]:
        """Returns everything as one JSON document."""
        cost = {
            "prompt_tokens": sum(each.prompt_tokens for each in (*self.answers.values(), *self.trials.values())),
            "completion_tokens": sum(
                each.completion_tokens for each in (*self.answers.values(), *self.trials.values())
            ),
        }
        return {
            **self.manifest,
            **cost,
            "learnwares": len(self.recipes),
            "headline": [task.key for task in self.headline],
            "nats": {
                task.key: {system: round(self.surprise(system, task), 4) for system in self.systems}
                for task in self.short
            },
            "averages": {
                name: {system: vars(self.average(system, tasks)) for system in self.systems}
                for name, tasks in self.groups.items()
            },
            "tasks": {
                task.key: {system: round(float(self.vector(system, task).mean()), 4) for system in self.systems}
                for task in self.tasks
            },
            "teams": {
                task.key: {
                    system: teams[task.key][0]
                    for system, teams in self.systems.items()
                    if len(teams[task.key]) == 1
                }
                for task in self.tasks
            },
        }


def _taken(choice: Choice) -> str:
    """The model that answers: where none fits, the better base."""
    return choice.chosen or STRONG
