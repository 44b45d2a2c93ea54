"""``/v1/map``: the catalogue in two dimensions, and where a task lies in it."""

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from retriever.live_map import MapColumns
from serving.openapi import binary_body
from serving.parts import Parts
from serving.requests import read_body
from serving.wire import MapPlace, MapProgress
from specification import MAX_SPECIFICATION_BYTES, Specification

router = APIRouter(prefix="/v1/map", tags=["Console"])


@router.get("", response_model=MapColumns, responses={202: {"model": MapProgress, "description": "Being made"}})
def get_map(parts: Parts) -> Response:
    """Returns every published learnware's place, a column a field; 202 while the first map is being made.

    Learnwares with like texts lie beside each other. A newer map is made in the background after changes.
    """
    made = parts.map.current()
    if made is None:
        progress = MapProgress(done=parts.map.done)
        return Response(progress.model_dump_json(), status_code=202, media_type="application/json")
    return Response(made.json, media_type="application/json")


@router.post("", openapi_extra=binary_body("A specification file."))
async def put_on_map(request: Request, parts: Parts) -> MapPlace:
    """Returns where the task whose specification file is the body lies in the newest map."""
    data = await read_body(request, MAX_SPECIFICATION_BYTES)
    task = await run_in_threadpool(Specification.from_bytes, data)
    x, y = await run_in_threadpool(parts.map.place, task)
    return MapPlace(x=x, y=y)
