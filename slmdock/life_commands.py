"""Commands on the life of learnwares: status, publish, retire, quarantine, delete, history, diff."""

from contextlib import closing
from typing import Annotated

import typer

from catalogue import Filter, Learnware, Match, State, is_id
from catalogue.contract import MAX_LIMIT
from indexer import Change
from slmdock import life_view, output
from slmdock.catalogue_commands import Json, Limit
from slmdock.context import Context, DockAccess
from specification import Specification

Name = Annotated[str, typer.Argument(help="NAME (the newest published version, else the newest), NAME@2, or id.")]
Why = Annotated[str, typer.Option(help="The reason, for the history.")]


def status(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show in which state a learnware is, of a bare NAME all versions, and who brought it there."""
    dock: Context = context.obj
    with closing(dock.access()) as access:
        found = _versions(access, name)
        changes = access.history(name if "@" in name or is_id(name) else found[0].name, MAX_LIMIT)
    rows = [(one, _arrival(one, changes)) for one in found]
    if as_json:
        output.print_json([life_view.standing_json(one, change) for one, change in rows])
    else:
        output.console().print(life_view.standing_table(rows))


def publish(context: typer.Context, name: Name, why: Why = "", as_json: Json = False) -> None:
    """Let a learnware be found and answer: one that was held back, retired or quarantined."""
    _move(context.obj, name, "published", why, as_json)


def retire(context: typer.Context, name: Name, why: Why = "", as_json: Json = False) -> None:
    """Take a learnware out of search and service; it stays in the catalogue, and can be published again."""
    _move(context.obj, name, "retired", why, as_json)


def quarantine(
    context: typer.Context,
    name: Name,
    why: Annotated[str, typer.Option(help="What is wrong with it, for the history.")],
    as_json: Json = False,
) -> None:
    """Take a learnware out of search and service since it is not trusted; only an admin brings it back."""
    _move(context.obj, name, "quarantined", why, as_json)


def delete(
    context: typer.Context,
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Also if registered tasks are answered by it; then the base model is.")
    ] = False,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Remove a learnware for good: from the catalogue, the store and the engines' memory."""
    dock: Context = context.obj
    with closing(dock.access()) as access:
        gone = access.delete(name, force, why)
    if as_json:
        output.print_json(gone.model_dump(mode="json"))
    else:
        print(f"{gone.reference} is deleted ({gone.id})")


def history(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="NAME, NAME@2 or id; default: everything.")] = "",
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Show what happened to learnwares, who did it, when and why; the last comes last."""
    dock: Context = context.obj
    with closing(dock.access()) as access:
        found = access.history(name, limit)[::-1]
    if as_json:
        output.print_json([change.model_dump(mode="json") for change in found])
    elif found:
        output.console().print(life_view.history_table(found))
    else:
        print(f"nothing is recorded of {output.safe(name) or 'any learnware'}")


def diff(
    context: typer.Context,
    left: Annotated[str, typer.Argument(help="A learnware, such as NAME@1.")],
    right: Annotated[str, typer.Argument(help="Another, such as NAME@2.")],
    as_json: Json = False,
) -> None:
    """Show in what two learnwares differ: fields, sizes, quality signals, and how far apart they are good."""
    dock: Context = context.obj
    with closing(dock.access()) as access:
        records = access.learnware(left), access.learnware(right)
        files = [access.specification_file(one.id) for one in records]
    first, second = (Specification.from_bytes(file) for file in files)
    difference = life_view.Difference.of(records, (first, second))
    if as_json:
        output.print_json(difference.model_dump(mode="json"))
    else:
        output.console().print(life_view.difference_table(difference))


def _move(dock: Context, name: str, state: State, why: str, as_json: bool) -> None:
    with closing(dock.access()) as access:
        before = access.learnware(name)
        moved = access.move(before.id, state, why)
    if as_json:
        output.print_json(moved.model_dump(mode="json"))
    else:
        print(f"{moved.reference}: {before.status}, now {moved.status}")


def _versions(access: DockAccess, name: str) -> list[Learnware]:
    """Returns the learnware of an id or NAME@VERSION, or all of a name, newest first."""
    one = access.learnware(name)
    if name != one.name:
        return [one]
    page = access.learnwares(Filter(conditions=(Match(field="name", values=(name,)),)), MAX_LIMIT)
    return sorted(page.learnwares, key=lambda each: -each.version)


def _arrival(learnware: Learnware, changes: list[Change]) -> Change | None:
    """Returns the last change that brought a learnware into the state it is in; older docks have none."""
    return next((one for one in changes if one.learnware == learnware.id and one.state == learnware.status), None)
