"""The command line, ``slmdock``. Errors go to standard error in one line; exit code 2 means bad input."""

import io
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from catalogue import ServerAddress, Sharding
from catalogue.address import key_in
from slmdock import (
    bench_command,
    catalogue_commands,
    derive_command,
    export_command,
    hub_command,
    ingest_command,
    key_commands,
    life_commands,
    output,
    package_command,
    plan_command,
    quality_command,
    serving_commands,
    submit_command,
    top_command,
    transfer_commands,
    trial_commands,
    verify_command,
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
app.add_typer(bench_command.bench_app, name="bench")
app.add_typer(key_commands.key_app, name="key")
app.add_typer(transfer_commands.catalogue_app, name="catalogue")
for command in (
    catalogue_commands.spec,
    derive_command.derive,
    submit_command.submit,
    ingest_command.ingest,
    hub_command.ingest_hub,
    package_command.ingest_package,
    export_command.export,
    quality_command.quality,
    catalogue_commands.search,
    catalogue_commands.task,
    catalogue_commands.show,
    verify_command.verify,
    life_commands.status,
    life_commands.publish,
    life_commands.retire,
    life_commands.quarantine,
    life_commands.delete,
    life_commands.history,
    life_commands.diff,
    serving_commands.serve,
    serving_commands.demo,
    serving_commands.doctor,
    top_command.top,
    plan_command.plan,
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
    qdrant_ca: Annotated[
        Path | None,
        typer.Option(envvar="SLMDOCK_QDRANT_CA", help="PEM file of the authority that signed the Qdrant server."),
    ] = None,
    qdrant_timeout: Annotated[
        int, typer.Option(envvar="SLMDOCK_QDRANT_TIMEOUT", help="Seconds the Qdrant server has for an answer.")
    ] = 30,
    qdrant_retries: Annotated[
        int, typer.Option(envvar="SLMDOCK_QDRANT_RETRIES", help="How often a request without answer is repeated.")
    ] = 4,
    qdrant_shards: Annotated[
        int | None, typer.Option(envvar="SLMDOCK_QDRANT_SHARDS", help="Shards of a catalogue made now.")
    ] = None,
    qdrant_replicas: Annotated[
        int | None, typer.Option(envvar="SLMDOCK_QDRANT_REPLICAS", help="Copies of each shard of it.")
    ] = None,
    qdrant_write_replicas: Annotated[
        int | None,
        typer.Option(envvar="SLMDOCK_QDRANT_WRITE_REPLICAS", help="Copies that must have a write to keep it."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="File with the API key for the gateway; default: SLMDOCK_KEY.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(envvar="SLMDOCK_ENCODER", help="Sentence encoder: packaged name, folder or hub id.")
    ] = DEFAULT_ENCODER,
) -> None:
    """Options for every command. Keys come from the environment, where no other user can read them:

    SLMDOCK_KEY for the gateway, SLMDOCK_QDRANT_API_KEY for a Qdrant server, or a file with its key:
    SLMDOCK_QDRANT_API_KEY_FILE.
    """
    server = partial(
        ServerAddress, timeout_seconds=qdrant_timeout, retries=qdrant_retries, ca_certificate=qdrant_ca,
        sharding=Sharding(qdrant_shards, qdrant_replicas, qdrant_write_replicas),
    )  # fmt: skip
    address = server(qdrant, key_in(os.environ)) if qdrant else None
    config = DockConfig((dock or default_folder()).absolute(), encoder, address)
    context.obj = Context(config, url, key_file, server)


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
