"""What is in the engines' memory, and keeping an adapter there: ``/v1/residency``."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from catalogue import find_learnware
from serving.live import WholeModelsState
from serving.parts import GatewayParts, Parts
from serving.pool import Pool
from serving.replica import Replica
from specification.errors import InvalidInput, ModelNotFound

router = APIRouter(prefix="/v1/residency", tags=["State"])


class ResidentAdapter(BaseModel):
    """An adapter in memory; ``loaded`` and ``used`` (last) are Unix seconds, ``uses`` counts requests."""

    model_config = ConfigDict(frozen=True)

    model: str
    loaded: float
    used: float
    uses: int
    pinned: bool


class ReplicaState(BaseModel):
    """A replica, and what it holds, least recently used first; ``capacity`` is how many adapters it can hold."""

    model_config = ConfigDict(frozen=True)

    replica: str
    base_model: str
    up: bool
    in_flight: int
    capacity: int
    adapters: list[ResidentAdapter]


class ResidencyState(BaseModel):
    """All replicas of all base models, and the whole models; None where these are not served."""

    model_config = ConfigDict(frozen=True)

    replicas: list[ReplicaState]
    whole: WholeModelsState | None


class Pins(BaseModel):
    """The pinned adapters of one base model."""

    model_config = ConfigDict(frozen=True)

    base_model: str
    pinned: list[str]


@router.get("")
async def list_residents(parts: Parts) -> ResidencyState:
    """Tells which adapters and whole models are in memory where, idle ones too."""
    pools = [engine for engine in parts.engines if isinstance(engine, Pool)]
    replicas = [_state(pool, replica) for pool in pools for replica in pool.replicas]
    return ResidencyState(replicas=replicas, whole=parts.whole.state() if parts.whole else None)


@router.put("/pins/{reference:path}")
async def pin(parts: Parts, reference: str) -> Pins:
    """Keeps a learnware's adapter (id, name or engine name) in memory until it is unpinned or the gateway ends."""
    pool, adapter = await run_in_threadpool(_named, parts, reference)
    pool.pin(adapter)
    return Pins(base_model=pool.base_model, pinned=list(pool.pins))


@router.delete("/pins/{reference:path}", status_code=204)
async def unpin(parts: Parts, reference: str) -> Response:
    """Lets an adapter go the way of the others; unpinning what is not pinned does nothing."""
    pool, adapter = await run_in_threadpool(_named, parts, reference)
    pool.unpin(adapter)
    return Response(status_code=204)


def _state(pool: Pool, replica: Replica) -> ReplicaState:
    adapters = [
        ResidentAdapter(
            model=one.adapter, loaded=one.loaded, used=one.used, uses=one.uses, pinned=one.adapter in pool.pins
        )
        for one in replica.residency.residents()
    ]
    return ReplicaState(
        replica=replica.name, base_model=pool.base_model, up=replica.up, in_flight=replica.in_flight,
        capacity=replica.residency.capacity, adapters=adapters,
    )  # fmt: skip


def _named(parts: GatewayParts, reference: str) -> tuple[Pool, str]:
    learnware = find_learnware(parts.catalogue, reference)
    if learnware is None or learnware.status != "published":
        raise ModelNotFound(f"no learnware {reference[:200]!r} is published")
    if learnware.whole:
        raise InvalidInput(
            f"{learnware.engine_name} is a whole model, and only adapters are pinned; "
            "'slmdock serve --model-idle' says how long it stays"
        )
    engine = parts.engine_of(learnware.base_model)
    if not isinstance(engine, Pool):
        raise InvalidInput(f"{learnware.engine_name}: this dock keeps no account of base {learnware.base_model!r}")
    return engine, learnware.engine_name
