"""Writes the pages of the reference that come from the program itself: the command line's and HTTP's.

python -m slmdock.reference docs/reference
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import typer

from serving import GatewayParts, create_app
from serving.limits import Limits
from serving.telemetry import Telemetry
from slmdock.cli import app

WIDTH = 100
NOTE = "<!-- Written by 'python -m slmdock.reference docs/reference'; a test compares it with the program. -->"


def cli_page() -> str:
    """Returns the help of every command."""
    helps = [f"\n## {path}\n\n```text\n{text}\n```\n" for path, text in _helps(typer.main.get_command(app))]
    return f"# Command line\n\n{NOTE}\n\nEach command's own `--help`.\n{''.join(helps)}"


def http_page() -> str:
    """Returns the gateway's routes with what they take and answer, from its OpenAPI document."""
    parts = SimpleNamespace(limits=Limits(), keys=None, telemetry=Telemetry())
    document = create_app(cast(GatewayParts, parts)).openapi()
    lines = [
        "# HTTP API\n\n",
        NOTE,
        "\n\nFrom the gateway's OpenAPI document, which it serves at `/openapi.json` with every schema.\n",
        'Errors of all routes have OpenAI\'s shape, `{"error": {"message": …, "code": …}}`.\n',
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += _operation(f"{method.upper()} {path}", operation)
    return "".join(lines)


def _helps(command: Any, parent: click.Context | None = None, name: str = "slmdock") -> Iterator[tuple[str, str]]:
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield context.command_path, context.get_help()
    for child, under in getattr(command, "commands", {}).items():
        yield from _helps(under, context, child)


def _operation(title: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n## `{title}`\n\n{operation.get('description', operation['summary'])}\n"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "\n| parameter | in | type | default |\n|--|--|--|--|\n"
    for one in parameters:
        schema = one["schema"]
        default = "required" if one.get("required") else f"`{schema.get('default')!r}`"
        yield f"| `{one['name']}` | {one['in']} | {_type(schema)} | {default} |\n"
    body = operation.get("requestBody", {})
    for media, content in body.get("content", {}).items():
        yield f"\nBody, `{media}`: {_type(content['schema'])}. {body.get('description', '')}".rstrip() + "\n"
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            kinds = [
                f"`{media}`: {_type(content['schema'])}" for media, content in answer.get("content", {}).items()
            ]
            yield f"\nAnswers {status}" + (f" with {'; '.join(kinds)}" if kinds else "") + ".\n"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "properties" in schema:
        return "object with " + ", ".join(f"`{name}`" for name in schema["properties"])
    if kinds := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(map(_type, kinds)))
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    return "file" if schema.get("format") == "binary" else kind


PAGES = {"cli.md": cli_page, "http.md": http_page}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file, page in PAGES.items():
        (folder / file).write_text(page(), encoding="utf-8")
