"""The command ``submit``: one learnware goes in, and what became of it is told."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from catalogue import parse_card
from indexer import Change
from indexer.folders import list_folder
from indexer.indexer import TakenAs
from indexer.model_card import completed
from slmdock import output
from slmdock.catalogue_commands import Json, specified
from slmdock.context import Context, DockAccess
from specification import Specification
from specification.errors import DockError, InvalidInput
from specification.files import read_file

MAX_CARD_BYTES = 2**20
FEW_TEXTS = 20
MAX_CHANGES = 8
"""Looked at of one submission, which makes three at most."""


def submit(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(help="Folder of an adapter (PEFT) or a whole model (transformers, safetensors).")
    ],
    examples: Annotated[
        Path | None, typer.Option(help="What it is good at: 'text' (or 'prompt') per line (JSON Lines).")
    ] = None,
    specification: Annotated[Path | None, typer.Option(help="A ready specification instead of examples.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name; default: the folder's.")] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="The base model it stands on, as 'slmdock base list' names it; default: as its files say."
        ),
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="JSON file with name, description, domain, task_type, licence, tags …")
    ] = None,
    state: Annotated[
        TakenAs, typer.Option("--as", help="'checked' holds it back until 'slmdock publish'.")
    ] = "published",
    rename: Annotated[
        bool, typer.Option("--rename", help="Where it is in under another name: let it have this one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take one learnware in: check it, store it, make it findable."""
    dock: Context = context.obj
    if (examples is None) == (specification is None):
        raise InvalidInput("give either --examples or --specification")
    fields = _read_card(card) if card else {}
    fields = {"name": folder.resolve().name, **fields, **({"name": name} if name else {})}
    list_folder(folder)
    parsed = parse_card(completed(fields, folder))
    if examples is None:
        assert specification is not None
        made = Specification.load(specification)
    else:
        made = specified(dock, examples, calibrated=True)
    _warn_of_few(made)
    with closing(dock.access()) as access:
        last = _changes(access, "", 1)
        learnware = access.submit(folder, made, parsed, state, base=base or dock.base_of(folder), rename=rename)
        changes = _changes(access, learnware.id, MAX_CHANGES)
    before = last[0].number if last else 0
    since = None if last is None or changes is None else [one for one in changes if one.number > before][::-1]
    if as_json:
        output.print_json(learnware.model_dump(mode="json"))
        return
    print(output.submitted_line(learnware, since))
    if learnware.warning:
        print(f"{learnware.reference} is {learnware.warning}")
    if not learnware.description:
        print('no description; --card card.json adds one: {"description": "…", "domain": "…"}')


def _changes(access: DockAccess, reference: str, limit: int) -> list[Change] | None:
    """The last changes, newest first, None where they cannot be read: what went in is in all the same."""
    try:
        return access.history(reference, limit)
    except DockError:
        return None


def _warn_of_few(made: Specification) -> None:
    if made.sample_size < FEW_TEXTS:
        print(
            f"warning: {made.sample_size} texts say little of what it is good at; give {FEW_TEXTS} or more",
            file=sys.stderr,
        )


def _read_card(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(read_file(file, MAX_CARD_BYTES))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"card {file}: not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise InvalidInput(f"card {file}: a JSON {type(fields).__name__}, expected an object")
    return fields
