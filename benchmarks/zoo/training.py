"""Trains the zoo's models in processes of one thread each; what is finished is not made again."""

import json
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from benchmarks.zoo.recipes import Recipe, recipes
from benchmarks.zoo.scale import BASES, GENERALIST, SEED, Scale, Shape
from benchmarks.zoo.texts import (
    Tokens,
    TrainingSet,
    pretraining_batches,
    read_sets,
    train_tokenizer,
    tuning_batches,
)
from slmdock.demo.training import Batch, Course, train
from specification import Progress
from specification.files import write_atomically

PRETRAINING_RATE = 2e-3
GENERALIST_RATE, TUNING_RATE = 1e-3, 4e-4
CHECKPOINT_SECONDS = 180.0
ADAPTER_TOKENS, UNION_TOKENS = 1024, 2048
"""Of a step of tuning, an adapter or the generalist."""
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Workshop:
    """The folder everything is made in, what it is made from, and how much."""

    folder: Path
    data: Path
    scale: Scale

    @cached_property
    def sets(self) -> list[TrainingSet]:
        return read_sets(self.data, self.scale)

    @cached_property
    def recipes(self) -> list[Recipe]:
        return recipes(self.sets, self.scale)

    def model(self, name: str) -> Path:
        """Where a base model or the generalist lies."""
        return self.folder / "models" / name

    def adapter(self, recipe: Recipe) -> Path:
        return self.folder / "adapters" / recipe.name

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of all models, trained once."""
        folder = self.folder / "tokenizer"
        if not folder.is_dir():
            unfinished = _emptied(folder.with_name(".tokenizer"))
            texts = (each.text for one in self.sets for each in one.train)
            train_tokenizer(texts, self.scale.vocabulary).save_pretrained(unfinished)
            unfinished.rename(folder)
        found: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
        return found

    @cached_property
    def tokens(self) -> Tokens:
        return Tokens(self.tokenizer, self.scale.context)


def build(shop: Workshop, processes: int, progress: Progress) -> None:
    """Trains what is missing. Interrupted, it goes on where it was: large models have checkpoints."""
    _ = shop.tokenizer
    adapters = [each for each in shop.recipes if not shop.adapter(each).is_dir()]
    whole = [name for name in (GENERALIST, *BASES) if not shop.model(name).is_dir()]
    total = len(BASES) + 1 + len(shop.recipes)
    waiting = {base: [each for each in adapters if each.base == base] for base in BASES}
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_alone) as pool:
        running: dict[Future[None], str] = {pool.submit(_make_model, shop, name): name for name in whole}
        for base in BASES:
            if base not in whole:
                running |= {pool.submit(_make_adapter, shop, each): "" for each in waiting.pop(base)}
        try:
            while running:
                progress(total - len(running) - sum(map(len, waiting.values())), total)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    future.result()
                    if name in waiting:
                        running |= {pool.submit(_make_adapter, shop, each): "" for each in waiting.pop(name)}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def seconds(shop: Workshop) -> dict[str, float]:
    """Returns what each model took, by its name; of a model that was interrupted, the last sitting."""
    files = [*shop.folder.glob("models/*/made.json"), *shop.folder.glob("adapters/*/made.json")]
    return {file.parent.name: float(json.loads(file.read_bytes())["seconds"]) for file in sorted(files)}


def _alone() -> None:
    torch.set_num_threads(1)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: otherwise it would train on, and write beside its successor."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _make_model(shop: Workshop, name: str) -> None:
    """Pretrains a whole model; the generalist is tuned on all training sets afterwards."""
    started = time.monotonic()
    scale, large = shop.scale, name == GENERALIST
    texts = [each.text for one in shop.sets for each in one.train]
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(_configuration(scale.generalist if large else scale.base, shop))  # type: ignore[no-untyped-call]
    model.generation_config = GenerationConfig.from_model_config(model.config)
    batches = pretraining_batches(texts, shop.tokens, scale.tokens[name], scale.context, SEED)
    _train(shop, model, batches, name, GENERALIST_RATE if large else PRETRAINING_RATE)
    if large:
        _train(shop, model, _union(shop), f"{name}-tuned", TUNING_RATE)
    unfinished = _emptied(shop.folder / "models" / f".{name}")
    model.save_pretrained(unfinished)
    shop.tokenizer.save_pretrained(unfinished)
    numbers = {"parameters": model.num_parameters(), "tokens": scale.tokens[name]}
    _finish(unfinished, shop.model(name), numbers, started)


def _union(shop: Workshop) -> list[Batch]:
    every = [each for one in shop.sets for each in one.train]
    return tuning_batches(every, shop.tokens, shop.scale.tuning_steps, UNION_TOKENS)


def _train(shop: Workshop, model: LlamaForCausalLM, batches: Sequence[Batch], name: str, rate: float) -> None:
    """Trains with checkpoints: after an interruption it goes on from the last one."""
    kept = shop.folder / "checkpoints" / f"{name}.safetensors"
    kept.parent.mkdir(parents=True, exist_ok=True)
    said = f"{name} {model.config.to_diff_dict()} {len(batches)} {rate}"
    course = Course(rate, kept, said, half=True, every=CHECKPOINT_SECONDS)
    status = kept.with_suffix(".json")

    def note(step: int) -> None:
        if step % 20 == 0 or step == len(batches):
            write_atomically(status, json.dumps({"step": step, "steps": len(batches)}).encode())

    train(model, batches, course, note)


def _make_adapter(shop: Workshop, recipe: Recipe) -> None:
    started = time.monotonic()
    torch.manual_seed(SEED)
    model = LlamaForCausalLM.from_pretrained(shop.model(recipe.base), dtype=torch.float32)
    config = LoraConfig(
        r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules=list(TARGETS), task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config)
    batches = tuning_batches(recipe.drawn(shop.sets), shop.tokens, recipe.steps, ADAPTER_TOKENS)
    train(model, batches, Course(recipe.rate, half=True), lambda step: None)
    adapted.peft_config["default"].base_model_name_or_path = recipe.base
    unfinished = _emptied(shop.folder / "adapters" / f".{recipe.name}")
    adapted.save_pretrained(str(unfinished), save_embedding_layers=False)
    _finish(unfinished, shop.adapter(recipe), {"recipe": asdict(recipe)}, started)


def _configuration(shape: Shape, shop: Workshop) -> LlamaConfig:
    tokenizer, context = shop.tokenizer, shop.scale.context
    return LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=shape.hidden, intermediate_size=8 * shape.hidden // 3 // 64 * 64,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, max_position_embeddings=context,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _finish(unfinished: Path, place: Path, facts: Mapping[str, object], started: float) -> None:
    """Gives a finished model its name, in one step, with what it is and the seconds it took."""
    made = {**facts, "seconds": round(time.monotonic() - started, 1)}
    (unfinished / "made.json").write_text(json.dumps(made, indent=2))
    unfinished.rename(place)
