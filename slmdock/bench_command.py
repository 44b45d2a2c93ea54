"""The commands ``slmdock bench``: benchmarks that show what the dock as a whole is worth."""

import importlib.util
import json
from pathlib import Path
from typing import Annotated

import typer

from slmdock.dock import cache_folder
from specification.errors import InvalidInput
from specification.files import write_atomically

bench_app = typer.Typer(no_args_is_help=True)


@bench_app.callback()
def bench() -> None:
    """Measure what the dock as a whole is worth."""


@bench_app.command()
def zoo(
    data: Annotated[
        Path, typer.Option(help="Folder with <domain>/train and <domain>/user for finance, medical and math.")
    ],
    scale: Annotated[
        str,
        typer.Option(
            help="tiny: six sets, ten minutes; small: a hundred models, hours on two cores; paper: a plan only."
        ),
    ] = "tiny",
    folder: Annotated[
        Path | None, typer.Option(help="Where everything is made and kept.", show_default="the cache folder")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Training processes of one thread.", show_default="one a core")
    ] = None,
) -> None:
    """Train a zoo of small models, let a dock choose among them, and compare it with bases and a generalist.

    Interrupted at any point, the same command goes on. Tables, pictures and results.json are left in the folder.
    """
    from benchmarks.report import finish
    from benchmarks.zoo.figures import draw
    from benchmarks.zoo.paper import plan
    from benchmarks.zoo.run import Zoo
    from benchmarks.zoo.scale import SCALES
    from benchmarks.zoo.tables import tables

    if scale == "paper":
        print(plan(data))
        return
    if scale not in SCALES:
        raise InvalidInput(f"--scale {scale!r}: choose one of {', '.join(SCALES)}, paper")
    for library in ("matplotlib", "vllm"):
        if importlib.util.find_spec(library) is None:
            raise InvalidInput(f"the zoo needs {library}; run 'make setup', or pip install it")
    place = folder or cache_folder() / "zoo" / scale
    results = Zoo(place, data, SCALES[scale], processes).run()
    summary, text = results.summary(), tables(results)
    write_atomically(place / "results.json", json.dumps(summary, indent=1).encode())
    write_atomically(place / "tables.md", text.encode())
    draw(results, place)
    print(text)
    finish("zoo", {"folder": str(place), **{key: summary[key] for key in ("scale", "seed", "commit", "averages")}})
