"""The users' tasks: how each is scored, which prompts describe it, which examples measure a model.

- **choice**: the answer is one of few. A model takes the choice whose tokens it holds likeliest, one by one: where
  the choices differ in their first token, as nearly always here, that is the likeliest choice. Few means letters,
  or at most MAX_LABELS answers of which nearly all come more than once.
- **short**: a number or a few words are generated, without chance, and compared: equal as numbers, or as texts.

Which task counts was fixed before any result of the dock was seen: see ``possible``.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from benchmarks.zoo.scale import SEED, Scale
from benchmarks.zoo.texts import TrainingSet, domains
from specification import Example, read_examples

MAX_LABELS = 40
MOSTLY = 0.9
LETTER = re.compile(r"[A-Fa-f]")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
BOXED = re.compile(r"\\boxed\s*\{")
CERTAINTY = 0.05


@dataclass(frozen=True)
class Task:
    """Examples of one file. ``labels`` are the choices, or empty; ``sketch`` and ``test`` have none in common."""

    domain: str
    name: str
    labels: tuple[str, ...]
    sketch: tuple[Example, ...]
    test: tuple[Example, ...]

    @property
    def key(self) -> str:
        return f"{self.domain}-{self.name}"

    @property
    def constant(self) -> float:
        """The share of the measuring examples that the best answer given blindly gets right."""
        counts = Counter(each.answer if self.labels else final(each.answer) for each in self.test)
        return counts.most_common(1)[0][1] / len(self.test)


def read_tasks(data: Path, scale: Scale) -> list[Task]:
    """Returns every user file's task; where the scale takes few, the shortest of each domain."""
    found: list[Task] = []
    for domain in domains(data):
        paths = sorted(domain.user.items())
        tasks = [make_task(domain.name, name, read_examples(path), scale) for name, path in paths]
        known = [task for task in tasks if len(task.test) >= min(scale.generated, scale.test) // 2]
        if scale.sets:
            choices = [task for task in known if task.labels] or known
            known = sorted(choices, key=lambda task: len("".join(each.text for each in task.test)))[: scale.sets]
        found += known
    return found


def held_out_tasks(sets: Sequence[TrainingSet], scale: Scale) -> list[Task]:
    """Returns the held-out parts of those training sets whose answers are choices, as tasks to measure."""
    return [
        Task(each.domain, each.name, labels, (), _kept(each.held_out, labels))
        for each in sets
        if (labels := labels_of([one.answer for one in (*each.held_out, *each.train[: 4 * scale.held_out])]))
    ]


def make_task(domain: str, name: str, examples: Sequence[Example], scale: Scale) -> Task:
    """Splits examples, shuffled, into those for the sketch and the trial and those that measure."""
    labels = labels_of([each.answer for each in examples])
    kept = list({each.text: each for each in _kept(examples, labels)}.values())
    order = np.random.default_rng(SEED).permutation(len(kept))
    shuffled = [kept[int(place)] for place in order]
    sketch = min(scale.sketch, len(shuffled) // 2)
    stop = sketch + (scale.test if labels else scale.generated)
    return Task(domain, name, labels, tuple(shuffled[:sketch]), tuple(shuffled[sketch:stop]))


def labels_of(answers: Sequence[str]) -> tuple[str, ...]:
    """Returns the choices that answers are taken from, in order; none if they are not choices."""
    letters = [found[0] for answer in answers if (found := _letter(answer))]
    if len(letters) >= MOSTLY * len(answers):
        return tuple(sorted(set(letters)))
    counts = Counter(answers)
    repeated = sum(count for count in counts.values() if count > 1)
    few = 2 <= len(counts) <= min(MAX_LABELS, len(answers) // 4)
    return tuple(sorted(counts)) if few and repeated >= MOSTLY * len(answers) else ()


def _letter(answer: str) -> str:
    """The letter of a multiple choice, alone or before its text."""
    alone = LETTER.fullmatch(answer)
    before = re.match(r"([A-F])[.:]\s", answer)
    return alone[0] if alone else before[1] if before else ""


def _kept(examples: Sequence[Example], labels: tuple[str, ...]) -> tuple[Example, ...]:
    """Examples with a label for an answer; letters stand for whole answers, and several at once are left out."""
    found = [Example(each.text, _letter(each.answer) or each.answer) for each in examples]
    return tuple(each for each in found if each.answer in labels) if labels else tuple(examples)


def is_right(said: str, gold: str) -> bool:
    """Tells whether a short answer is the gold one: the last number or boxed expression of both, or all words."""
    one, other = final(said), final(gold)
    if one == other:
        return bool(one)
    left, right = _number(one), _number(other)
    return left is not None and right is not None and abs(left - right) <= 1e-6 * max(1.0, abs(right))


def final(answer: str) -> str:
    """Returns what an answer comes to: what is boxed, what follows ####, or its last number, else its words."""
    answer = answer.strip()
    if boxes := list(BOXED.finditer(answer)):
        return _balanced(answer[boxes[-1].end() :])
    if "####" in answer:
        return answer.rpartition("####")[2].strip()
    numbers = NUMBER.findall(answer)
    has_words = re.search(r"[^\W\d_]{2,}.*,\s*(PER|ORG|LOC)\b", answer)
    return (
        str(numbers[-1]) if numbers and not has_words and not answer.startswith("$") else " ".join(answer.split())
    )


def _balanced(text: str) -> str:
    depth = 1
    for place, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if not depth:
            return text[:place].strip()
    return text.strip()


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "").strip("$ ."))
    except ValueError:
        return None


def possible(task: Task, rights: Sequence[int]) -> bool:
    """Tells whether a task counts: whether any model here can do it at all.

    ``rights`` says how many of the measuring examples each model got right: learnwares, bases and the generalist.
    The best of them must beat the best blind answer by more than chance explains with that many models (one-sided
    binomial test, Bonferroni, 5 %).
    """
    test = binomtest(max(rights), len(task.test), task.constant, alternative="greater")
    return bool(test.pvalue * len(rights) < CERTAINTY)
