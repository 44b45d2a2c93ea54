"""The command that takes in many learnwares: folders, manifests of adapters, manifests of ready learnwares."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from indexer import AdapterStore, Change, ReadyCheck, ReadyIngest, ReadyReport, Report, is_ready_manifest
from indexer import ingest as ingest_all
from indexer.bulk import Pending, submit_all
from indexer.history import as_reason, system_user
from indexer.ready import OnRefusal
from slmdock import output
from slmdock.catalogue_commands import Json
from slmdock.context import Context
from slmdock.dock import Dock, specification_cache
from specification.errors import InvalidInput


def ingest(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(help="Folder of such folders as 'submit' takes, or a manifest: JSON Lines, Parquet."),
    ],
    without_artefacts: Annotated[
        bool,
        typer.Option(
            "--without-artefacts",
            help="Take ready learnwares whose adapter is not here: found at once, served once it is submitted.",
        ),
    ] = False,
    refused: Annotated[
        Path | None, typer.Option(help="Write each refused row of a ready manifest there (JSON Lines).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take many learnwares in; run it again to go on after an interruption.

    Rows with an 'id' are ready learnwares: their specification is made, and their adapter is in the store.
    """
    dock: Context = context.obj
    if is_ready_manifest(source):
        with (
            closing(dock.opened("a manifest of ready learnwares is taken in")) as opened,
            _refusals(refused, source) if refused else nullcontext() as writing,
        ):
            ready = _take_in(opened, source, None if without_artefacts else opened.store, writing)
            indexing = _index(opened)
        if as_json:
            output.print_json(output.ready_json(ready, indexing))
        else:
            print(output.ready_lines(ready, indexing))
        raise typer.Exit(2 if ready.refused else 0)
    if without_artefacts or refused:
        raise InvalidInput(f"{source}: --without-artefacts and --refused are for manifests of ready learnwares")
    with closing(dock.access()) as access, output.progress_bar("ingesting", "learnwares") as progress:
        submit = partial(dock.take_in, access)
        report = ingest_all(source, dock.encoder(), specification_cache(), submit, progress)
    print_report(report, as_json)
    if report.refused:
        raise typer.Exit(2)


def _take_in(dock: Dock, source: Path, store: AdapterStore | None, on_refusal: OnRefusal | None) -> ReadyReport:
    catalogue = dock.indexer.catalogue
    check = ReadyCheck(catalogue.settings.encoder, frozenset(dock.bases.names()), store)
    with output.progress_bar("ingesting", "learnwares") as progress:
        report = ReadyIngest(catalogue, check, on_refusal).run(source, progress)
    counts = f"{report.added} new, {report.changed} changed, {report.refused} refused, each published"
    change = Change(
        name=as_reason(source.name)[:200], state="ingested", who=system_user(), when=time.time(), why=counts
    )
    dock.indexer.history.note([change])
    return report


def _index(dock: Dock) -> float:
    """Makes what is in searchable; returns how many seconds it took."""
    started = time.perf_counter()
    with output.progress_bar("indexing", "learnwares") as progress:
        dock.indexer.catalogue.settle(progress)
    return time.perf_counter() - started


@contextmanager
def _refusals(file: Path, source: Path) -> Iterator[OnRefusal]:
    """Gives what writes refused rows to a file, a line each."""
    if file.exists() and source.exists() and file.samefile(source):
        raise InvalidInput(f"--refused {file} is the manifest itself; choose another file")
    try:
        opened = file.open("w", buffering=1)
    except OSError as error:
        raise InvalidInput(f"--refused {file} cannot be written ({error.strerror})") from None
    with opened:

        def write(manifest: str, number: int, reason: str) -> None:
            opened.write(json.dumps({"manifest": manifest, "number": number, "reason": reason}) + "\n")

        yield write


def take_in(dock: Context, pending: Sequence[Pending], as_json: bool, place: Path | None = None) -> None:
    """Takes each in and says what became of it; ends the command with code 2 where one was refused.

    ``place`` is a temporary folder that no message need name.
    """
    with closing(dock.access()) as access, output.progress_bar("ingesting", "learnwares") as progress:
        report = submit_all(pending, dock.encoder(), specification_cache(), access.submit, progress)
    if place is not None:
        report.refused[:] = [(label, reason.replace(f"{place}/", "")) for label, reason in report.refused]
    print_report(report, as_json)
    if report.refused:
        raise typer.Exit(2)


def print_report(report: Report, as_json: bool) -> None:
    """What became of each learnware."""
    if as_json:
        output.print_json(
            {
                "accepted": [item.model_dump(mode="json") for item in report.accepted],
                "refused": output.refusals_json(report.refused),
            }
        )
        return
    output.console().print(output.learnware_table(report.accepted))
    for item in report.accepted:
        if item.warning:
            print(f"{item.reference} is {item.warning}")
    for line in output.refusal_lines(report.refused):
        print(output.safe(line))
    print(f"{len(report.accepted)} in, {len(report.refused)} refused")
