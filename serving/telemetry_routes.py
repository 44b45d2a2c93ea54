"""The two endpoints that show the inside of a gateway: ``/metrics`` for Prometheus, ``/v1/live`` for people."""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from serving.engine import Engine
from serving.live import DockState, EngineState, LiveSnapshot, ReplicaLoad
from serving.metrics import CONTENT_TYPE_LATEST
from serving.parts import GatewayParts, Parts
from serving.residency import Residency
from specification.errors import DockError

# A scrape waits ten seconds by default and should rather say that an engine hangs.
HEALTH_SECONDS = 2.0

router = APIRouter(tags=["State"])


class Replica(Protocol):
    """What is asked of a pool's replica."""

    @property
    def name(self) -> str: ...

    @property
    def up(self) -> bool: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def residency(self) -> Residency: ...


@runtime_checkable
class HasReplicas(Protocol):
    """An engine that is a pool of others and keeps account of the adapters in their memory."""

    @property
    def replicas(self) -> Sequence[Replica]: ...


@router.get("/metrics", response_class=Response)
async def metrics(parts: Parts) -> Response:
    """Returns all metrics in Prometheus' text form."""
    state = await look(parts)
    telemetry = parts.telemetry
    return Response(telemetry.metrics.expose(state, telemetry.in_flight.items()), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/live")
async def live(parts: Parts) -> LiveSnapshot:
    """Returns the last minute: rates, times, decisions, the learnwares most used, and the engines' state."""
    telemetry = parts.telemetry
    return LiveSnapshot(
        uptime_seconds=time.monotonic() - telemetry.recent.started,
        last_minute=telemetry.recent.last_minute(),
        in_flight=dict(telemetry.in_flight),
        dock=await look(parts),
    )


async def look(parts: GatewayParts) -> DockState:
    """Returns the dock's state; engines that do not answer in time are not healthy."""
    engines = asyncio.gather(*map(_engine_state, parts.engines))
    learnwares = await run_in_threadpool(_count, parts)
    whole = parts.whole.state() if parts.whole else None
    return DockState(engines=tuple(await engines), learnwares=learnwares, whole=whole)


async def _engine_state(engine: Engine) -> EngineState:
    try:
        healthy = await asyncio.wait_for(engine.healthy(), HEALTH_SECONDS)
    except TimeoutError:
        healthy = False
    replicas = engine.replicas if isinstance(engine, HasReplicas) else ()
    return EngineState(base_model=engine.base_model, healthy=healthy, replicas=tuple(map(_load, replicas)))


def _load(one: Replica) -> ReplicaLoad:
    held = one.residency
    return ReplicaLoad(replica=one.name, up=one.up, in_flight=one.in_flight, residents=len(held), loads=held.loads)


def _count(parts: GatewayParts) -> int | None:
    try:
        return parts.catalogue.count()
    except DockError:
        return None
