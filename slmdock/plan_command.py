"""``slmdock plan``: what a catalogue of N learnwares takes, how many adapters fit a GPU. No machine is asked."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from catalogue.capacity import CatalogueNeeds, Wanted, plan_catalogue
from serving.gpu_plan import GpuPlan, GpuWishes, plan_gpu
from slmdock import output, plan_view
from specification import DEFAULT_SIZE, FeatureMap
from specification.errors import InvalidInput

GIB = 2**30
MAX_GIB = 2**30
# Of the default encoder; the plan loads none.
ENCODER_DIMENSION = 384
DIMENSION = FeatureMap(input_dimension=ENCODER_DIMENSION).dimension


def plan(
    learnwares: Annotated[
        int | None, typer.Option(help="Plan a catalogue of so many learnwares, for instance 10000000.")
    ] = None,
    qps: Annotated[float, typer.Option(help="Queries a second that it answers.")] = 1.0,
    replicas: Annotated[int, typer.Option(help="Copies of the catalogue, for lost nodes; more for --qps.")] = 1,
    shards: Annotated[int | None, typer.Option(help="Shards of a copy; default: the fewest that fit.")] = None,
    points: Annotated[int, typer.Option(help="Points of a learnware's reduced set.")] = DEFAULT_SIZE,
    dimension: Annotated[int, typer.Option(help="Dimension of the feature map.")] = DIMENSION,
    encoder_dimension: Annotated[int, typer.Option(help="Dimension of the encoder.")] = ENCODER_DIMENSION,
    prompts: Annotated[bool, typer.Option(help="Learnwares have a section for prompts.")] = True,
    parameters: Annotated[int, typer.Option(help="Numbers in a parameter vector; 0: learnwares have none.")] = 0,
    node_memory_gib: Annotated[float, typer.Option(help="Memory of a Qdrant node.")] = 64.0,
    node_disk_gib: Annotated[float, typer.Option(help="Disk of a Qdrant node.")] = 1000.0,
    node_cores: Annotated[int, typer.Option(help="Cores of a Qdrant node.")] = 16,
    base: Annotated[
        Path | None, typer.Option(help="Plan adapters beside this base model (a folder with config.json).")
    ] = None,
    rank: Annotated[int, typer.Option(help="Rank of the adapters.")] = 16,
    gpu_gib: Annotated[float | None, typer.Option(help="Memory of the GPU.")] = None,
    host_gib: Annotated[float, typer.Option(help="Memory of the host for adapters.")] = 16.0,
    gpu_utilization: Annotated[float, typer.Option(help="Share of the GPU's memory that vLLM may use.")] = 0.9,
    max_model_len: Annotated[
        int | None, typer.Option(help="Tokens of prompt and answer together at most; default: the model's.")
    ] = None,
    request_tokens: Annotated[int, typer.Option(help="Tokens of a usual request, prompt and answer.")] = 2048,
    dtype: Annotated[str, typer.Option(help="'auto', 'bfloat16', 'float16' or 'float32'.")] = "auto",
    modules: Annotated[
        str,
        typer.Option(help="Modules that adapters change, for instance q_proj,v_proj; default: every linear one."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Compute what a catalogue of N learnwares takes, how many adapters fit a GPU, or both at once."""
    if learnwares is None and base is None:
        raise InvalidInput("give --learnwares for a catalogue, --base and --gpu-gib for adapters on a GPU, or all")
    needs = fit = None
    if learnwares is not None:
        wanted = Wanted(
            learnwares, dimension, encoder_dimension, points, qps, replicas, shards, prompts, parameters,
            node_memory_gib, node_disk_gib, node_cores,
        )  # fmt: skip
        needs = plan_catalogue(wanted)
    if base is not None:
        if gpu_gib is None:
            raise InvalidInput("--base without --gpu-gib; give the GPU's memory")
        wishes = GpuWishes(
            rank, _bytes("gpu", gpu_gib), _bytes("host", host_gib), gpu_utilization, max_model_len, request_tokens,
            learnwares, tuple(name.strip() for name in modules.split(",") if name.strip()),
        )  # fmt: skip
        fit = _fit(base, wishes, dtype)
    if as_json:
        output.print_json(_document(needs, fit, learnwares))
        return
    if needs is not None and learnwares is not None:
        plan_view.print_catalogue(needs, learnwares, qps)
    if fit is not None:
        plan_view.print_gpu(*fit, learnwares)


def _bytes(name: str, gib: float) -> int:
    if not 0 < gib < MAX_GIB:
        raise InvalidInput(f"--{name}-gib {gib}: a positive number is needed")
    return int(gib * GIB)


def _fit(base: Path, wishes: GpuWishes, dtype: str) -> tuple[GpuPlan, bool]:
    """Returns the plan, and whether the base model's weights were there to be counted."""
    from serving.base_size import read_base_size

    size, counted = read_base_size(base, dtype)
    return plan_gpu(size, wishes), counted


def _document(
    needs: CatalogueNeeds | None, fit: tuple[GpuPlan, bool] | None, learnwares: int | None
) -> dict[str, object]:
    document: dict[str, object] = {}
    if needs is not None:
        document["catalogue"] = asdict(needs) | {"learnwares": learnwares}
    if fit is not None:
        found, counted = fit
        document["gpu"] = asdict(found) | {"weights_counted": counted}
        if learnwares is not None:
            document["adapter_store_bytes"] = learnwares * found.adapter_bytes
    return document
