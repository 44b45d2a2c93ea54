"""What ``slmdock plan`` prints for people: tables, and the assumptions behind them."""

from collections.abc import Iterable
from math import ceil

from rich.table import Table
from rich.text import Text

from catalogue.capacity import CORE_SHARE, DISK_SHARE, MEASURED, MEMORY_SHARE, CatalogueNeeds
from serving.gpu_plan import BATCHED_TOKENS, SEQUENCES, GpuPlan
from slmdock import output

GIB = 2**30


def print_catalogue(needs: CatalogueNeeds, learnwares: int, queries_a_second: float) -> None:
    """Prints what a catalogue takes."""
    table = Table("bytes of a learnware", "disk", "memory", box=None)
    for part in needs.parts:
        table.add_row(part.name, f"{part.disk:,}", f"{part.resident:,}")
    disk, resident = sum(part.disk for part in needs.parts), sum(part.resident for part in needs.parts)
    table.add_row("together", f"{disk:,}", f"{resident:,}")
    layout, cores = needs.layout, needs.query_core_seconds
    percentile = f"{needs.slowest_percentile:.2f}".rstrip("0").rstrip(".")
    rows = {
        "one copy": f"{_size(needs.disk_bytes)} of disk, {_size(needs.resident_bytes)} of memory",
        "nodes": f"{layout.nodes}, because of {needs.limit}" if needs.limit else str(layout.nodes),
        "nodes for one copy": f"{needs.nodes_by_memory} by memory, {needs.nodes_by_disk} by disk",
        "copies": f"{layout.replicas} ({needs.replicas_by_queries} for the queries)",
        "shards": f"{layout.shards} of {layout.shard_points:,} learnwares, up to {layout.held} on a node",
        "a query": f"goes to {layout.shards}, {1000 * needs.query_seconds:.1f} ms in each, "
        f"{1000 * cores:.1f} ms of cores in all; its p99 is a shard's p{percentile}",
        "queries a second": f"up to {layout.queries_a_second:,.0f}, wanted {queries_a_second:,.6g}",
        "a new version": f"{_time(needs.load_seconds)} to load, then {_time(needs.index_seconds)} to index",
        "until the switch": f"{_size(needs.reindex_disk_bytes)} of disk and "
        f"{_size(needs.reindex_resident_bytes)} of memory a copy; nodes: {needs.reindex_nodes}",
    }
    _print(f"a catalogue of {learnwares:,} learnwares", (table, _listing(rows)))
    _say(
        f"Extrapolated from {MEASURED.points:,} points of {MEASURED.dimension} dimensions "
        "(catalogue/capacity.py): a search grows with ln n, an index with n ln n, both with the dimension and in "
        "proportion to the cores.",
        f"Kept free: {1 - MEMORY_SHARE:.0%} of a node's memory, {1 - DISK_SHARE:.0%} of its disk, "
        f"{1 - CORE_SHARE:.0%} of its cores. Times are of the vector search alone, without network and rerank.",
    )


def print_gpu(plan: GpuPlan, weights_counted: bool, learnwares: int | None) -> None:
    """Prints how many adapters fit, and what to start vLLM with."""
    budget = ceil(1000 * plan.budget_bytes / GIB) / 1000
    rows = {
        "usable": f"{_size(plan.usable_bytes)} ({plan.utilization:.0%} of the GPU)",
        "weights": _size(plan.weight_bytes) + ("" if weights_counted else ", counted from config.json"),
        "forward pass, reserve": f"{_size(plan.activation_bytes)} and {_size(plan.reserve_bytes)}, estimated",
        "a slot": f"{_size(plan.slot_bytes)} for rank {plan.max_lora_rank}, whatever is in it",
        "slots": f"{plan.max_loras} take {_size(plan.slots_bytes)}; at most {plan.most_adapters} would fit",
        "KV cache": f"{_size(plan.kv_bytes)}: {plan.kv_tokens:,} tokens of {plan.kv_bytes_a_token:,} bytes "
        f"({plan.kv_tokens_without:,} without adapters)",
        "at once": f"{plan.kv_sequences} sequences of {plan.max_model_len:,} tokens, or {plan.kv_requests} of "
        f"{plan.request_tokens:,}",
        "host memory": f"{plan.max_cpu_loras} adapters of {_size(plan.adapter_bytes)} take "
        f"{_size(plan.host_bytes)}",
        "slmdock serve": f"--max-loras {plan.max_loras} --max-lora-rank {plan.max_lora_rank} "
        f"--adapter-gib {budget} --max-model-len {plan.max_model_len} {_passed_on(plan)}",
        "vLLM": f"--max-loras {plan.max_loras} --max-cpu-loras {plan.max_cpu_loras} "
        f"--max-lora-rank {plan.max_lora_rank} --max-model-len {plan.max_model_len} {_passed_on(plan, '')}",
    }
    if learnwares is not None:
        rows["adapter store"] = (
            f"{_size(learnwares * plan.adapter_bytes)} for {learnwares:,} adapters of this size"
        )
    _print("adapters on one GPU", (_listing(rows),))
    _say(
        "--max-loras is the most that leaves the KV cache one usual request for each slot. Every layer is taken "
        "to keep keys and values of all tokens, in the type that the model is served in.",
        "vLLM sets a slot aside in every linear module, the embedding and the head, whatever --modules says.",
    )


def _passed_on(plan: GpuPlan, prefix: str = "--vllm-arg=") -> str:
    options = {
        "--gpu-memory-utilization": f"{plan.utilization:g}",
        "--max-num-seqs": str(SEQUENCES),
        "--max-num-batched-tokens": str(BATCHED_TOKENS),
    }
    return " ".join(f"{prefix}{name}={value}" for name, value in options.items())


def _listing(rows: dict[str, str]) -> Table:
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def _print(title: str, tables: Iterable[Table]) -> None:
    console = output.console()
    console.print(Text(title, style="bold"))
    for table in tables:
        console.print(table)
    console.print()


def _say(*lines: str) -> None:
    for line in lines:
        output.console().print(Text(line))
    output.console().print()


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1024
    return f"{size:,.1f} TiB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
