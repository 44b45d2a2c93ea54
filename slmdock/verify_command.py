"""The command that verifies learnwares by running them."""

import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from serving import DockClient
from serving.examination import Verdict, choose
from serving.verification_queue import Job
from serving.verifier import VerifierLimits
from slmdock import output
from slmdock.catalogue_commands import Json
from slmdock.context import Context, DockAccess
from slmdock.dock import Dock
from slmdock.verifying import VerifierConfig, work_off
from specification import read_examples
from specification.errors import InvalidInput

POLL_SECONDS = 1.0
DEFAULTS = VerifierLimits()


def verify(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="NAME, NAME@2 or id; default: whatever waits.")] = "",
    examples: Annotated[
        Path | None,
        typer.Option(
            help="'text' (or 'prompt') and 'answer' per line, 16 or more that it was not trained on (JSON Lines)."
        ),
    ] = None,
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--plain", help="Through the chat template or not; default: if there is one."),
    ] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Publish it if it passes.")] = False,
    seconds: Annotated[float, typer.Option(min=1, help="What one learnware may take.")] = DEFAULTS.seconds,
    memory_gib: Annotated[float, typer.Option(min=0.1, help="What its engine may hold.")] = DEFAULTS.memory_gib,
    with_network: Annotated[
        bool, typer.Option("--with-network", help="Where no process may give up its network (some containers).")
    ] = False,
    vllm_arg: Annotated[
        list[str] | None, typer.Option(help="Passed to the engine's vLLM, as with 'slmdock serve'; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a learnware on held-out examples beside its base model, in an engine of its own that is thrown away.

    Examples go to the dock and are forgotten when it is done. Without them, show what came of NAME; without NAME
    too, go on with what waits. One that was held back becomes 'verified', or 'quarantined' if it fails.
    """
    dock: Context = context.obj
    limits = VerifierLimits(seconds, memory_gib)
    config = VerifierConfig(limits, with_network=with_network, vllm_args=tuple(vllm_arg or ()))
    if not name and (examples or publish):
        raise InvalidInput("--examples and --publish are for one learnware; name it")
    if publish and not examples:
        raise InvalidInput("--publish goes with --examples; 'slmdock publish' publishes what is verified")
    with closing(dock.access()) as access:
        if name and examples is None:
            found = [access.verification(name)]
        else:
            if examples is not None:
                chosen = choose(read_examples(examples))
                found = [access.verify(name, chosen, chat, publish)]
            else:
                found = [job for job in access.verifications() if not job.over]
            found = _awaited(access, found, config)
    _print(found, as_json)
    if any(job.state in ("failed", "error") for job in found):
        raise typer.Exit(2)


def _awaited(access: DockAccess, jobs: list[Job], config: VerifierConfig) -> list[Job]:
    """Returns what became of jobs: they are done here, or by the gateway if it verifies."""
    if not jobs:
        return jobs
    with output.progress_bars() as shown:

        def told(job: Job) -> None:
            shown(job.reference, *((1, 1) if job.over else (job.done, job.total)))

        if isinstance(access, Dock):
            work_off(access, config, told)
            return [access.verification(job.learnware) for job in jobs]
        assert isinstance(access, DockClient)
        while access.verifying() and not all(job.over for job in jobs):
            time.sleep(POLL_SECONDS)
            jobs = [access.verification(job.learnware) for job in jobs]
            for job in jobs:
                told(job)
        return jobs


def _print(jobs: list[Job], as_json: bool) -> None:
    if as_json:
        output.print_json([job.model_dump(mode="json") for job in jobs])
        return
    if not jobs:
        print("nothing waits to be verified")
        return
    table = Table("learnware", "state", "gain", "reading", "endless", "examples", "s", box=None)
    for job in jobs:
        table.add_row(Text(job.reference), job.state, *_numbers(job.verdict))
    output.console().print(table)
    for job in jobs:
        words = str(job.verdict) if job.verdict else job.error
        if words:
            print(output.safe(f"{job.reference}: {words}"))
    if any(not job.over for job in jobs):
        print("they wait for 'slmdock serve --verify-per-hour 10', or for 'slmdock verify' while nothing serves")


def _numbers(verdict: Verdict | None) -> tuple[str, ...]:
    if verdict is None:
        return ("",) * 5
    endless = f"{verdict.endless}/{verdict.asked}" if verdict.asked else ""
    intervals = ("" if each is None else str(each) for each in (verdict.gain, verdict.reading))
    return (*intervals, endless, str(verdict.examples), f"{verdict.seconds:.0f}")
