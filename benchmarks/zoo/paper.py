"""``--scale paper``: the plan of the paper's configuration, as text for a terminal."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.zoo.dry_run import (
    BYTES_A_TOKEN,
    EXAMPLES_A_STEP,
    GPU_BYTES,
    GPU_FLOPS,
    GPU_SHARE,
    PAPER,
    RATE_SHARE,
    READING,
    TRAINING,
    UTILISATION,
    Amount,
    DryRun,
    Work,
    dry_run,
    gpus_for,
    vllm_command,
)
from benchmarks.zoo.hub import INSTRUCT, LARGE, LLAMA, QWEN, TRAINING_SETS, USER_TASKS
from serving.gpu_plan import GIB

WIDTH = 115
MEDICAL_MODELS = 14
"""Of the paper: thirteen learnwares and their base."""

PREFACE = """\
The paper's configuration: a plan. Nothing is downloaded, trained or asked. Models and sets are named as on
the Hugging Face hub, by the paper's public code; parameters are counted on models built without weights;
tokens are estimated from the texts of DIR; hours are arithmetic."""
BASES_NOTE = """\
In the paper's code the learnwares of fiqasa stand on {llama}, those of australian on {instruct}, all others
on {qwen}. The zoo's recipes, used here, train on two bases, as at the smaller scales. That code loads the
Llama models from copies (NousResearch/Meta-Llama-3.1-8B and so on)."""
SETS_NOTE = """\
Examples and tokens are those of DIR, less what is held out; the hub may hold more or others. A dash: not in
DIR, or too few to hold some out. A token is taken to be a digit or {bytes} bytes of other text: neither
tokenizer is here."""
ADAPTERS_NOTE = """\
{count} adapters, {poor} of them poor on purpose, made as at the scale small, each in up to {steps:,}
steps of {examples} examples. Learning rates are {share:g} of that scale's ({rates}). Rank, steps and
rates are assumed: how the paper's learnwares were trained, beyond LoRA and supervised, its public code does
not say."""
WORK_NOTE = """\
Training takes {training} FLOPs a parameter and token (6, less 2 since the base is frozen), reading {reading}.
The GPU is taken to reach {share:.0%} of {peak:g} TFLOP/s (A100, bfloat16): assumed, not measured. Every
example of DIR's user tasks is read once, with its answer. As a check: the paper's README gives 3 to 4 hours
on an A100 for its medical tasks, with lm-evaluation-harness; by this formula {models} models on DIR's take
{medical:.1f}. So the hours of reading are a low estimate, above all where answers are written token by token.
Sketches, search and trials are not counted."""
MEMORY_NOTE = """\
Each base has one GPU of {gpu:.0f} GiB to itself, {used:.0%} of it used; how this is planned: docs/scale.md.
The dock would start vLLM so, with a base's folder and the dock's own in the place of /models and /dock:"""
LAST = """\
PyTorch finds {found} CUDA device here. Whether a hub can be reached was not tried. No part of this plan was run.
On a machine with GPUs and a hub:

1. Download the base models and the sets; write the sets as <domain>/train and <domain>/user, as in DIR.
2. Train the adapters with peft: with pretrained bases the zoo's pretraining falls away, and its own training of
   adapters, in 32 bits on processor cores, is of no use at this size. Or take the paper's, which its code fetches
   from Beimingwu: slmdock ingest-package takes such packages where they hold safetensors (not tried with these).
3. slmdock base add {qwen} path/to/it, and so on: adapter_config.json must name the base the same.
4. slmdock ingest manifest.jsonl takes all adapters in, each with its training examples.
5. slmdock verify NAME --examples held-out.jsonl runs one beside its base and keeps its gain as quality.
6. slmdock serve --base {qwen} --base {llama}, with the numbers above.
7. slmdock search task.jsonl shows what the dock chooses; slmdock try labelled.jsonl lets the ten best compete.
8. Score every model on every task, as the paper did with lm-evaluation-harness. No command does that at this
   scale: 'slmdock bench zoo' trains and asks small models of its own alone."""


def plan(data: Path) -> str:
    """Returns the plan as text; ends the program with a message where a domain's folder is missing.

    Raises:
        InvalidInput: a domain has no training set with enough examples, or a file cannot be read.
    """
    run = dry_run(data)
    console = Console(width=WIDTH, highlight=False, markup=False, emoji=False, color_system=None)
    with console.capture() as printed:
        _say(console, PREFACE)
        _models(console, run)
        _sets(console, run)
        _tasks(console, run)
        _work(console, run)
        _memory(console, run)
        found = "a" if torch.cuda.is_available() else "no"
        console.print(LAST.format(found=found, qwen=QWEN.hub, llama=LLAMA.hub), soft_wrap=True)
    return "\n".join(line.rstrip() for line in printed.get().splitlines()).strip()


def _models(console: Console, run: DryRun) -> None:
    rows = [
        (hub, f"{each.parameters:,}", f"{each.adapter_parameters:,}", str(len(run.recipes[hub])))
        for hub, each in run.sizes.items()
    ]
    _table(console, ("base model", "parameters", f"of an adapter of rank {run.rank}", "adapters here"), rows)
    _say(console, BASES_NOTE.format(qwen=QWEN.hub, llama=LLAMA.hub, instruct=INSTRUCT.hub))
    large = [
        (
            each.hub,
            f"{each.parameters / 1e9:.0f} billion",
            _gib(2 * each.parameters),
            str(gpus_for(each.parameters)),
        )
        for each in LARGE
    ]
    _table(console, ("compared with", "parameters, by its name", "weights in 16 bits", "GPUs at least"), large)


def _sets(console: Console, run: DryRun) -> None:
    known = {f"{domain}-{name}": hub for domain, sets in TRAINING_SETS.items() for name, hub in sets.items()}
    rows = [
        (key, known.get(key, "not of the paper"), *_amount(run.trained.get(key)))
        for key in sorted({*known, *run.trained})
    ]
    _table(console, ("training set", "hub id", "examples", "tokens"), rows)
    _say(console, SETS_NOTE.format(bytes=BYTES_A_TOKEN))
    rates = " and ".join(f"{rate:.2g}" for rate in sorted({each.rate for each in run.adapters}))
    poor = sum(each.poor for each in run.adapters)
    filled = ADAPTERS_NOTE.format(
        count=len(run.adapters),
        poor=poor,
        steps=PAPER.adapter_steps,
        examples=EXAMPLES_A_STEP,
        share=RATE_SHARE,
        rates=rates,
    )
    _say(console, filled)


def _tasks(console: Console, run: DryRun) -> None:
    rows = [
        (domain, str(len(USER_TASKS[domain])), str(len(tasks)), *_amount(Amount.total(tasks.values())))
        for domain, tasks in run.users.items()
    ]
    _table(console, ("user tasks", "the paper's", "in DIR", "examples", "tokens"), rows)
    for domain, tasks in USER_TASKS.items():
        missing = sorted(tasks.keys() - run.users[domain].keys())
        absent = f" Not in DIR: {', '.join(missing)}." if missing else ""
        _say(console, f"{domain}: {_grouped(tasks.values())}.{absent}")


def _work(console: Console, run: DryRun) -> None:
    work = run.work()
    rows = [(each.name, f"{each.tokens / 1e6:,.1f} million", _hours(each.hours)) for each in work]
    rows.append(("together", "", _hours(sum(each.hours for each in work))))
    _table(console, ("work", "tokens", "GPU hours"), rows)
    medical = Amount.total(run.users["medical"].values()).tokens
    check = Work("", run.sizes[QWEN.hub].parameters, MEDICAL_MODELS * medical, READING)
    filled = WORK_NOTE.format(
        training=TRAINING, reading=READING, share=UTILISATION, peak=GPU_FLOPS / 1e12, models=MEDICAL_MODELS,
        medical=check.hours,
    )  # fmt: skip
    _say(console, filled)


def _memory(console: Console, run: DryRun) -> None:
    rows = [
        (
            hub, _gib(gpu.weight_bytes), f"{gpu.max_loras}, {_gib(gpu.slots_bytes)}", f"{gpu.kv_tokens:,}",
            f"{gpu.kv_requests} of {gpu.request_tokens:,}",
        )
        for hub, gpu in ((hub, each.gpu) for hub, each in run.sizes.items())
    ]  # fmt: skip
    _table(console, ("base model", "weights", "adapters in a batch", "tokens in the KV cache", "requests"), rows)
    _say(console, MEMORY_NOTE.format(gpu=GPU_BYTES / GIB, used=GPU_SHARE))
    for hub, each in run.sizes.items():
        console.print(_command(vllm_command(hub, each.gpu)) + "\n", soft_wrap=True)


def _say(console: Console, text: str) -> None:
    """Prints a paragraph, filled again with what was put in."""
    console.print(" ".join(text.split()) + "\n")


def _table(console: Console, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table; all columns but the first and hub ids are numbers."""
    shown = Table(box=None, pad_edge=False)
    for place, name in enumerate(columns):
        shown.add_column(name, justify="left" if place == 0 or name == "hub id" else "right", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    console.print()


def _command(words: Sequence[str]) -> str:
    """Returns a command in lines that a shell takes, each option beside its value."""
    glued = re.sub(r"(--\S+) (?!-)", "\\1\0", " ".join(words))
    lines = textwrap.wrap(glued, WIDTH - 6, break_long_words=False, break_on_hyphens=False)
    return " \\\n    ".join(lines).replace("\0", " ")


def _grouped(hubs: Iterable[str]) -> str:
    """Returns hub ids, each once, with its parts behind it."""
    found: dict[str, list[str]] = {}
    for hub, _, part in (each.partition(",") for each in hubs):
        found.setdefault(hub, []).extend([part] if part else [])
    return ", ".join(f"{hub} ({', '.join(parts)})" if parts else hub for hub, parts in found.items())


def _amount(found: Amount | None) -> tuple[str, str]:
    return (f"{found.examples:,}", f"{found.tokens:,.0f}") if found else ("–", "–")


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def _hours(hours: float) -> str:
    return f"{hours:.1f}"
