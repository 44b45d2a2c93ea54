"""The command line, ``slmdock``. Errors go to standard error in one line; exit code 2 means bad input."""

import io
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from catalogue import ServerAddress
from slmdock import (
    catalogue_commands,
    key_commands,
    output,
    quality_command,
    serving_commands,
    top_command,
    trial_commands,
)
from slmdock.context import Context
from slmdock.dock import DockConfig, default_folder
from specification import DEFAULT_ENCODER
from specification.errors import DockError

FAILED = 2
INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    help="Find the small language model that fits a task, and serve it.",
)
app.add_typer(catalogue_commands.base_app, name="base")
app.add_typer(key_commands.key_app, name="key")
for command in (
    catalogue_commands.spec,
    catalogue_commands.submit,
    catalogue_commands.ingest,
    quality_command.quality,
    catalogue_commands.search,
    catalogue_commands.show,
    serving_commands.serve,
    serving_commands.demo,
    serving_commands.doctor,
    top_command.top,
):
    app.command()(command)
app.command("list")(catalogue_commands.list_learnwares)
app.command("try")(trial_commands.try_learnwares)


@app.callback()
def options(
    context: typer.Context,
    dock: Annotated[
        Path | None, typer.Option(envvar="SLMDOCK_HOME", help="Folder of the dock.", show_default=False)
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(envvar="SLMDOCK_URL", help="Use the dock behind this gateway instead of a folder."),
    ] = None,
    qdrant: Annotated[
        str | None,
        typer.Option(envvar="SLMDOCK_QDRANT_URL", help="Qdrant server; default: embedded in the folder."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="File with the API key for the gateway; default: SLMDOCK_KEY.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(envvar="SLMDOCK_ENCODER", help="Sentence encoder: packaged name, folder or hub id.")
    ] = DEFAULT_ENCODER,
) -> None:
    """Options for every command. Keys come from the environment, where no other user can read them:

    SLMDOCK_KEY for the gateway, SLMDOCK_QDRANT_API_KEY for a Qdrant server.
    """
    server = ServerAddress(qdrant, os.environ.get("SLMDOCK_QDRANT_API_KEY")) if qdrant else None
    context.obj = Context(DockConfig((dock or default_folder()).absolute(), encoder, server), url, key_file)


def main() -> None:
    """Runs the command line; turns errors into one line and an exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except (DockError, OSError) as error:
        print(f"error: {output.safe(str(error))}", file=sys.stderr)
        sys.exit(FAILED)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("interrupted; run the same command again to go on", file=sys.stderr)
        raise
