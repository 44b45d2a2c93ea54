"""Commands that run something: serve, demo, doctor."""

import shlex
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.table import Table
from rich.text import Text

from serving.limits import Limits
from slmdock import output
from slmdock.context import Context
from slmdock.dock import Dock, cache_folder, default_folder

DEFAULTS = Limits()

Port = Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")]


def serve(
    context: typer.Context,
    base: Annotated[
        list[str] | None,
        typer.Option(help="Base model to serve, repeatable, the first is the default; else the only one known."),
    ] = None,
    engine: Annotated[str, typer.Option(help="'vllm', or 'transformers' (slow, needs no vLLM).")] = "vllm",
    engine_url: Annotated[
        list[str] | None,
        typer.Option(help="A vLLM started elsewhere, [BASE=]URL, for instance http://gpu:8000; repeatable."),
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, max=64, help="Engines to start for each base model.")] = 1,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback needs 'slmdock key create' first.")
    ] = "127.0.0.1",
    port: Port = 8000,
    max_loras: Annotated[
        int | None, typer.Option(min=1, help="Adapters that may share one batch; planned if not given.")
    ] = None,
    max_lora_rank: Annotated[
        int | None, typer.Option(min=1, help="Largest rank of an adapter; the catalogue's largest if not given.")
    ] = None,
    adapter_gib: Annotated[
        float, typer.Option(min=0.01, help="GiB for adapters in an engine's slots, and as much for those kept.")
    ] = 2.0,
    kv_cache_gib: Annotated[int, typer.Option(min=1, help="GiB for vLLM's KV cache; on a CPU only.")] = 4,
    model_gib: Annotated[
        float, typer.Option(min=0, help="GiB for learnwares that are whole models, run on demand; 0 serves none.")
    ] = 0.0,
    model_idle: Annotated[
        float, typer.Option(min=1, help="Seconds without a request after which a whole model is stopped.")
    ] = 600.0,
    max_model_len: Annotated[
        int | None, typer.Option(min=1, help="Tokens of prompt and answer together; default: the model's.")
    ] = None,
    vllm_arg: Annotated[
        list[str] | None,
        typer.Option(
            help="Passed to the vLLM started here, for instance --vllm-arg=--tool-call-parser=hermes; repeatable."
        ),
    ] = None,
    pin: Annotated[
        list[str] | None, typer.Option(help="Learnware (id or name) that stays in memory; repeatable.")
    ] = None,
    verify_per_hour: Annotated[
        int,
        typer.Option(min=0, help="Learnwares of 'slmdock verify' that are run in an hour; 0 runs none."),
    ] = 0,
    verify_with_network: Annotated[
        bool, typer.Option("--verify-with-network", help="Where no process may give up its network.")
    ] = False,
    parallel: Annotated[int, typer.Option(min=1, help="Requests answered at once.")] = DEFAULTS.parallel,
    parallel_per_key: Annotated[
        int, typer.Option(min=1, help="Requests of one key answered at once.")
    ] = DEFAULTS.parallel_per_key,
    waiting: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; a quarter of them of one key. Others get 429.")
    ] = DEFAULTS.waiting,
    wait_seconds: Annotated[
        float, typer.Option(min=0.001, help="How long a request may wait before it gets 429.")
    ] = DEFAULTS.wait_seconds,
    deadline: Annotated[
        float, typer.Option(min=0.001, help="Seconds a request may take; x-slmdock-deadline asks for less.")
    ] = DEFAULTS.deadline_seconds,
    log_format: Annotated[str, typer.Option(help="'text', or 'json' for programs; a line a request.")] = "text",
    log_file: Annotated[Path | None, typer.Option(help="Write the log here; default: standard error.")] = None,
    trace: Annotated[
        bool, typer.Option(help="Send traces to OTEL_EXPORTER_OTLP_ENDPOINT; on by itself where that is set.")
    ] = False,
    fast_encoder: Annotated[
        bool,
        typer.Option(
            "--fast-encoder/--exact-encoder", help="Route prompts by the encoder compiled for this processor."
        ),
    ] = True,
    decision_seconds: Annotated[
        float, typer.Option(min=0.01, max=600, help="Seconds for choosing; then the base model answers.")
    ] = 3.0,
) -> None:
    """Start vLLM and the OpenAI-compatible gateway, and leave them running."""
    from serving import tracing
    from serving.logs import LOG_FORMATS, logging_to
    from slmdock.stack import StackConfig, run_stack
    from specification.errors import InvalidInput

    dock: Context = context.obj
    if engine not in ("vllm", "transformers"):
        raise InvalidInput(f"--engine {engine!r}: choose 'vllm' or 'transformers'")
    form = next((each for each in LOG_FORMATS if each == log_format), None)
    if form is None:
        raise InvalidInput(f"--log-format {log_format!r}: choose one of {', '.join(LOG_FORMATS)}")
    config = StackConfig(
        max_model_len=max_model_len,
        limits=Limits(parallel, parallel_per_key, waiting, wait_seconds, deadline),
        trace=trace or tracing.wished(),
        vllm_args=tuple(vllm_arg or ()), pins=tuple(pin or ()),
        fast_encoder=fast_encoder, decision_seconds=decision_seconds,
        bases=tuple(base or ()), engine="vllm" if engine == "vllm" else "transformers",
        engine_urls=tuple(engine_url or ()), replicas=replicas, max_loras=max_loras, max_lora_rank=max_lora_rank,
        adapter_gib=adapter_gib, kv_cache_gib=kv_cache_gib, host=host, port=port,
        model_gib=model_gib, model_idle=model_idle,
        verify_per_hour=verify_per_hour, verify_with_network=verify_with_network,
    )  # fmt: skip
    with logging_to(form, log_file):
        uvloop.run(run_stack(Dock(dock.config), config, _say, partial(_say_where, dock.config.folder)))


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
        uvloop.run(serve_demo(demo_dock, port, _say))
    else:
        uvloop.run(run(demo_dock, _say))


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


def _say_where(folder: Path, url: str) -> None:
    print(f"serving at {url}\nopen it in a browser")
    if folder != default_folder().absolute():
        print(f"to work on this dock in another terminal: export SLMDOCK_HOME={shlex.quote(str(folder))}")
    sys.stdout.flush()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
