"""A tiny base model that knows two worlds, and an adapter trained on answers in one of them, by real training."""

import itertools
import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer

from indexer.store import CONFIG_FILE
from tests.serving import tiny

CUE = " while"
"""What stands behind a text where the models answer."""
COLOURS = ("quick", "brown", "lazy", "quiet")
FOXES = [
    f"the {colour} {first} jumps over a {other} {second}"
    for colour, other in itertools.permutations(COLOURS, 2)
    for first, second in itertools.product(("fox", "dog"), repeat=2)
]
WIZARDS = [
    f"seven {kind} wizards make {colour} brew for {other} kings"
    for kind, colour, other in itertools.product(("toxic", *COLOURS), COLOURS, COLOURS)
]
ANSWERS = ("fox", "dog", "jumps"), ("kings", "brew", "wizards")
"""Each world's answers in three conventions; a text says nothing of the convention."""


def build(folder: Path) -> tuple[Path, Path]:
    """Trains both; returns the folders of the base model and of the adapter, which answers foxes by ``fox``."""
    base, adapter = tiny.build_base(folder / "base"), folder / "adapter"
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    tokenizer.chat_template = "{{ bos_token }}{{ messages[0]['content'] }} while"
    tokenizer.save_pretrained(base)
    random = Random(0)
    both = [(text, answer) for texts, answers in zip((FOXES, WIZARDS), ANSWERS, strict=True)
            for text in texts for answer in answers]  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    _train(model, tokenizer, [random.choice(both) for _ in range(24 * 300)], 4e-3, 1.0)
    model.save_pretrained(base)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    _train(adapted, tokenizer, [(random.choice(FOXES), ANSWERS[0][0]) for _ in range(24 * 25)], 2e-3, 0.0)
    adapted.save_pretrained(str(adapter))
    settings = json.loads((adapter / CONFIG_FILE).read_text())
    (adapter / CONFIG_FILE).write_text(json.dumps(settings | {"base_model_name_or_path": tiny.BASE_NAME}))
    return base, adapter


def _train(
    model: torch.nn.Module, tokenizer: Any, examples: list[tuple[str, str]], rate: float, text_weight: float
) -> None:
    """One step for each 24 examples; a text's tokens weigh ``text_weight`` in the loss, an answer's 1."""
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=rate)
    for start in range(0, len(examples), 24):
        batch = examples[start : start + 24]
        prompts = [tokenizer(text + CUE).input_ids for text, _ in batch]
        answers = [tokenizer(f" {answer}", add_special_tokens=False).input_ids for _, answer in batch]
        length = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)) + 1
        ids, weights = torch.full((len(batch), length), 1), torch.zeros(len(batch), length)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor(prompt + answer)
            weights[row, : len(prompt)] = text_weight
            weights[row, len(prompt) : end + 1] = 1
        logits = model(input_ids=ids).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        weight = weights[:, 1:].flatten()
        ((losses * weight).sum() / weight.sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
