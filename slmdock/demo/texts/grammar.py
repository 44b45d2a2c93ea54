"""How a demo text is made: a problem is drawn, worded by a template, and set among sentences that do not matter.

Knows nothing of any one task; the domain modules hold the words. A template is text with `{slots}`; a slot is
filled by a random entry of the grammar, which may hold slots again.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from specification.examples import Example

Grammar = Mapping[str, tuple[str, ...]]

_SLOT = re.compile(r"\{(\w+)\}")
_ASIDE_COUNTS = (0, 0, 0, 0, 1, 1, 1, 2, 2, 3)


@dataclass(frozen=True)
class Problem:
    """One drawn problem: the slots it binds, and its answer in every convention (the learnware's own first)."""

    slots: Grammar
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Wording:
    """Templates that carry the problem, and asides: sentences around it that leave the answer as it is."""

    templates: tuple[str, ...]
    asides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """Everything needed to write examples of one task, in the learnware's wording and in its users'."""

    draw: Callable[[Random], Problem]
    learnware: Wording
    user: Wording
    grammar: Grammar = field(default_factory=dict)

    def write(self, rng: Random, wording: Wording, convention: int = 0) -> Example:
        """One example; `convention` picks the answer's form and wraps around the forms there are."""
        problem = self.draw(rng)
        slots = {**self.grammar, **problem.slots}
        sentences = list(rng.sample(wording.asides, min(rng.choice(_ASIDE_COUNTS), len(wording.asides))))
        sentences.insert(rng.randint(0, len(sentences)), rng.choice(wording.templates))
        text = " ".join(_capitalised(expand(sentence, slots, rng)) for sentence in sentences)
        return Example(text=text, answer=problem.answers[convention % len(problem.answers)])


@dataclass(frozen=True)
class Label:
    """A class of a classification task: its names by convention, and the clues that give it away."""

    names: tuple[str, ...]
    clues: tuple[str, ...]


@dataclass(frozen=True)
class LabelledClues:
    """Draws a label evenly, then binds `{clue}` to its clues."""

    labels: tuple[Label, ...]

    def __call__(self, rng: Random) -> Problem:
        label = rng.choice(self.labels)
        return Problem(slots={"clue": label.clues}, answers=label.names)


def expand(pattern: str, grammar: Grammar, rng: Random) -> str:
    """Fill every slot, innermost last. Raises KeyError for a slot the grammar does not know."""
    while _SLOT.search(pattern):
        pattern = _SLOT.sub(lambda slot: rng.choice(grammar[slot.group(1)]), pattern)
    return pattern


def _capitalised(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
