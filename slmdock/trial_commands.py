"""The command ``try``: a trial of the best-matching learnwares on the user's labelled examples."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from catalogue import parse_filter
from indexer import cached_specification
from retriever import SCORES, Score
from serving.trial_run import TrialOptions, TrialReport, TrialRun
from slmdock import output
from slmdock.context import Context
from slmdock.dock import specification_cache
from specification import read_examples
from specification.errors import InvalidInput

AUTO = "auto"
INTERRUPTED = 130


def try_learnwares(
    context: typer.Context,
    examples: Annotated[
        Path, typer.Argument(help="Labelled examples (JSON Lines): 'text' (or 'prompt') and 'answer' per line.")
    ],
    top: Annotated[int, typer.Option(min=1, max=31, help="How many learnwares take part.")] = 10,
    most: Annotated[int, typer.Option("--examples", min=1, max=10_000, help="Examples to use at most.")] = 128,
    score: Annotated[str, typer.Option(help=f"auto, or one of {', '.join(SCORES)}.")] = AUTO,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Length of an answer; default: by the answers given.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Send prompts through the chat template.")] = False,
    where: Annotated[str, typer.Option(help="Filter, for instance 'domain=finance|law,rank<=16'.")] = "",
    keep: Annotated[bool, typer.Option("--keep", help="Let the winner answer task:<id> from now on.")] = False,
    share: Annotated[
        bool, typer.Option("--share", help="Let the dock keep everyone's mean score, to choose better for others.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Try the best-matching learnwares on labelled examples. Prompts go to the dock, answers given do not."""
    dock: Context = context.obj
    options = TrialOptions(top, most, _score(score), max_tokens, chat, parse_filter(where))
    with closing(dock.gateway()) as client:
        with output.progress_bar("encoding", "texts") as progress:
            task = cached_specification(examples, dock.encoder(), specification_cache(), progress)
        run = TrialRun(client, task, read_examples(examples), options)
        report, interrupted = _run(run)
        if keep and not interrupted:
            client.keep_outcome(report.task, report.outcome())
        if share and not interrupted:
            for learnware, signals in report.signals(client.measure(task)).items():
                client.attach(learnware, signals)
    if as_json:
        output.print_json(output.trial_json(report, kept=keep and not interrupted))
    else:
        output.console().print(output.trial_table(report))
        print(output.trial_lines(report, kept=keep and not interrupted))
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _run(run: TrialRun) -> tuple[TrialReport, bool]:
    """Runs a trial; after Ctrl-C it tells what the complete rounds have shown."""
    try:
        with output.progress_bar("trying", "examples") as progress:
            return run.run(progress), False
    except KeyboardInterrupt:
        return run.report(), True


def _score(name: str) -> Score | None:
    if name == AUTO:
        return None
    for known in SCORES:
        if name == known:
            return known
    raise InvalidInput(f"--score {name!r}: choose {AUTO} or one of {', '.join(SCORES)}")
