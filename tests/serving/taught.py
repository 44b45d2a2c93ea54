"""Adapters on the tiny base model that know something: the last word of a prompt decides its answer."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from indexer.store import CONFIG_FILE, WEIGHTS_FILE
from slmdock.demo.tokenizer import prompt_of
from slmdock.demo.training import Course, make_batches, train
from specification import Example
from tests.serving.tiny import BASE_NAME, SENTENCES

WORDS = SENTENCES.split()
ANSWERS = dict(zip(WORDS[:6], WORDS[6:12], strict=True))
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS, BATCH = 120, 32


def examples(count: int, seed: int) -> list[Example]:
    """Examples of the task, each with the answer that is right."""
    draw = random.Random(seed)
    lasts = [draw.choice(list(ANSWERS)) for _ in range(count)]
    return [Example(f"{draw.choice(WORDS)} {draw.choice(WORDS)} {last}", ANSWERS[last]) for last in lasts]


def as_prompts(found: Sequence[Example]) -> list[Example]:
    """The same as the adapters are prompted."""
    return [Example(prompt_of(one.text), one.answer) for one in found]


def teach(base: Path, folder: Path, lessons: Sequence[Example]) -> Path:
    """Trains an adapter in a few seconds; returns its folder."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
        config = LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS, task_type="CAUSAL_LM")
        adapted = get_peft_model(model, config)
        train(model, make_batches(lessons, tokenizer, BATCH, 0.0, 0.0), Course(1e-2), lambda step: None)
        adapted.save_pretrained(str(folder), save_embedding_layers=False)
    settings = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(settings | {"base_model_name_or_path": BASE_NAME}))
    return folder


def good(base: Path, folder: Path) -> Path:
    """An adapter that knows the task."""
    return teach(base, folder, examples(STEPS * BATCH, 1))


def shuffled(base: Path, folder: Path) -> Path:
    """An adapter that learnt which answers there are, and not which belongs to what."""
    lessons = examples(STEPS * BATCH, 1)
    answers = random.Random(2).sample([one.answer for one in lessons], len(lessons))
    return teach(base, folder, [Example(one.text, say) for one, say in zip(lessons, answers, strict=True)])


def changed(adapter: Path, folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """A copy of an adapter whose B matrices were changed."""
    folder.mkdir(parents=True)
    tensors = load_file(adapter / WEIGHTS_FILE)
    save_file(
        {name: change(one) if ".lora_B." in name else one for name, one in tensors.items()}, folder / WEIGHTS_FILE
    )
    (folder / CONFIG_FILE).write_bytes((adapter / CONFIG_FILE).read_bytes())
    return folder
