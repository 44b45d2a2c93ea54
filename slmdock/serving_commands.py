"""Commands that run something: serve, demo, doctor."""

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from slmdock import output
from slmdock.context import Context
from slmdock.dock import Dock, cache_folder

Port = Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")]


def serve(
    context: typer.Context,
    base: Annotated[str | None, typer.Option(help="Base model to serve; default: the only one known.")] = None,
    engine: Annotated[str, typer.Option(help="'vllm', or 'transformers' (slow, needs no vLLM).")] = "vllm",
    engine_url: Annotated[
        str | None, typer.Option(help="A vLLM started elsewhere, for instance http://gpu:8000.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; there are no keys yet: keep it local.")
    ] = "127.0.0.1",
    port: Port = 8000,
    max_loras: Annotated[int, typer.Option(min=1, help="Adapters that may share one batch.")] = 8,
    kv_cache_gib: Annotated[int, typer.Option(min=1, help="GiB for vLLM's KV cache; on a CPU only.")] = 4,
) -> None:
    """Start vLLM and the OpenAI-compatible gateway, and leave them running."""
    from slmdock.stack import StackConfig, run_stack
    from specification.errors import InvalidInput

    dock: Context = context.obj
    if engine not in ("vllm", "transformers"):
        raise InvalidInput(f"--engine {engine!r}: choose 'vllm' or 'transformers'")
    config = StackConfig(
        base=base, engine="vllm" if engine == "vllm" else "transformers", engine_url=engine_url,
        max_loras=max_loras, kv_cache_gib=kv_cache_gib, host=host, port=port,
    )  # fmt: skip
    asyncio.run(run_stack(Dock(dock.config), config, _say, lambda url: print(f"serving at {url}", flush=True)))


def demo(
    scale: Annotated[str, typer.Option(help="'full', or 'tiny' (a minute, models that know nothing).")] = "full",
    folder: Annotated[
        Path | None, typer.Option(help="Where models and dock are kept; default: the cache.")
    ] = None,
    keep_serving: Annotated[
        bool, typer.Option("--serve", help="Leave the stack running instead of testing it.")
    ] = False,
    port: Port = 8000,
) -> None:
    """Train the demo's models, fill a dock with them, and let users' tasks find and use them."""
    from slmdock.demo.models import SCALES
    from slmdock.demo.run import prepare, run, serve_demo
    from specification.errors import InvalidInput

    if scale not in SCALES:
        raise InvalidInput(f"--scale {scale!r}: choose one of {', '.join(SCALES)}")
    home = (folder or cache_folder() / "demo" / scale).resolve()
    demo_dock = prepare(home, SCALES[scale], _say)
    if keep_serving:
        asyncio.run(serve_demo(demo_dock, port, _say))
    else:
        asyncio.run(run(demo_dock, _say))


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Tell what is installed, what is reachable, what is missing, and the cure."""
    from slmdock.doctor import examine

    findings = examine(context.obj)
    if as_json:
        output.print_json([asdict(finding) for finding in findings])
    else:
        table = Table("", "what", "found", "cure", box=None)
        for item in findings:
            mark = "ok" if item.ok else "MISSING" if item.needed else "-"
            table.add_row(mark, item.name, Text(item.detail), Text("" if item.ok else item.cure))
        output.console().print(table)
    if any(item.needed and not item.ok for item in findings):
        raise typer.Exit(1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
