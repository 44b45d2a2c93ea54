"""The life of learnwares over HTTP: their states, their removal, and the history."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool

from catalogue import Learnware
from catalogue.learnware import describe
from indexer.history import Why
from serving.access import Sender, Who
from serving.learnwares import Limit, required_learnware
from serving.openapi import json_body
from serving.parts import GatewayParts, Parts
from serving.pool import Pool
from serving.requests import read_body
from serving.wire import ChangeList, parse_object
from specification.errors import InvalidInput, PermissionDenied

MAX_REQUEST_BYTES = 2**14

Ordered = Literal["published", "retired", "quarantined"]
"""The states that somebody may ask for; the others are reached by checks alone."""

router = APIRouter(tags=["Life cycle"])


class Move(BaseModel):
    """The state that a learnware is to get, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Ordered
    why: Why = ""


@router.post("/learnwares/{reference}/state", openapi_extra=json_body(Move, "The new state, and why."))
async def move_learnware(request: Request, parts: Parts, sender: Sender, who: Who, reference: str) -> Learnware:
    """Publishes, retires or quarantines a learnware by id, name@version or name.

    A bare name means the newest published version, or the newest where none is published. Out of quarantine only
    a key with the role ``admin`` brings a learnware.
    """
    try:
        wanted = Move.model_validate(parse_object(await read_body(request, MAX_REQUEST_BYTES)))
    except ValidationError as error:
        raise InvalidInput(f"new state: {describe(error)}") from None
    async with parts.writing:
        learnware = await run_in_threadpool(required_learnware, parts, reference)
        if learnware.status == "quarantined" and sender is not None and not sender.may(()):
            raise PermissionDenied(
                f"learnware {learnware.reference} is quarantined; only a key with the role admin moves it on"
            )
        moved = await run_in_threadpool(parts.indexer.move, learnware, wanted.state, who, wanted.why)
    if moved.status != "published":
        await forget(parts, moved)
    return moved


@router.delete("/learnwares/{reference}")
async def delete_learnware(
    parts: Parts, who: Who, reference: str, force: bool = False, why: str = ""
) -> Learnware:
    """Removes a learnware from catalogue, store and memory; returns what it was.

    Refused while a registered task is answered by it, unless by force; then the base model answers the task.
    """
    async with parts.writing:
        learnware = await run_in_threadpool(required_learnware, parts, reference)
        if not force:
            await run_in_threadpool(parts.tasks.require_unused, learnware)
        await run_in_threadpool(parts.indexer.delete, learnware, who, why)
    await forget(parts, learnware)
    return learnware


@router.get("/history")
async def list_changes(
    parts: Parts,
    learnware: str = "",
    limit: Limit = 100,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
) -> ChangeList:
    """Lists what happened, newest first: to all learnwares, or to one by name, name@version or id."""
    changes = await run_in_threadpool(parts.indexer.history.changes, learnware, limit, before)
    return ChangeList(data=changes, next=changes[-1].number if len(changes) == limit else None)


async def forget(parts: GatewayParts, learnware: Learnware) -> None:
    """Lets the engines go of a learnware."""
    if learnware.whole and parts.whole is not None:
        await parts.whole.forget(learnware.engine_name)
    engine = parts.engine_of(learnware.base_model)
    if isinstance(engine, Pool):
        engine.forget(learnware.engine_name)
