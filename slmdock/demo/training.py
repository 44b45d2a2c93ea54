"""A plain training loop for the demo's small models, and a checkpoint of it that holds no pickle.

Knows tokens and weights, neither tasks nor folders' layout. Checkpoints are one safetensors file, replaced whole.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from slmdock.demo.tokenizer import prompt_of
from specification.examples import Example
from specification.files import write_atomically

CHECKPOINT_SECONDS = 15.0
WARM_UP = 0.05
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class Batch:
    """Token ids (sequences, length), right-padded, and each next token's weight in the loss (same, less one)."""

    ids: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True)
class Course:
    """How to train: the peak learning rate, and where and under which key to keep a checkpoint, if anywhere.

    ``half`` multiplies in bfloat16, which is twice as fast where the processor has AMX. ``every`` is the
    seconds between two checkpoints, CHECKPOINT_SECONDS if None.
    """

    rate: float
    checkpoint: Path | None = None
    fingerprint: str = ""
    half: bool = False
    every: float | None = None


def make_batches(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast, size: int, text_weight: float, noise: float
) -> list[Batch]:
    """Batches of `size` sequences of like length, in random order but always the same.

    A token of the answer (and `<eos>`) weighs 1 in the loss, a token of the prompt `text_weight`. Each token of a
    text, digits excepted, is exchanged for a random one with probability `noise`.
    """
    prompts = tokenizer([prompt_of(example.text) for example in examples])["input_ids"]
    prompts = _garbled(prompts, tokenizer, noise)
    answers = tokenizer([f" {example.answer}" for example in examples], add_special_tokens=False)["input_ids"]
    eos = tokenizer.eos_token_id
    rows = [(prompt, [*answer, eos]) for prompt, answer in zip(prompts, answers, strict=True)]
    window = size * 16
    batches = []
    for start in range(0, len(rows), window):
        alike = sorted(rows[start : start + window], key=lambda row: len(row[0]) + len(row[1]))
        batches += [collate(alike[i : i + size], eos, text_weight) for i in range(0, len(alike), size)]
    Random(len(batches)).shuffle(batches)
    return batches


def _garbled(prompts: Sequence[list[int]], tokenizer: PreTrainedTokenizerFast, noise: float) -> list[list[int]]:
    """Without this the models lean on a template's exact words and are lost in a wording they never met."""
    words = [i for token, i in tokenizer.get_vocab().items() if not any(map(str.isdigit, token))]
    words = sorted(set(words) - set(tokenizer.all_special_ids))
    exchangeable = set(words)
    cue = len(tokenizer(prompt_of(""), add_special_tokens=False)["input_ids"])
    rng = Random(len(prompts))
    return [
        [rng.choice(words) if token in exchangeable and rng.random() < noise else token for token in prompt[:-cue]]
        + prompt[-cue:]
        for prompt in prompts
    ]


def collate(rows: Sequence[tuple[list[int], list[int]]], pad: int, text_weight: float) -> Batch:
    """Returns prompts and answers as one batch; see ``make_batches`` for the weights."""
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), length), pad)
    weights = torch.zeros(len(rows), length)
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[i, :end] = torch.tensor(prompt + answer)
        weights[i, : len(prompt)] = text_weight
        weights[i, len(prompt) : end] = 1.0
    return Batch(ids, weights[:, 1:])


def train(
    model: LlamaForCausalLM, batches: Sequence[Batch], course: Course, on_step: Callable[[int], None]
) -> None:
    """Train the parameters that require gradients, one step a batch; `on_step` is told the steps done.

    Starts from the course's checkpoint if there is one with its fingerprint.
    """
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=course.rate, weight_decay=0.01, betas=(0.9, 0.98), fused=course.half
    )
    done = _restore(course, parameters, optimizer)
    on_step(done)
    model.train()
    every = CHECKPOINT_SECONDS if course.every is None else course.every
    saved = time.monotonic()
    for step in range(done, len(batches)):
        optimizer.param_groups[0]["lr"] = course.rate * _schedule(step, len(batches))
        with torch.autocast("cpu", torch.bfloat16, enabled=course.half):
            loss = loss_of(model, batches[step])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        on_step(step + 1)
        if course.checkpoint and time.monotonic() - saved > every:
            write_atomically(course.checkpoint, _state(course, parameters, optimizer, step + 1))
            saved = time.monotonic()
    model.eval()  # type: ignore[no-untyped-call]


def loss_of(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean weighted cross-entropy of the next tokens; the padding is to the right, so causality masks it."""
    hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state[:, :-1]
    counted = batch.weights > 0
    losses = cross_entropy(model.lm_head(hidden[counted]), batch.ids[:, 1:][counted], reduction="none")
    weights = batch.weights[counted]
    return (losses * weights).sum() / weights.sum()


def _schedule(step: int, steps: int) -> float:
    warm = max(1, int(WARM_UP * steps))
    return (step + 1) / warm if step < warm else max(0.02, (steps - step) / (steps - warm))


def _state(
    course: Course, parameters: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer, done: int
) -> bytes:
    tensors = {f"weight/{name}": value.detach() for name, value in parameters.items()}
    for name, value in parameters.items():
        tensors |= {f"{moment}/{name}": optimizer.state[value][moment] for moment in _MOMENTS}
    state = json.dumps({"fingerprint": course.fingerprint, "done": done})
    return save(tensors, metadata={"state": state})


def _restore(course: Course, parameters: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Load weights and moments in place; the number of steps they have seen, or 0 without a fitting checkpoint."""
    if course.checkpoint is None or not course.checkpoint.is_file():
        return 0
    with safe_open(course.checkpoint, framework="pt") as tensors:
        state = json.loads(tensors.metadata()["state"])
        if state["fingerprint"] != course.fingerprint:
            return 0
        with torch.no_grad():
            for name, value in parameters.items():
                value.copy_(tensors.get_tensor(f"weight/{name}"))
                optimizer.state[value] = {moment: tensors.get_tensor(f"{moment}/{name}") for moment in _MOMENTS}
    return int(state["done"])
