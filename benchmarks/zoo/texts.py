"""The zoo's texts: training sets and held-out parts of them, and everything in tokens that fit the models."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from benchmarks.data import Domain, read_domain
from benchmarks.zoo.scale import ANSWER_TOKENS, DOMAINS, HEAD_TOKENS, SEED, Scale
from slmdock.demo.tokenizer import BOS, EOS, PAD, train_core
from slmdock.demo.training import Batch, collate
from specification import Example, read_examples
from specification.errors import InvalidInput

CUES = (":", "：", " is", "应选择")
"""How a prompt ends that asks for its answer itself; others get a line more."""
BATCH_TOKENS = 4096
"""Of a step of pretraining."""


@dataclass(frozen=True)
class TrainingSet:
    """One file's examples in a fixed random order, and those that no model is trained on."""

    domain: str
    name: str
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]

    @property
    def key(self) -> str:
        return f"{self.domain}-{self.name}"


def read_sets(data: Path, scale: Scale) -> list[TrainingSet]:
    """Returns all training sets, smaller ones first where the scale takes only some.

    Raises:
        InvalidInput: a domain has no training set with enough examples.
    """
    found: list[TrainingSet] = []
    for domain in domains(data):
        sets = [_read_set(domain.name, name, path, scale) for name, path in sorted(domain.train.items())]
        known = [each for each in sets if each is not None]
        if not known:
            raise InvalidInput(f"{domain.folder}: no training set of {3 * scale.held_out} examples with answers")
        found += sorted(known, key=lambda each: _length(each.train))[: scale.sets] if scale.sets else known
    return found


def domains(data: Path) -> list[Domain]:
    """Returns the domains of a folder; see ``read_domain``."""
    return [read_domain(data, name) for name in DOMAINS]


def _read_set(domain: str, name: str, path: Path, scale: Scale) -> TrainingSet | None:
    unique = {example.text: example for example in read_examples(path) if example.answer.strip()}
    examples = list(unique.values())
    order = np.random.default_rng(SEED).permutation(len(examples))
    shuffled = [examples[int(place)] for place in order]
    if len(shuffled) < 3 * scale.held_out:
        return None
    return TrainingSet(domain, name, tuple(shuffled[scale.held_out :]), tuple(shuffled[: scale.held_out]))


def _length(examples: Sequence[Example]) -> float:
    return float(np.median([len(each.text) for each in examples]))


def prompt_of(text: str) -> str:
    """Returns a text as the models get it: ending in something that asks for the answer."""
    bare = text.rstrip()
    return bare if bare.endswith(CUES) else f"{bare}\nAnswer:"


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Trains the tokenizer of all models on the texts."""
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=train_core(texts, vocabulary), bos_token=BOS, eos_token=EOS, pad_token=PAD,
        padding_side="right", clean_up_tokenization_spaces=False,
    )  # fmt: skip


class Tokens:
    """Texts as token ids that fit a context."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, context: int) -> None:
        self.tokenizer = tokenizer
        self.room = context - ANSWER_TOKENS

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns prompts; what is too long loses its middle."""
        rows: list[list[int]] = self.tokenizer([prompt_of(text) for text in texts])["input_ids"]
        head = min(HEAD_TOKENS, self.room // 3)
        return [row if len(row) <= self.room else row[:head] + row[head - self.room :] for row in rows]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns answers with the blank before them and the end behind; what is too long loses its end."""
        words = [f" {text.strip()}" for text in texts]
        rows: list[list[int]] = self.tokenizer(words, add_special_tokens=False)["input_ids"]
        return [[*row, self.tokenizer.eos_token_id][:ANSWER_TOKENS] for row in rows]


def tuning_batches(examples: Sequence[Example], tokens: Tokens, steps: int, size: int) -> list[Batch]:
    """Returns ``steps`` batches of about ``size`` tokens each, round after round over the examples.

    Only answers count in the loss. A batch's examples are of like length; a round's batches come in any order.
    """
    once = _batches(examples, tokens, size)
    batches: list[Batch] = []
    while len(batches) < steps:
        order = np.random.default_rng(SEED + len(batches)).permutation(len(once))
        batches += [once[int(place)] for place in order]
    return batches[:steps]


def _batches(examples: Sequence[Example], tokens: Tokens, size: int) -> list[Batch]:
    prompts = tokens.prompts([each.text for each in examples])
    answers = tokens.answers([each.answer for each in examples])
    rows = sorted(zip(prompts, answers, strict=True), key=lambda row: len(row[0]) + len(row[1]))
    batches: list[Batch] = []
    waiting: list[tuple[list[int], list[int]]] = []
    for row in rows:
        if waiting and (len(waiting) + 1) * (len(row[0]) + len(row[1])) > size:
            batches.append(collate(waiting, tokens.tokenizer.pad_token_id, 0.0))
            waiting = []
        waiting.append(row)
    batches.append(collate(waiting, tokens.tokenizer.pad_token_id, 0.0))
    return batches


def pretraining_batches(texts: Sequence[str], tokens: Tokens, count: int, context: int, seed: int) -> list[Batch]:
    """Batches of full rows from all texts in random order, one behind the other, ``count`` tokens in all."""
    rows = tokens.prompts(texts)
    generator = np.random.default_rng(seed)
    stream: list[int] = []
    while len(stream) < count:
        for place in generator.permutation(len(rows)):
            stream += [*rows[int(place)], tokens.tokenizer.eos_token_id]
    size = max(1, BATCH_TOKENS // context)
    steps = max(1, count // (size * context))
    ids = torch.tensor(stream[: steps * size * context]).view(steps, size, context)
    return [Batch(each, torch.ones(size, context - 1)) for each in ids]
