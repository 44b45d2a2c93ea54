"""The command that writes learnwares out for another dock."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from indexer import ExportReport
from indexer import export as export_all
from slmdock import output
from slmdock.catalogue_commands import Json
from slmdock.context import Context


def export(
    context: typer.Context,
    to: Annotated[Path, typer.Option("--to", help="Folder to write to; each learnware gets one in it.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME|ID", help="Which; default: all.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write learnwares out as folders that 'ingest' of another dock takes in unchanged.

    Ids, specifications, cards and the order of versions are kept. Quality and the time of entry are in
    record.json to be read, and are not taken in. Run it again to go on after an interruption.
    """
    dock: Context = context.obj
    with (
        closing(dock.opened("learnwares are exported")) as opened,
        output.progress_bar("exporting", "learnwares") as progress,
    ):
        chosen = list({found.id: found for found in map(opened.learnware, names)}.values()) if names else None
        report = export_all(opened.catalogue, opened.store, to, chosen, progress, opened.bases)
    _print_report(report, to, as_json)
    if report.refused:
        raise typer.Exit(2)


def _print_report(report: ExportReport, to: Path, as_json: bool) -> None:
    if as_json:
        output.print_json(
            {
                "written": report.written,
                "unchanged": report.unchanged,
                "refused": output.refusals_json(report.refused),
            }
        )
        return
    for line in output.refusal_lines(report.refused):
        print(output.safe(line))
    print(f"{len(report.written)} written, {len(report.unchanged)} there already, {len(report.refused)} refused")
    if report.written or report.unchanged:
        print(output.safe(f"take them in elsewhere with: slmdock ingest {to}"))
