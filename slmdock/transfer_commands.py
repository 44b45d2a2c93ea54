"""Commands on the catalogue as a whole: snapshot, restore, move, rebuild, status."""

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from catalogue import Catalogue, CatalogueSettings, IndexPlan, ServerAddress, open_catalogue, transfer
from catalogue.address import KEY_VARIABLE
from catalogue.learnware import describe
from catalogue.plan import Dial
from slmdock import output
from slmdock.context import Context
from slmdock.dock import Dock
from specification import FeatureMap
from specification.errors import InvalidInput, NotFound

TARGET_KEY_VARIABLE = "SLMDOCK_TARGET_QDRANT_API_KEY"
FAILED = 2
GIB = 2**30

catalogue_app = typer.Typer(
    no_args_is_help=True,
    help="The catalogue as a whole: copies of it, where it is kept, its index.",
    rich_markup_mode=None,
)


@catalogue_app.command()
def snapshot(
    context: typer.Context, file: Annotated[Path, typer.Argument(help="File to write; it must not be there yet.")]
) -> None:
    """Write the catalogue into one file.

    Adapters and models are not in it: copy the dock's folder 'store' too.
    """
    with closing(_dock(context.obj)) as dock, output.progress_bar("writing", "learnwares") as progress:
        count = transfer.snapshot(dock.catalogue, file, progress)
    print(f"{count} learnwares are in {file} ({file.stat().st_size / GIB:.3f} GiB)")


@catalogue_app.command()
def restore(
    context: typer.Context, file: Annotated[Path, typer.Argument(help="File that 'snapshot' wrote.")]
) -> None:
    """Load a snapshot into this dock's catalogue.

    That must be empty or new. Run it again to go on after an interruption.
    """
    place = _dock(context.obj).place
    settings = transfer.snapshot_settings(file)
    with closing(_opened(place, settings)) as target, output.progress_bar("restoring", "learnwares") as progress:
        report = transfer.restore(file, target, progress)
    for reason in report.reasons:
        print(output.safe(f"refused: {reason}"))
    if report.refused > len(report.reasons):
        print(f"and {report.refused - len(report.reasons)} more")
    print(f"{report.loaded} restored, {report.refused} refused")
    if report.refused:
        raise typer.Exit(FAILED)


@catalogue_app.command()
def move(
    context: typer.Context,
    to_qdrant: Annotated[
        str | None,
        typer.Option(
            help=f"Qdrant server to move to; its key is in {TARGET_KEY_VARIABLE}. The general options "
            "--qdrant-ca, -timeout, -retries, -shards, -replicas apply to it."
        ),
    ] = None,
    to_folder: Annotated[
        Path | None, typer.Option(help="Dock's folder to move to, where the catalogue is then embedded.")
    ] = None,
) -> None:
    """Copy the catalogue to a server or folder.

    Counts and a sample of answers are compared then. The catalogue that was moved from stays as it is, and so
    do adapters and models, in the dock's folder 'store'.
    """
    given: Context = context.obj
    with closing(_dock(given)) as dock:
        place = _target(given, dock, to_qdrant, to_folder)
        source = dock.catalogue
        with (
            closing(_opened(place, source.settings)) as target,
            output.progress_bar("moving", "learnwares") as progress,
        ):
            report = transfer.move(source, target, progress)
    shown = f"{report.target} of {report.source} learnwares; {report.asked} sample searches"
    if not report.same:
        print(f"the two differ: {shown}, {len(report.differing)} of them answered differently")
        print(output.safe("".join(f"differs: {name}\n" for name in report.differing)), end="")
        print("keep the old catalogue; see that nobody writes to it, empty the new one, and move again")
        raise typer.Exit(FAILED)
    options = f"--dock {to_folder}" if to_folder else f"--qdrant {to_qdrant}, its key in {KEY_VARIABLE}"
    print(f"moved: {shown}, all answered alike")
    print(f"use it with {options}; the old catalogue is still there, remove it when you want")
    if to_folder and to_folder.absolute() != dock.config.folder:
        print(f"adapters are not moved: copy store, tasks and bases.json from {dock.config.folder} too")


@catalogue_app.command()
def rebuild(
    context: typer.Context,
    dial: Annotated[
        Dial | None,
        typer.Option(help="'recall' finds nearly all that is near, 'speed' answers sooner; default: as it is."),
    ] = None,
    dimension: Annotated[
        int | None, typer.Option(help="Dimension of the feature map: more is nearer to the MMD, and larger.")
    ] = None,
) -> None:
    """Make the index anew, then switch to it.

    On a server, searches go on meanwhile.

    Let nobody else write to a server's catalogue meanwhile: such writes may be lost.
    """
    with closing(_dock(context.obj)) as dock:
        catalogue = dock.catalogue
        plan = _plan(catalogue.settings.plan, dial, dimension)
        with output.progress_bar("indexing", "learnwares") as progress:
            catalogue.rebuild(plan, progress)
        print(f"in use: dial {plan.dial}, {plan.feature_map.dimension} dimensions, {catalogue.count()} learnwares")


@catalogue_app.command()
def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Tell how the catalogue is kept and searched."""
    with closing(_dock(context.obj)) as dock:
        document = _status(dock.catalogue)
    if as_json:
        output.print_json(document)
        return
    for line in _status_lines(document):
        print(output.safe(line))


def _dock(given: Context) -> Dock:
    if given.url:
        raise InvalidInput(
            "the whole catalogue is not sent through a gateway: run this on the dock's own machine with --dock "
            "(and --qdrant where it uses a server), not --url"
        )
    return Dock(given.config)


def _target(given: Context, dock: Dock, to_qdrant: str | None, to_folder: Path | None) -> Path | ServerAddress:
    if (to_qdrant is None) == (to_folder is None):
        raise InvalidInput("give either --to-qdrant URL or --to-folder DOCK")
    place: Path | ServerAddress
    if to_folder is not None:
        place = to_folder.absolute() / "catalogue"
        same = place == dock.place
    else:
        key = os.environ.get(TARGET_KEY_VARIABLE) or None
        place = given.server(to_qdrant or "", key, key_variable=TARGET_KEY_VARIABLE)
        same = isinstance(dock.place, ServerAddress) and dock.place.url.rstrip("/") == place.url.rstrip("/")
    if same:
        raise InvalidInput("the catalogue is there already; name another place to move it to")
    return place


def _opened(place: Path | ServerAddress, settings: CatalogueSettings) -> Catalogue:
    """The catalogue there, made with ``settings`` if there is none."""
    try:
        return open_catalogue(place)
    except NotFound:
        return open_catalogue(place, settings)


def _plan(current: IndexPlan, dial: Dial | None, dimension: int | None) -> IndexPlan:
    fields = current.feature_map.model_dump()
    try:
        wanted = FeatureMap.model_validate(fields | ({} if dimension is None else {"dimension": dimension}))
    except ValidationError as error:
        raise InvalidInput(f"--dimension {dimension}: {describe(error)}") from None
    return IndexPlan.of(dial or current.dial, wanted)


def _status(catalogue: Catalogue) -> dict[str, object]:
    kept, settings = catalogue.status(), catalogue.settings
    return {
        "engine": kept.engine,
        "place": kept.place,
        "learnwares": catalogue.count(),
        "fresh": kept.fresh,
        "bytes": kept.bytes,
        "format_version": settings.schema_version,
        "encoder": settings.encoder.model_dump(mode="json"),
        "index": settings.plan.model_dump(mode="json"),
    }


def _status_lines(document: dict[str, object]) -> list[str]:
    plan = IndexPlan.model_validate(document["index"])
    fresh, size = document["fresh"], document["bytes"]
    feature_map = plan.feature_map
    return [
        f"{document['learnwares']} learnwares in {document['engine']}, {document['place']}",
        f"index: dial {plan.dial}; HNSW keeps {plan.ef} in view, {plan.candidates} are compared exactly",
        f"feature map: {feature_map.kind} {feature_map.version}, {feature_map.dimension} dimensions, "
        f"gamma {feature_map.gamma:g}, seed {feature_map.seed}",
        *([f"{fresh} writes since the index was made; they are searched one by one"] if fresh is not None else []),
        *([f"{size / GIB:.3f} GiB on disk"] if isinstance(size, int) else ["size: ask the server"]),
    ]
