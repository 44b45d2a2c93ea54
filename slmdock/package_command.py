"""The command that takes in packages of the PyPI package learnware."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from indexer import read_package
from slmdock.catalogue_commands import Json
from slmdock.ingest_command import take_in
from specification.errors import InvalidInput


def ingest_package(
    context: typer.Context,
    packages: Annotated[
        list[Path], typer.Argument(metavar="PACKAGE...", help="Folders or .zip files with a learnware.yaml.")
    ],
    examples: Annotated[
        Path | None,
        typer.Option(help="Of one package, where it has no specification.safetensors (JSON Lines)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take in packages of the PyPI package learnware (Beimingwu) that hold an adapter or a model as safetensors.

    The card is made of their semantic specification. Their statistics, such as RKMETextSpecification, stand on
    another encoder and kernel and cannot be compared, so that specification.safetensors in the package or
    --examples are needed. Code and pickles in a package are neither run nor unpacked.
    """
    if examples is not None and len(packages) != 1:
        raise InvalidInput("--examples is for one package; give each its own in a command of its own")
    with TemporaryDirectory(prefix="slmdock-") as place:
        take_in(
            context.obj,
            [(str(each), partial(read_package, each, Path(place), examples)) for each in dict.fromkeys(packages)],
            as_json,
            Path(place),
        )
