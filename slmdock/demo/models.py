"""Trains the demo's models: one small base and a LoRA specialist for each learnware's task.

The base is a Llama of 1.3 M parameters. What it saw, exactly: `pretraining_examples`, that is texts in the wording
of all twelve learnwares' tasks and of two worlds no learnware knows (the kitchen, the road), each text once, about
4 500 of each of the fourteen at full scale. Every answer came in one of three conventions drawn at random
("positive", "good", "bullish"; "12", "twelve", "= 12"), those of the two other worlds in their only one. So it
understands the texts, but cannot know which convention an asker wants. It never saw a user's wording, nor the
poems. A specialist sees its own task's texts, answered in its own convention, and nothing else. In all training
one token in ten of a text is garbled, so that clues count for more than templates.

The folder is safe to interrupt: a model appears under its name when it is finished, the base's training leaves a
checkpoint every few seconds, and `manifest.json` is written last. One process at a time may build in a folder.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from slmdock.demo import scale as fixed
from slmdock.demo.manifest import Manifest, fingerprint_of, is_complete, prepare
from slmdock.demo.progress import Report, library_bars_hidden, steps_shown
from slmdock.demo.scale import DEMO_BASE, FULL, SCALES, TINY, Scale
from slmdock.demo.texts import LEARNWARE_TASKS, USER_TASKS, pretraining_examples, training_examples, user_examples
from slmdock.demo.tokenizer import train_tokenizer
from slmdock.demo.training import Course, make_batches, train
from specification.examples import Example
from specification.files import write_atomically

__all__ = ["DEMO_BASE", "FULL", "SCALES", "TINY", "DemoModels", "Scale", "build_models"]


@dataclass(frozen=True)
class DemoModels:
    """Where everything of a finished build lies; adapters and examples by learnware, users by user task."""

    folder: Path
    base: Path
    adapters: dict[str, Path]
    examples: dict[str, Path]
    users: dict[str, Path]

    @classmethod
    def at(cls, folder: Path, tasks: tuple[str, ...]) -> "DemoModels":
        """The layout, whether or not anything lies there yet."""
        return cls(
            folder=folder,
            base=folder / "base",
            adapters={task: folder / "adapters" / task for task in tasks},
            examples={task: folder / "examples" / f"{task}.jsonl" for task in tasks},
            users={task: folder / "users" / f"{task}.jsonl" for task in USER_TASKS},
        )


def build_models(folder: Path, scale: Scale = FULL, progress: bool = False) -> DemoModels:
    """Train what is missing in `folder`, or return at once if a matching build is complete.

    With `progress`, a bar is drawn on stderr. An interrupted call leaves a folder that the next one continues.

    Raises:
        InvalidInput: the folder holds files, but no demo build.
    """
    models = DemoModels.at(folder, scale.tasks)
    if is_complete(folder, scale):
        return models
    work = prepare(folder, scale)
    _write_texts(models)
    with (
        steps_shown(scale.steps, progress) as report,
        library_bars_hidden(),
        torch.random.fork_rng(devices=[]),
    ):
        if not models.base.is_dir():
            _train_base(models.base, scale, work, report)
        done = scale.base_steps
        for task, place in models.adapters.items():
            if not place.is_dir():
                _train_adapter(place, models.base, task, scale, work, _shifted(report, done))
            done += scale.adapter_steps
            report(task, done)
    seconds = json.loads(_seconds_file(work).read_text())
    Manifest.of(folder, scale, seconds).save(folder)
    shutil.rmtree(work)
    return models


def _train_base(place: Path, scale: Scale, work: Path, report: Report) -> None:
    started = monotonic()
    examples = pretraining_examples(scale.base_steps * scale.base_batch, fixed.SEED)
    tokenizer = train_tokenizer(examples)
    torch.manual_seed(fixed.SEED)
    model = LlamaForCausalLM(_configuration(tokenizer))  # type: ignore[no-untyped-call]
    model.generation_config = GenerationConfig.from_model_config(model.config)
    course = Course(fixed.BASE_RATE, work / "base.safetensors", fingerprint_of(scale))
    batches = make_batches(examples, tokenizer, scale.base_batch, fixed.TEXT_WEIGHT, fixed.NOISE)
    train(model, batches, course, lambda step: report("base model", step))
    unfinished = work / "base"
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    _finish(unfinished, place, monotonic() - started, work)


def _train_adapter(place: Path, base: Path, task: str, scale: Scale, work: Path, report: Report) -> None:
    started = monotonic()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    torch.manual_seed(fixed.SEED)
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    rank = fixed.RANKS.get(task, fixed.DEFAULT_RANK)
    adapted = get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(fixed.TARGETS), task_type="CAUSAL_LM")
    )
    examples = training_examples(task, scale.adapter_steps * scale.adapter_batch, fixed.SEED)
    batches = make_batches(examples, tokenizer, scale.adapter_batch, 0.0, fixed.NOISE)
    train(model, batches, Course(fixed.ADAPTER_RATE), lambda step: report(task, step))
    adapted.peft_config["default"].base_model_name_or_path = DEMO_BASE
    unfinished = work / task
    adapted.save_pretrained(str(unfinished), save_embedding_layers=False)
    (unfinished / "README.md").write_text(_card(task))
    _finish(unfinished, place, monotonic() - started, work)


def _configuration(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=fixed.VOCABULARY,
        hidden_size=fixed.HIDDEN,
        intermediate_size=fixed.FEED_FORWARD,
        num_hidden_layers=fixed.LAYERS,
        num_attention_heads=fixed.HEADS,
        max_position_embeddings=fixed.CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _card(task: str) -> str:
    about = LEARNWARE_TASKS[task]
    tags = [about.domain, *about.tags, "lora"]
    head = {"base_model": DEMO_BASE, "library_name": "peft", "license": "apache-2.0", "tags": tags}
    lines = [f"{key}: {json.dumps(value)}" for key, value in head.items()]
    return "\n".join(["---", *lines, "---", "", f"# {task}", "", about.description, ""])


def _finish(unfinished: Path, place: Path, seconds: float, work: Path) -> None:
    """Give a finished model its name, in one step; its time is noted first."""
    file = _seconds_file(work)
    noted = json.loads(file.read_text()) if file.is_file() else {}
    write_atomically(file, json.dumps({**noted, place.name: round(seconds, 1)}).encode())
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished.rename(place)


def _write_texts(models: DemoModels) -> None:
    for task, path in models.examples.items():
        _write_lines(path, training_examples(task, fixed.EXAMPLES_KEPT, fixed.SEED))
    for task, path in models.users.items():
        _write_lines(path, user_examples(task, fixed.EXAMPLES_KEPT, fixed.SEED))


def _write_lines(path: Path, examples: list[Example]) -> None:
    write_atomically(path, "".join(json.dumps(asdict(example)) + "\n" for example in examples).encode())


def _seconds_file(work: Path) -> Path:
    return work / "seconds.json"


def _shifted(report: Report, done: int) -> Callable[[str, int], None]:
    return lambda model, step: report(model, done + step)
