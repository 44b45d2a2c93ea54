"""The stack of one dock: gateway and catalogue in one process, each vLLM in its own."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

from catalogue import PUBLISHED, Filter, Match
from indexer import KnownBase
from serving import (
    Engine,
    GatewayParts,
    Pool,
    RemoteConfig,
    RemoteEngine,
    TaskStore,
    TransformersConfig,
    TransformersEngine,
    VllmConfig,
    VllmProcess,
    serve,
)
from serving.decisions import DecisionLimits
from serving.limits import Limits
from serving.plan import Shapes, SlotPlan, plan_slots, waste
from serving.telemetry import Telemetry
from serving.tracing import Tracer
from serving.verifier import VerifierLimits
from serving.vllm_options import is_cpu_build
from serving.whole_models import WholeModels
from slmdock.dock import TASKS_FOLDER, Dock, announce, withdraw
from slmdock.verifying import VerifierConfig, make_verifier
from specification import SentenceEncoder
from specification.errors import DockError, EncoderError, InvalidInput
from specification.fast_encoder import FastEncoder

EngineKind = Literal["vllm", "transformers"]


@dataclass(frozen=True)
class StackConfig:
    """How a dock is served.

    ``bases`` are the base models, the first the default one; none means the only one that is known. Each gets
    ``replicas`` engines of the kind ``engine``, or those reached by ``engine_urls``: ``BASE=URL``, or ``URL`` for
    the default base. ``max_loras`` and ``max_lora_rank`` are planned from the catalogue if None, within
    ``adapter_gib`` GiB for the slots of each engine and as much again for adapters kept in memory. ``vllm_args``
    go to each vLLM that is started here as they stand; ``pins`` are learnwares, by id or name, to keep in memory.

    Learnwares that are whole models run beside them while they are used, within ``model_gib`` GiB for all of them,
    and stop after ``model_idle`` seconds without a request; 0 GiB serves none. Each takes the size of its weights
    and, with vLLM, ``kv_cache_gib``.

    ``verify_per_hour`` learnwares that somebody asked for are verified beside it, 0 for none; see ``Verifier``.
    """

    bases: tuple[str, ...] = ()
    engine: EngineKind = "vllm"
    engine_urls: tuple[str, ...] = ()
    replicas: int = 1
    max_loras: int | None = None
    max_lora_rank: int | None = None
    adapter_gib: float = 2.0
    kv_cache_gib: int = 4
    model_gib: float = 0.0
    model_idle: float = 600.0
    max_model_len: int | None = None
    vllm_args: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    limits: Limits = Limits()  # noqa: RUF009 - it is frozen
    trace: bool = False
    verify_per_hour: int = 0
    verify_with_network: bool = False
    fast_encoder: bool = True
    decision_seconds: float = DecisionLimits().seconds


def prepare_routing(dock: Dock, fast: bool, progress: Callable[[str], None]) -> None:
    """Loads what the first prompt would wait for; what fails is said and is no error."""
    if fast and isinstance(dock.encoder, SentenceEncoder):
        try:
            dock.retriever.prompt_encoder = FastEncoder.of(dock.encoder)
        except EncoderError as error:
            progress(f"the exact encoder routes prompts: {error}")
    try:
        dock.retriever.warm()
    except DockError as error:
        progress(f"prompts cannot be routed yet, the base model answers them: {error}")


def make_pools(dock: Dock, config: StackConfig, progress: Callable[[str], None]) -> tuple[Pool, ...]:
    """Returns one pool a base model, not started yet.

    Raises:
        NotFound: a base model is not known. InvalidInput: the configuration contradicts itself.
    """
    bases = choose_bases(dock, config.bases)
    urls = _urls(config.engine_urls, [base.name for base in bases])
    started = count()
    return tuple(
        Pool([RemoteEngine(RemoteConfig(url=url, base_model=base.name)) for url in urls[base.name]])
        if urls[base.name]
        else Pool(_local(dock, base, config, progress, started))
        for base in bases
    )


def make_whole(dock: Dock, config: StackConfig) -> WholeModels | None:
    """Returns what serves whole models, None if the configuration leaves them no memory."""
    if not config.model_gib:
        return None
    on_vllm = config.engine == "vllm"

    def make(name: str, folder: Path) -> Pool:
        if not on_vllm:
            return Pool([TransformersEngine(TransformersConfig(folder, name, dock.store.root, dtype="auto"))])
        return Pool(
            [
                VllmProcess(
                    VllmConfig(
                        model=folder,
                        base_model=name,
                        store=dock.store.root,
                        log=dock.config.folder / f"vllm-{name}.log",
                        max_loras=0,
                        max_model_len=config.max_model_len,
                        kv_cache_gib=config.kv_cache_gib,
                        extra=config.vllm_args,
                    )
                )
            ]
        )

    budget, overhead = int(config.model_gib * 2**30), config.kv_cache_gib * 2**30 if on_vllm else 0
    return WholeModels(dock.store, make, budget, overhead, config.model_idle)


def choose_bases(dock: Dock, names: tuple[str, ...]) -> list[KnownBase]:
    """Returns the base models to serve: the named ones, or the only one.

    Raises:
        NotFound: a base model is not known. InvalidInput: one is named twice, or none and not just one is known.
    """
    if len(set(names)) < len(names):
        raise InvalidInput(f"--base names a base model twice: {', '.join(names)}")
    known = dock.bases.names()
    if not names and len(known) != 1:
        found = ", ".join(known) if known else "none; 'slmdock base add' one first"
        raise InvalidInput(f"name the base model to serve with --base (known: {found})")
    return [dock.bases.get(name) for name in names or known]


def plan_for(dock: Dock, base: KnownBase, config: StackConfig, progress: Callable[[str], None]) -> SlotPlan:
    """Returns the slots for a base model's published adapters; ``progress`` gets a line for each waste."""
    where = PUBLISHED & Filter(conditions=(Match(field="base_model", values=(base.name,)),))
    ranks = [item.rank for item in dock.catalogue.everything(where)]
    shapes = Shapes(base.modules, *_vocabulary(Path(base.folder)))
    budget = int(config.adapter_gib * 2**30)
    plan = plan_slots(ranks, shapes, budget, config.max_loras, config.max_lora_rank)
    progress(
        f"{base.name}: {len(ranks)} adapters; {plan.max_loras} share a batch, {plan.max_cpu_loras} stay in "
        f"memory, ranks up to {plan.max_lora_rank}"
    )
    for line in waste(plan, ranks, shapes):
        progress(f"{base.name}: {line}")
    return plan


def _local(
    dock: Dock, base: KnownBase, config: StackConfig, progress: Callable[[str], None], started: Iterator[int]
) -> list[Engine]:
    folder = Path(base.folder)
    if config.engine == "transformers":
        one = TransformersConfig(folder, base.name, dock.store.root)
        return [TransformersEngine(one) for _ in range(config.replicas)]
    plan = plan_for(dock, base, config, progress)
    return [
        VllmProcess(
            VllmConfig(
                model=folder,
                base_model=base.name,
                store=dock.store.root,
                log=dock.config.folder / _log_name(base.name, number),
                max_loras=plan.max_loras,
                max_cpu_loras=plan.max_cpu_loras,
                max_lora_rank=plan.max_lora_rank,
                max_model_len=config.max_model_len,
                kv_cache_gib=config.kv_cache_gib,
                extra=config.vllm_args,
                # One process a GPU; a lone one takes what vLLM takes by itself.
                device=None if is_cpu_build() or config.replicas * max(1, len(config.bases)) == 1 else number,
            ),
            progress,
        )
        for number in (next(started) for _ in range(config.replicas))
    ]


def pin_all(dock: Dock, names: tuple[str, ...], pools: tuple[Pool, ...]) -> None:
    """Pins learnwares, by id or name, in the pools of their base models; see ``Pool.pin``.

    Raises:
        NotFound: there is no such learnware.
        InvalidInput: it is not published, no pool serves its base, or they are too many.
    """
    for name in names:
        learnware = dock.learnware(name)
        if learnware.status != "published":
            raise InvalidInput(f"--pin {name}: {learnware.reference} is {learnware.status}, and does not answer")
        pool = next((pool for pool in pools if pool.base_model == learnware.base_model), None)
        if pool is None:
            served = ", ".join(pool.base_model for pool in pools)
            raise InvalidInput(f"--pin {name}: its base model is {learnware.base_model!r}, served are {served}")
        pool.pin(learnware.engine_name)


def _log_name(base: str, number: int) -> str:
    return "vllm.log" if number == 0 else f"vllm-{number}-{re.sub(r'[^A-Za-z0-9.-]', '-', base)}.log"


def _urls(given: tuple[str, ...], bases: list[str]) -> dict[str, list[str]]:
    """Returns the URLs of each base model's engines."""
    found: dict[str, list[str]] = {base: [] for base in bases}
    for one in given:
        name, mark, url = one.partition("=")
        if not mark or "://" in name:
            name, url = bases[0], one
        if name not in found:
            raise InvalidInput(f"--engine-url {one[:200]!r}: {name!r} is none of the bases {', '.join(bases)}")
        found[name].append(url)
    return found


def _vocabulary(folder: Path) -> tuple[int, int]:
    """Returns the size of the vocabulary and the width of its vectors, zeros where the model does not say."""
    try:
        settings = json.loads((folder / "config.json").read_bytes())
        return int(settings["vocab_size"]), int(settings["hidden_size"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return 0, 0


async def _verify(dock: Dock, config: StackConfig, parts: GatewayParts) -> None:
    if config.verify_per_hour:
        limits = VerifierLimits(per_hour=config.verify_per_hour)
        alone = VerifierConfig(limits, config.verify_with_network, vllm_args=config.vllm_args)
        await make_verifier(dock, alone, parts).run()


async def run_stack(
    dock: Dock, config: StackConfig, progress: Callable[[str], None], ready: Callable[[str], None]
) -> None:
    """Serves the dock until a signal or a cancellation; other commands find the gateway meanwhile."""
    choose_bases(dock, config.bases)
    # The indexer before the engines: it makes the catalogue where there is none yet.
    indexer = dock.indexer
    engines = make_pools(dock, config, progress)
    pin_all(dock, config.pins, engines)
    tasks = TaskStore(dock.config.folder / TASKS_FOLDER)
    tracer = Tracer.exporting() if config.trace else None
    deciding = DecisionLimits(seconds=config.decision_seconds)
    parts = GatewayParts(
        dock.catalogue, dock.retriever, indexer, engines, tasks,
        keys=dock.keys, limits=config.limits, telemetry=Telemetry(tracer), deciding=deciding,
        whole=make_whole(dock, config), verifying=config.verify_per_hour > 0,
    )  # fmt: skip
    # Beside the engines' start; until it is done, prompts are routed by the exact encoder.
    preparing = asyncio.create_task(asyncio.to_thread(prepare_routing, dock, config.fast_encoder, progress))
    verifying = asyncio.create_task(_verify(dock, config, parts))
    try:
        await serve(parts, config.host, config.port, ready, lambda url: announce(dock.config.folder, url))
    finally:
        preparing.cancel()
        verifying.cancel()
        await asyncio.gather(verifying, return_exceptions=True)
        withdraw(dock.config.folder)
        if tracer is not None:
            await asyncio.to_thread(tracer.close)
        await asyncio.to_thread(dock.close)
