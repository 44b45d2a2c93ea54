"""Which adapters the zoo trains: every training set in several ways, some of them poor, and sets put together."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.zoo.scale import SEED, STRONG, WEAK, Scale
from benchmarks.zoo.texts import TrainingSet
from specification import Example

COMBINED = {
    "finance-sentiment": ("finance-fiqasa", "finance-fpb"),
    "finance-credit": ("finance-australian", "finance-cra_lendingclub", "finance-german"),
    "finance-movements": ("finance-sm_acl", "finance-sm_bigdata", "finance-sm_cikm"),
    "medical-medqa_and_pubmed_causal": ("medical-medqa_train", "medical-pubmed_causal"),
    "medical-alpacare_and_chatdoctor": ("medical-AlpaCare", "medical-ChatDoctor", "medical-chatdoctor_5k"),
    "medical-questions": ("medical-medmcqa_train", "medical-medqa_train"),
    "math-chinese": ("math-GSM8K_zh", "math-MWP-Instruct", "math-school_math_0.25M"),
    "math-english": ("math-MATH_train", "math-MathInstruct", "math-MetaMath-GSM240K"),
}
"""Sets put together; one of which a part is missing is left out."""


@dataclass(frozen=True)
class Recipe:
    """How one adapter is made. ``share`` of each set's examples is used; ``noise`` is the share of them whose
    answers were exchanged for those of others. ``steps`` are the optimizer's.
    """

    name: str
    base: str
    sets: tuple[str, ...]
    rank: int
    rate: float
    steps: int
    share: float = 1.0
    noise: float = 0.0
    poor: bool = False

    @property
    def group(self) -> str:
        """What it was trained on, whatever the way: the paper averages over such a group."""
        return self.name.rpartition("-")[0]

    def drawn(self, sets: Sequence[TrainingSet]) -> list[Example]:
        """Returns the examples it may see, the same for the same recipe."""
        mine = [each.train for each in sets if each.key in self.sets]
        generator = np.random.default_rng([SEED, *hashlib.sha256(self.name.encode()).digest()[:4]])
        found: list[Example] = []
        for examples in mine:
            order = generator.permutation(len(examples))[: max(16, int(self.share * len(examples)))]
            found += [examples[int(place)] for place in order]
        wrong = generator.permutation(len(found))[: int(self.noise * len(found))]
        answers = [found[int(place)].answer for place in generator.permutation(wrong)]
        for place, answer in zip(wrong, answers, strict=True):
            found[int(place)] = Example(found[int(place)].text, answer)
        return [found[int(place)] for place in generator.permutation(len(found))]

    @property
    def fingerprint(self) -> str:
        """Changes with anything that is said here."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def recipes(sets: Sequence[TrainingSet], scale: Scale) -> list[Recipe]:
    """Returns all recipes, those of one set behind each other."""
    found = [
        recipe
        for place, each in enumerate(sets)
        for recipe in _variants(each.key, (each.key,), place, scale)[: scale.variants]
    ]
    known = {each.key for each in sets}
    for name, parts in COMBINED.items():
        if known.issuperset(parts):
            found.append(_good(f"{name}-1", STRONG, parts, scale))
    return found


def _variants(name: str, sets: tuple[str, ...], place: int, scale: Scale) -> list[Recipe]:
    """A good adapter on either base, a slighter one, and one that is poor, each set's in its own way."""
    slight = Recipe(f"{name}-3", STRONG, sets, 4, 2e-3, scale.adapter_steps // 2, share=0.5)
    few = max(1, scale.adapter_steps // 30)
    poor = (
        Recipe(f"{name}-4", STRONG, sets, 8, 2e-3, scale.adapter_steps // 2, noise=0.8, poor=True),
        Recipe(f"{name}-4", WEAK, sets, 8, 1e-3, few, poor=True),
        Recipe(f"{name}-4", STRONG, sets, 8, 2e-3, scale.adapter_steps // 2, share=0.02, poor=True),
    )
    return [
        _good(f"{name}-1", STRONG, sets, scale), _good(f"{name}-2", WEAK, sets, scale), slight,
        poor[place % len(poor)],
    ]  # fmt: skip


def _good(name: str, base: str, sets: tuple[str, ...], scale: Scale) -> Recipe:
    return Recipe(name, base, sets, 16, 2e-3, scale.adapter_steps)
