"""``slmdock top``: a gateway's last minute, drawn anew every second."""

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from slmdock import top_view
from slmdock.context import Context
from specification.errors import DockError

if TYPE_CHECKING:
    from serving import DockClient

PIPE_WIDTH = 100


def top(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end.")] = False,
    seconds: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two frames.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one frame as JSON for programs.")] = False,
) -> None:
    """Watch a running gateway: requests, tokens, times, decisions, learnwares, engines. Ctrl-C ends it."""
    dock: Context = context.obj
    with dock.gateway() as gateway:
        if as_json:
            print(gateway.live().model_dump_json())
        elif once or not sys.stdout.isatty():
            console().print(top_view.frame(gateway.live(), gateway.url))
        else:
            _watch(gateway, seconds)


def console() -> Console:
    """A console as wide as the terminal, or as COLUMNS says where there is none."""
    found = Console(highlight=False)
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=PIPE_WIDTH)


def _watch(gateway: "DockClient", seconds: float) -> None:
    # The first frame before the screen is taken, so that a missing gateway is an error in one line.
    view = top_view.frame(gateway.live(), gateway.url)
    with Live(view, console=console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(view, refresh=True)
            try:
                time.sleep(seconds)
                view = top_view.frame(gateway.live(), gateway.url)
            except KeyboardInterrupt:
                return
            except DockError as error:
                view = Text(f"{error}\n\ntrying again; Ctrl-C ends", style="red")
