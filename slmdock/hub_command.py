"""The command that takes adapters in from the Hugging Face hub."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from indexer import Hub
from slmdock.catalogue_commands import Json
from slmdock.dock import cache_folder
from slmdock.ingest_command import take_in
from specification.errors import InvalidInput

DEFAULT_LIMIT = 20


def ingest_hub(
    context: typer.Context,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Models: OWNER/NAME or OWNER/NAME@REVISION.", show_default=False),
    ] = None,
    base: Annotated[str | None, typer.Option(help="Search for adapters on this base model.")] = None,
    tag: Annotated[str | None, typer.Option(help="Search for adapters with this tag.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=1000, help=f"How many a search takes. Default: {DEFAULT_LIMIT}.")
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(help="Of one id, where it has no specification.safetensors (JSON Lines)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take adapters in from the Hugging Face hub; run it again to go on after an interruption.

    HF_ENDPOINT names another hub, HF_TOKEN is for private and gated models. Each is taken at one commit, which its
    first tag names. Only its safetensors, configuration and model card are downloaded, and its
    specification.safetensors, which is needed unless --examples are given.
    """
    searching = base is not None or tag is not None
    if bool(ids) == searching:
        raise InvalidInput("give either ids or a search: --base, --tag or both")
    if limit is not None and not searching:
        raise InvalidInput("--limit is for a search; leave it out")
    if examples is not None and len(ids or ()) != 1:
        raise InvalidInput("--examples is for one id; give each model's own in a command of its own")
    hub = Hub(cache_folder() / "hub")
    models = ids or hub.search(base, tag, limit or DEFAULT_LIMIT)
    if not models:
        raise InvalidInput("the hub has no such adapter; ask for less with --base and --tag")
    pending = [(model, partial(hub.fetch, model, examples)) for model in dict.fromkeys(models)]
    take_in(context.obj, pending, as_json)
