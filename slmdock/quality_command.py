"""The command ``slmdock quality``: what is known of how good a learnware is."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from catalogue import Signal
from indexer import cached_specification, lm_eval_signals, model_card_signals
from indexer.evaluations import Subject
from slmdock import output
from slmdock.catalogue_commands import SPECIFICATION_SUFFIX, Json
from slmdock.context import Context, DockAccess
from slmdock.dock import specification_cache
from specification import Specification
from specification.errors import InvalidInput


def quality(
    context: typer.Context,
    learnware: Annotated[str, typer.Argument(help="Name or id of a learnware.")],
    lm_eval: Annotated[Path | None, typer.Option(help="Results file of lm-evaluation-harness.")] = None,
    model_card: Annotated[Path | None, typer.Option(help="Model card (README.md) with a model-index.")] = None,
    feedback: Annotated[float | None, typer.Option(min=0, max=1, help="A user's vote: 0 bad … 1 good.")] = None,
    task: Annotated[str, typer.Option(help="What the vote is about; default: in general.")] = "in general",
    of_base: Annotated[bool, typer.Option("--of-base", help="The files are about its base model.")] = False,
    texts: Annotated[
        Path | None,
        typer.Option(help="Folder with the benchmarks' prompts: <task>.jsonl, or <task>.safetensors."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Attach quality signals to a learnware, or show those it has. Of --texts only specifications are kept."""
    dock: Context = context.obj
    subject: Subject = "base" if of_base else "learnware"
    signals = lm_eval_signals(lm_eval, subject) if lm_eval else []
    signals += model_card_signals(model_card, subject) if model_card else []
    if feedback is not None:
        vote = Signal(kind="feedback", task=task, value=feedback, examples=1, source="user")
        signals.append(vote)
    with closing(dock.access()) as access:
        if texts:
            signals = _with_specifications(dock, access, signals, texts)
        found = access.attach(learnware, signals) if signals else access.learnware(learnware)
    if as_json:
        output.print_json([signal.model_dump(mode="json") for signal in found.quality])
        return
    for signal in found.quality:
        print(output.safe(output.signal_line(signal)))
    print(f"{found.name}: {len(found.quality)} quality signals, {len(signals)} of them new")


def _with_specifications(dock: Context, access: DockAccess, signals: list[Signal], folder: Path) -> list[Signal]:
    """Names in each signal the specification of its task, for tasks that have a file in the folder."""
    digests: dict[str, str] = {}
    for name in sorted({signal.task for signal in signals}):
        if (made := _specification(dock, folder, name)) is not None:
            digests[name] = access.measure(made)
    if not digests:
        raise InvalidInput(f"{folder}: no <task>.jsonl or <task>{SPECIFICATION_SUFFIX} of any task of the signals")
    return [signal.model_copy(update={"specification": digests.get(signal.task)}) for signal in signals]


def _specification(dock: Context, folder: Path, task: str) -> Specification | None:
    # A task's name comes from a file of others: only a plain name may become a path.
    if Path(task).name != task:
        return None
    if (folder / f"{task}{SPECIFICATION_SUFFIX}").is_file():
        return Specification.load(folder / f"{task}{SPECIFICATION_SUFFIX}")
    examples = folder / f"{task}.jsonl"
    if not examples.is_file():
        return None
    with output.progress_bar(f"encoding {output.safe(task)}", "texts") as progress:
        return cached_specification(examples, dock.encoder(), specification_cache(), progress)
