"""The stack of one dock: engine, gateway and catalogue in one process, vLLM in its own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from catalogue import PUBLISHED, Catalogue, Filter, Match
from indexer import KnownBase
from serving import (
    Engine,
    GatewayParts,
    RemoteConfig,
    RemoteEngine,
    TaskStore,
    TransformersConfig,
    TransformersEngine,
    VllmConfig,
    VllmProcess,
    serve,
)
from serving.vllm_options import LORA_RANKS
from slmdock.dock import Dock, announce, withdraw
from specification.errors import InvalidInput

EngineKind = Literal["vllm", "transformers"]


@dataclass(frozen=True)
class StackConfig:
    """How a dock is served. ``engine_url`` names a vLLM started elsewhere; then ``engine`` does not matter."""

    base: str | None = None
    engine: EngineKind = "vllm"
    engine_url: str | None = None
    max_loras: int = 8
    kv_cache_gib: int = 4
    max_model_len: int | None = None
    host: str = "127.0.0.1"
    port: int = 8000


def make_engine(dock: Dock, base: KnownBase, config: StackConfig, progress: Callable[[str], None]) -> Engine:
    """Returns the engine for a base model, not started yet."""
    if config.engine_url:
        return RemoteEngine(RemoteConfig(url=config.engine_url, base_model=base.name))
    if config.engine == "transformers":
        return TransformersEngine(TransformersConfig(Path(base.folder), base.name, dock.store.root))
    settings = VllmConfig(
        model=Path(base.folder),
        base_model=base.name,
        store=dock.store.root,
        log=dock.config.folder / "vllm.log",
        max_loras=config.max_loras,
        max_lora_rank=largest_rank(dock.catalogue, base.name),
        max_model_len=config.max_model_len,
        kv_cache_gib=config.kv_cache_gib,
    )
    return VllmProcess(settings, progress)


def choose_base(dock: Dock, name: str | None) -> KnownBase:
    """Returns the base model to serve: the named one, or the only one.

    Raises:
        NotFound: the base model is not known. InvalidInput: there are several, or none, and none was named.
    """
    known = dock.bases.names()
    if name is None and len(known) != 1:
        found = ", ".join(known) if known else "none; 'slmdock base add' one first"
        raise InvalidInput(f"name the base model to serve with --base (known: {found})")
    return dock.bases.get(name or known[0])


def largest_rank(catalogue: Catalogue, base: str) -> int:
    """Returns the smallest rank limit vLLM takes that admits every published adapter of ``base``."""
    where = PUBLISHED & Filter(conditions=(Match(field="base_model", values=(base,)),))
    largest = max((item.rank for item in catalogue.everything(where)), default=0)
    largest = max(largest, LORA_RANKS[1])
    return next(rank for rank in LORA_RANKS if rank >= largest)


async def run_stack(
    dock: Dock, config: StackConfig, progress: Callable[[str], None], ready: Callable[[str], None]
) -> None:
    """Serves the dock until a signal or a cancellation; other commands find the gateway meanwhile."""
    base = choose_base(dock, config.base)
    # The indexer before the engine: it makes the catalogue where there is none yet.
    indexer = dock.indexer
    engine = make_engine(dock, base, config, progress)
    tasks = TaskStore(dock.config.folder / "tasks")
    parts = GatewayParts(dock.catalogue, dock.retriever, indexer, engine, tasks)
    try:
        await serve(parts, config.host, config.port, ready, lambda url: announce(dock.config.folder, url))
    finally:
        withdraw(dock.config.folder)
        await asyncio.to_thread(dock.close)
