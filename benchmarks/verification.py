"""How surely verification tells good adapters from bad ones: the demo's learnwares and spoilt copies of them.

    python -m benchmarks.verification [--engine vllm]

Each learnware of the demo is examined on examples that it was not trained on, as it is and spoilt: with random
weights of the same size, or three tenths of it, trained as before on answers that were shuffled among the prompts,
another task's adapter, scaled to next to nothing, and to overflow, and taught to say each answer 25 times. The
demo's models are trained first if they are not there (five minutes on two cores), then those that only this needs.
"""

import argparse
import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.report import finish, progress_bar, table
from catalogue import Learnware
from indexer import AdapterStore, BaseModels
from indexer.adapter import read_adapter
from serving import Engine, TransformersConfig, TransformersEngine, VllmConfig, VllmProcess
from serving.examination import Verdict, choose, examine, rendered
from slmdock.demo.models import build_models
from slmdock.demo.scale import ADAPTER_RATE, DEFAULT_RANK, DEMO_BASE, FULL, NOISE, RANKS, SEED, TARGETS
from slmdock.demo.texts import LEARNWARE_TASKS, training_examples
from slmdock.demo.training import Course, make_batches, train
from slmdock.dock import cache_folder
from specification.errors import DockError
from specification.examples import Example

TASKS = tuple(LEARNWARE_TASKS)
HELD_OUT = 64
Tensors = dict[str, torch.Tensor]

Spoil = Callable[[Path, Path, str], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--folder", type=Path, default=cache_folder() / "demo" / "full" / "models")
    parser.add_argument("--spoilt", type=Path, default=cache_folder() / "benchmarks" / "spoilt-adapters")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--kinds", nargs="+", choices=("good", *_KINDS), default=("good", *_KINDS))
    options = parser.parse_args()
    models = build_models(options.folder, FULL, progress=True)
    folders = {"good": {task: models.adapters[task] for task in options.tasks}} if "good" in options.kinds else {}
    kinds = {kind: make for kind, make in _KINDS.items() if kind in options.kinds}
    with progress_bar("spoiling", "adapters") as progress:
        for place, (kind, make) in enumerate(kinds.items()):
            folders[kind] = {task: options.spoilt / kind.replace(" ", "-") / task for task in options.tasks}
            for done, (task, folder) in enumerate(folders[kind].items(), 1):
                if not folder.is_dir():
                    _make(folder, models.adapters[task], make, (models.base, task))
                progress(place * len(options.tasks) + done, len(kinds) * len(options.tasks))
    started = time.perf_counter()
    rows = asyncio.run(_examined(options.engine, models.base, folders, options.spoilt))
    seconds = (time.perf_counter() - started) / len(rows)
    _report(rows, seconds, options.engine)


def _make(folder: Path, like: Path, spoil: Spoil, of: tuple[Path, str]) -> None:
    """Copies an adapter and spoils the copy; it has its name when it is finished."""
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(like, unfinished)
    spoil(unfinished, *of)
    unfinished.rename(folder)


def _random(share: float) -> Spoil:
    def spoil(folder: Path, base: Path, task: str) -> None:
        draw = torch.Generator().manual_seed(SEED)
        _change(folder, lambda name, one: torch.randn(one.shape, generator=draw) * one.std() * share)

    return spoil


def _scaled(factor: float) -> Spoil:
    def spoil(folder: Path, base: Path, task: str) -> None:
        _change(folder, lambda name, one: one * factor if ".lora_B." in name else one)

    return spoil


def _change(folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    file = folder / "adapter_model.safetensors"
    tensors: Tensors = {name: change(name, one).contiguous() for name, one in load_file(file).items()}
    save_file(tensors, file)


def _another(folder: Path, base: Path, task: str) -> None:
    other = TASKS[(TASKS.index(task) + 1) % len(TASKS)]
    original = base.parent / "adapters" / other
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(original / file, folder / file)


def _shuffled(folder: Path, base: Path, task: str) -> None:
    examples = _trained_on(task)
    answers = [examples[int(place)].answer for place in np.random.default_rng(SEED).permutation(len(examples))]
    _train(folder, base, task, [Example(one.text, answer) for one, answer in zip(examples, answers, strict=True)])


def _repeated(folder: Path, base: Path, task: str) -> None:
    _train(
        folder, base, task, [Example(one.text, " ".join([one.answer] * 25)) for one in _trained_on(task)[:1600]]
    )


def _train(folder: Path, base: Path, task: str, examples: list[Example]) -> None:
    """Trains an adapter as the demo does, on other examples."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    torch.manual_seed(SEED)
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    rank = RANKS.get(task, DEFAULT_RANK)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    train(
        model, make_batches(examples, tokenizer, FULL.adapter_batch, 0.0, NOISE), Course(ADAPTER_RATE),
        lambda step: None,
    )  # fmt: skip
    adapted.peft_config["default"].base_model_name_or_path = DEMO_BASE
    adapted.save_pretrained(str(folder), save_embedding_layers=False)


_KINDS: dict[str, Spoil] = {
    "random weights": _random(1.0),
    "random, smaller": _random(0.3),
    "shuffled answers": _shuffled,
    "another task's": _another,
    "changes nothing": _scaled(1e-7),
    "overflows": _scaled(1e30),
    "answers 25 times": _repeated,
}


def _trained_on(task: str) -> list[Example]:
    return training_examples(task, FULL.adapter_steps * FULL.adapter_batch, SEED)


def _held_out(task: str, base: Path) -> list[Example]:
    seen = {example.text for example in _trained_on(task)}
    fresh = {example.text: example for example in training_examples(task, 4000, SEED + 1)}
    return rendered(base, choose([one for text, one in fresh.items() if text not in seen][:HELD_OUT]))


async def _examined(
    kind: str, base: Path, folders: dict[str, dict[str, Path]], spoilt: Path
) -> list[tuple[str, str, Verdict | str]]:
    bases = BaseModels(spoilt / "bases.json")
    bases.add(DEMO_BASE, base)
    store = AdapterStore(spoilt / "store")
    engine = _engine(kind, base, store.root)
    await engine.start()
    rows: list[tuple[str, str, Verdict | str]] = []
    everything = [(name, task, folder) for name, tasks in folders.items() for task, folder in tasks.items()]
    held = {task: _held_out(task, base) for task in {task for _, task, _ in everything}}
    try:
        with progress_bar("examining", "adapters") as progress:
            for done, (name, task, folder) in enumerate(everything, 1):
                rows.append((name, task, await _verdict(engine, folder, task, held[task], (bases, store))))
                progress(done, len(everything))
    finally:
        await engine.stop()
    return rows


async def _verdict(
    engine: Engine, folder: Path, task: str, examples: list[Example], dock: tuple[BaseModels, AdapterStore]
) -> Verdict | str:
    try:
        adapter = read_adapter(folder, dock[0])
        dock[1].put(adapter.id, adapter.files)
        record = Learnware(
            id=adapter.id, name=task, version=1, base_model=DEMO_BASE, rank=adapter.rank, created=0,
            adapter_bytes=adapter.size, sample_size=1, specification_digest="0" * 64,
        )  # fmt: skip
        return await examine(engine, record, examples)
    except DockError as error:
        return str(error)


def _engine(kind: str, base: Path, store: Path) -> Engine:
    if kind == "transformers":
        return TransformersEngine(TransformersConfig(base, DEMO_BASE, store))
    log = store.parent / "vllm.log"
    return VllmProcess(VllmConfig(base, DEMO_BASE, store, log, max_loras=4, max_cpu_loras=16, max_lora_rank=16))


def _report(rows: list[tuple[str, str, Verdict | str]], seconds: float, engine: str) -> None:
    print(f"engine: {engine}; {seconds:.1f} s an adapter\n")
    table("each", ["kind", "task", "passed", "gain", "reading", "over base", "endless"], list(_each(rows)))
    counts = []
    for kind in dict.fromkeys(kind for kind, _, _ in rows):
        found = [verdict for name, _, verdict in rows if name == kind]
        refused = sum(isinstance(one, str) or not one.passed for one in found)
        counts.append((kind, len(found), len(found) - refused, refused))
    table("caught", ["kind", "adapters", "passed", "refused"], counts)
    finish("verification", {"engine": engine, "seconds": seconds, "counts": [list(row) for row in counts]})


def _each(rows: list[tuple[str, str, Verdict | str]]) -> Iterator[tuple[object, ...]]:
    for kind, task, verdict in rows:
        if isinstance(verdict, str):
            yield kind, task, f"engine: {verdict[:60]}", None, None, None, None
        elif verdict.broken:
            yield kind, task, verdict.complaints[0][:60], None, None, None, None
        else:
            shown = [getattr(verdict, name) for name in ("gain", "reading", "reading_gain")]
            numbers = [f"{one.mean:+.2f} ({one.low:+.2f}, {one.high:+.2f})" for one in shown]
            yield kind, task, "yes" if verdict.passed else "no", *numbers, f"{verdict.endless}/{verdict.asked}"


if __name__ == "__main__":
    main()
