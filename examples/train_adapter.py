"""Trains a LoRA adapter with PEFT from JSON lines, ``{"text": …, "answer": …}``, ready for ``slmdock submit``.

The base model is the one that ``make demo`` trained, unless another folder is given. A prompt is what its chat
template makes of the text, as the gateway sends it, and only the answer counts in the loss.

    python -m examples.train_adapter good-at.jsonl my-adapter [base-model-folder]
    slmdock submit my-adapter --examples good-at.jsonl
"""

import sys
from pathlib import Path
from random import Random

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from slmdock.dock import cache_folder
from specification import Example, read_examples
from specification.errors import DockError

DEMO_BASE = cache_folder() / "demo" / "full" / "models" / "base"
STEPS, BATCH, RATE, RANK = 150, 16, 4e-3, 8
MAX_TOKENS = 512
NOT_COUNTED = -100
"""The label of a token that the loss passes over."""


def train(examples: Path, target: Path, base: Path = DEMO_BASE, steps: int = STEPS) -> float:
    """Writes an adapter to ``target`` as PEFT saves it; returns the loss of the last step, in nats a token."""
    # PEFT writes the folder down, and a dock knows its base models by their whole paths.
    base = base.resolve()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    if tokenizer.chat_template is None or tokenizer.eos_token_id is None:
        raise ValueError(f"{base}: its tokenizer has no chat template or no token that ends; both are needed here")
    rows = [_tokens(example, tokenizer) for example in read_examples(examples)]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(
        model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    optimizer = torch.optim.AdamW((each for each in adapted.parameters() if each.requires_grad), lr=RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=steps)
    draw, loss = Random(0), torch.tensor(0.0)
    for _ in range(steps):
        loss = adapted(**_batch(draw.choices(rows, k=BATCH), tokenizer.eos_token_id)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    adapted.save_pretrained(str(target))
    return loss.item()


def _tokens(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The tokens of prompt and answer, and of the answer alone: the prompt's labels are not counted."""
    if not example.answer:
        raise SystemExit(f"{example.text[:60]!r} has no 'answer' to learn")
    message = {"role": "user", "content": example.text}
    prompt = tokenizer.apply_chat_template([message], add_generation_prompt=True, return_dict=False)
    # The answers of the demo's base begin with a space; every answer ends.
    answer = [*tokenizer(f" {example.answer}", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    ids = ([*prompt, *answer])[-MAX_TOKENS:]
    return ids, ([NOT_COUNTED] * len(prompt) + answer)[-MAX_TOKENS:]


def _batch(rows: list[tuple[list[int], list[int]]], padding: int) -> dict[str, torch.Tensor]:
    """Token ids, attention and labels, each of shape [rows, longest row], padded on the right."""
    ids, labels = ([torch.tensor(row[part]) for row in rows] for part in (0, 1))
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=padding),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=NOT_COUNTED),
    }


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    source, place, *others = map(Path, sys.argv[1:])
    base = others[0] if others else DEMO_BASE
    if not base.is_dir():
        raise SystemExit(f"error: {base}: no such folder; 'make demo' trains the base model, or name another one")
    try:
        loss = train(source, place, base)
    except (DockError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{place}: loss {loss:.2f} in the last of {STEPS} steps")
    print(f"now: slmdock submit {place} --examples {source}")
