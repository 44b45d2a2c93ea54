"""The commands ``key create``, ``key list`` and ``key revoke``: on the dock's folder, or through ``--url``."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Protocol

import typer
from rich.table import Table
from rich.text import Text

from serving.keys import KEYS_FILE, ROLES, Key, KeyRequest, KeyStore, NewKey, key_request
from slmdock import output
from slmdock.context import Context
from specification.errors import InvalidInput

SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

key_app = typer.Typer(no_args_is_help=True, help="API keys: who may use the gateway, and for what.")


class KeyAccess(Protocol):
    """What the commands ask of keys: the same of a file and of a gateway."""

    def create_key(self, wanted: KeyRequest) -> NewKey: ...

    def list_keys(self) -> list[Key]: ...

    def revoke_key(self, id: str) -> Key: ...


@key_app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    role: Annotated[list[str], typer.Option(help=f"What it may do, repeatable: {', '.join(ROLES)}.")],
    expires: Annotated[str, typer.Option(help="When it ends, for instance 12h, 90d, 8w; default: never.")] = "",
    as_json: Json = False,
) -> None:
    """Make a key and print it, this one time. From the first key on, every request needs one."""
    seconds = _seconds(expires) if expires else None
    wanted = key_request({"name": name, "roles": role, "expires_in": seconds})
    with _keys(context.obj) as keys:
        made = keys.create_key(wanted)
    if as_json:
        output.print_json(made.model_dump(mode="json"))
    else:
        typer.echo(f"key {made.id} for {', '.join(made.roles)}; it is not shown again:", err=True)
        print(made.secret)


@key_app.command("list")
def list_keys(context: typer.Context, as_json: Json = False) -> None:
    """List the keys, without their secrets."""
    with _keys(context.obj) as keys:
        found = keys.list_keys()
    if as_json:
        output.print_json([key.model_dump(mode="json") for key in found])
    else:
        output.console().print(_table(found))


@key_app.command()
def revoke(
    context: typer.Context, id: Annotated[str, typer.Argument(help="The key's id, as 'key list' shows it.")]
) -> None:
    """Revoke a key. A running gateway refuses it from the next request on."""
    with _keys(context.obj) as keys:
        gone = keys.revoke_key(id)
        left = len(keys.list_keys()) if isinstance(keys, KeyStore) else None
    print(f"revoked {gone.id} ({gone.name})")
    if left == 0:
        typer.echo(f"nobody is let in now; remove {KEYS_FILE} to open the dock to this machine again", err=True)


@contextmanager
def _keys(context: Context) -> Iterator[KeyAccess]:
    if context.url is None:
        yield KeyStore(context.config.folder / KEYS_FILE)
    else:
        with context.gateway() as client:
            yield client


def _seconds(duration: str) -> int:
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", duration)
    if match is None:
        raise InvalidInput(f"--expires {duration!r}: give a number and one of {', '.join(SECONDS)}, such as 90d")
    return int(match.group(1)) * SECONDS[match.group(2)]


def _table(keys: list[Key]) -> Table:
    table = Table("id", "name", "roles", "key", "created", "expires", box=None)
    for key in keys:
        end = "never" if key.expires is None else _minute(key.expires) + (" (over)" if key.expired else "")
        roles, shown = ", ".join(key.roles), f"sk-dock-…{key.last}"
        table.add_row(key.id, Text(key.name), roles, shown, _minute(key.created), end)
    return table


def _minute(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
