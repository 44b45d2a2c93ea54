"""The verifier of one dock: throw-away vLLM processes without network, and verdicts that go to the catalogue."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from catalogue import Learnware
from indexer import KnownBase
from serving import Engine, GatewayParts, VllmConfig, VllmProcess
from serving.examination import Verdict
from serving.life_cycle import forget
from serving.verification_queue import Job
from serving.verifier import Deliver, Verifier, VerifierLimits, deliver_to
from serving.vllm_options import LORA_RANKS
from slmdock.dock import Dock

LOG = "vllm-verification.log"


@dataclass(frozen=True)
class VerifierConfig:
    """``limits`` for each learnware; ``with_network`` where the system lets no process give up its network.

    ``kv_cache_gib`` and ``vllm_args`` are as in ``StackConfig``.
    """

    limits: VerifierLimits = VerifierLimits()  # noqa: RUF009 - it is frozen
    with_network: bool = False
    kv_cache_gib: int = 1
    vllm_args: tuple[str, ...] = ()


def make_verifier(dock: Dock, config: VerifierConfig, parts: GatewayParts | None = None) -> Verifier:
    """Returns the verifier of a dock that is opened here; ``parts`` are its gateway's, if it has one."""

    def make(base: KnownBase, rank: int) -> Engine:
        return VllmProcess(
            VllmConfig(
                model=Path(base.folder), base_model=base.name, store=dock.store.root,
                log=dock.config.folder / LOG, max_loras=1, max_cpu_loras=1,
                max_lora_rank=next(each for each in LORA_RANKS if each >= rank),
                kv_cache_gib=config.kv_cache_gib, extra=config.vllm_args, alone=not config.with_network,
            )
        )  # fmt: skip

    if dock.config.qdrant is None:
        # Whoever holds the catalogue's folder is alone, so what is under way was left by one that is gone.
        dock.verification_queue.reclaim()
    deliver = _to_dock(dock) if parts is None else _to_gateway(parts)
    return Verifier(dock.verification_queue, dock.catalogue, dock.bases.get, make, deliver, config.limits)


def work_off(dock: Dock, config: VerifierConfig, told: Callable[[Job], None]) -> None:
    """Verifies what waits, until nothing does; see ``Verifier.work_off``."""
    asyncio.run(make_verifier(dock, config).work_off(told))


def _to_dock(dock: Dock) -> Deliver:
    return lambda job, learnware, verdict: asyncio.to_thread(deliver_to, dock.life_cycle, job, learnware, verdict)


def _to_gateway(parts: GatewayParts) -> Deliver:
    async def deliver(job: Job, learnware: Learnware, verdict: Verdict) -> None:
        async with parts.writing:
            judged = await asyncio.to_thread(deliver_to, parts.indexer, job, learnware, verdict)
        if judged.status == "quarantined":
            await forget(parts, judged)

    return deliver
