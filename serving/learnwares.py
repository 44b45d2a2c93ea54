"""The dock's own endpoints: learnwares, search by specification, registered tasks."""

import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from catalogue import Learnware, Page, find_learnware, parse_card, parse_filter
from catalogue.contract import MAX_LIMIT
from catalogue.learnware import describe
from indexer.bulk import RECORD_FILE
from indexer.indexer import TakenAs
from indexer.store import CONFIG_FILE, WEIGHTS_FILE
from retriever import Decision, Mixture, Ranking
from retriever.decision import MAX_UNKNOWN
from serving.access import Who
from serving.auto import obstacle, pick
from serving.decisions import TOP
from serving.openapi import BINARY, binary_body, form_body, json_body
from serving.parts import GatewayParts, Parts
from serving.requests import limited, read_body
from serving.tasks import TASK_ID_LENGTH, Part, Task
from serving.warming import warm_task
from serving.wire import PAGE, RANKING, SIGNALS, FacetCounts, MeasuredTask, parse_object
from specification import MAX_SPECIFICATION_BYTES, Specification
from specification.errors import DockError, InvalidInput, NotFound, TooLarge

MAX_UPLOAD_BYTES = 2**30
MAX_CARD_BYTES = 2**20
MAX_ID_BYTES = 64
UPLOADS = ("card", "specification", "adapter_config", "adapter_model")

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]

SPECIFICATION = binary_body("A specification file.")
SIGNAL_LIST = {"type": "array", "items": {"type": "object"}}

router = APIRouter(tags=["Learnwares"])


@router.get("/learnwares")
async def list_learnwares(
    parts: Parts, where: str = "", query: str = "", limit: Limit = 100, after: str | None = None
) -> dict[str, Any]:
    """Lists learnwares that pass a filter, by id; with ``query`` the best matching descriptions instead."""
    condition = parse_filter(where)
    if not query.strip():
        page = await run_in_threadpool(parts.catalogue.scroll, condition, limit, after)
        return _json(PAGE, page)
    async with parts.encoding:
        found = await run_in_threadpool(parts.retriever.find, query, limit, condition)
    return _json(PAGE, Page(tuple(found), None))


@router.get("/learnwares/facets")
def count_values(parts: Parts, field: str, where: str = "", limit: Limit = 100) -> FacetCounts:
    """Counts the values of a field."""
    return FacetCounts(field=field, values=parts.catalogue.facets(field, parse_filter(where), limit))


@router.get("/learnwares/{reference}")
def get_learnware(parts: Parts, reference: str) -> Learnware:
    """Returns a learnware by id, name@version, or name: the newest published one, else the newest."""
    return required_learnware(parts, reference)


@router.get("/learnwares/{reference}/specification", response_class=Response, responses=BINARY)
def get_specification(parts: Parts, reference: str) -> Response:
    """Returns a learnware's specification file."""
    data = parts.catalogue.specification_file(required_learnware(parts, reference))
    return Response(data, media_type="application/octet-stream")


@router.post(
    "/learnwares",
    status_code=201,
    openapi_extra=form_body(
        ["card"],
        ["specification"],
        ["whole_model"],
        ["adapter_config", "adapter_model", "record"],
        "The card as JSON, the specification, and an adapter's files or the id of a whole model in the store.",
    ),
)
async def submit_learnware(
    request: Request,
    parts: Parts,
    who: Who,
    state: TakenAs = "published",
    base: str | None = None,
    rename: bool = False,
) -> Learnware:
    """Takes in a learnware: a form with ``card`` (JSON) and the files named in ``UPLOADS``.

    With the state ``checked`` it is held back until it is published. ``base`` names the base model that an adapter
    stands on, in place of what its configuration says. What is in under another name is refused, unless ``rename``
    says that it gets the card's. ``record`` (JSON), such as lies beside an exported adapter, may state the
    fingerprint of the base model that the adapter stood on.

    In place of an adapter's two files, ``whole_model`` names a whole model by its id; whoever keeps the dock's
    store has put it there ('slmdock submit').
    """
    form = await _read_form(request)
    try:
        card = parse_card(parse_object(await _part(form, "card", MAX_CARD_BYTES)))
        data = await _part(form, "specification", MAX_SPECIFICATION_BYTES)
        specification = await run_in_threadpool(Specification.from_bytes, data)
        if "whole_model" in form:
            if base is not None:
                raise InvalidInput("a whole model stands on no base model; leave 'base' out")
            id = (await _part(form, "whole_model", MAX_ID_BYTES)).decode("utf-8", "replace")
            adopt = partial(parts.indexer.adopt, id, specification, card, state, who, rename=rename)
            async with parts.writing:
                return await run_in_threadpool(adopt)
        with tempfile.TemporaryDirectory(prefix="slmdock-upload-") as folder:
            await run_in_threadpool(_save, form, Path(folder))
            if "record" in form:
                (Path(folder) / RECORD_FILE).write_bytes(await _part(form, "record", MAX_CARD_BYTES))
            submitted = Path(folder), specification, card, state, who
            submit = partial(parts.indexer.submit, *submitted, base=base, rename=rename)
            async with parts.writing:
                return await run_in_threadpool(_submit, submit, folder)
    finally:
        await form.close()


@router.post("/learnwares/{reference}/quality", openapi_extra=json_body(SIGNAL_LIST, "Quality signals."))
async def attach_quality(request: Request, parts: Parts, reference: str) -> Learnware:
    """Adds quality signals, a JSON array, to a learnware by id or name."""
    data = await read_body(request, MAX_CARD_BYTES)
    try:
        signals = SIGNALS.validate_json(data)
    except ValidationError as error:
        raise InvalidInput(f"quality signals: {describe(error)}") from None
    async with parts.writing:
        return await run_in_threadpool(lambda: parts.indexer.attach(required_learnware(parts, reference), signals))


@router.post("/measured-tasks", openapi_extra=SPECIFICATION)
async def keep_measured_task(request: Request, parts: Parts) -> MeasuredTask:
    """Keeps the specification of a task that quality signals name by its digest."""
    data = await read_body(request, MAX_SPECIFICATION_BYTES)
    specification = await run_in_threadpool(Specification.from_bytes, data)
    async with parts.writing:
        return MeasuredTask(digest=await run_in_threadpool(parts.indexer.measure, specification))


@router.post("/search", openapi_extra=SPECIFICATION)
async def search(request: Request, parts: Parts, where: str = "", limit: Limit = 10) -> dict[str, Any]:
    """Ranks learnwares for the task whose specification file is the request's body."""
    condition = parse_filter(where)
    data = await read_body(request, MAX_SPECIFICATION_BYTES)
    specification = await run_in_threadpool(Specification.from_bytes, data)
    ranking = await run_in_threadpool(parts.retriever.search, specification, limit, condition)
    return _json(RANKING, ranking)


@router.post("/v1/tasks", openapi_extra=SPECIFICATION)
async def register_task(request: Request, parts: Parts) -> Task:
    """Registers the task whose specification file is the body.

    Its decision is taken now and kept until the task is registered again, which decides anew.
    """
    data = await read_body(request, MAX_SPECIFICATION_BYTES)
    specification = await run_in_threadpool(Specification.from_bytes, data)
    task = await run_in_threadpool(_register, parts, specification)
    await warm_task(parts, task)
    return task


@router.get("/v1/tasks/{id}")
def get_task(parts: Parts, id: str) -> Task:
    """Returns a registered task."""
    task = parts.tasks.get(id)
    if task is None:
        raise NotFound(f"task {id[:80]!r} is not registered")
    return task


def _register(parts: GatewayParts, specification: Specification) -> Task:
    ranking = parts.retriever.search(specification, TOP, parts.servable)
    decision, mixture = _loadable(parts, ranking), ranking.mixture
    task = Task(
        id=specification.digest[:TASK_ID_LENGTH],
        learnware=decision.learnware.id if decision.learnware else None,
        fit=decision.fit,
        p_value=decision.p_value,
        threshold=decision.threshold,
        reason=decision.reason,
        created=int(time.time()),
    )
    if mixture and mixture.planned:
        task = task.model_copy(update=_plan(mixture))
    parts.tasks.put(task)
    return task


def _loadable(parts: GatewayParts, ranking: Ranking) -> Decision:
    """Returns the decision, or the next best that fits where no engine can load the one it names."""
    decision, best = ranking.decision, pick(parts, ranking)
    if decision.learnware is None or best is None or best.learnware == decision.learnware:
        return decision
    reason = (
        f"{best.learnware.name} has fit {best.fit:.3f} and is the best that can be loaded: "
        f"{obstacle(parts, decision.learnware)}"
    )
    return Decision(best.learnware, best.fit, best.p_value, decision.threshold, reason)


def _plan(mixture: Mixture) -> dict[str, object]:
    """Returns the fields of a task that several learnwares share."""
    shares = mixture.shares
    return {
        "learnware": shares[0].learnware.id,
        "fit": round(1 - mixture.unknown, 6),
        "p_value": None,
        "threshold": 1 - MAX_UNKNOWN,
        "reason": f"a mixture: {mixture.reason}",
        "mixture": tuple(Part(learnware=share.learnware.id, weight=share.weight) for share in shares),
        "unknown": mixture.unknown,
    }


def required_learnware(parts: GatewayParts, reference: str) -> Learnware:
    """Returns a learnware as ``find_learnware`` does; raises NotFound if there is none."""
    learnware = find_learnware(parts.catalogue, reference)
    if learnware is None:
        raise NotFound(f"no learnware {reference[:200]!r}")
    return learnware


def _submit(submit: Callable[[], Learnware], folder: str) -> Learnware:
    """Takes the adapter in; an error names its file, but not where we kept it."""
    try:
        return submit()
    except DockError as error:
        raise type(error)(str(error).replace(f"{folder}/", "")) from None


async def _read_form(request: Request) -> FormData:
    """Returns the form; whoever gets it must close it.

    Raises:
        TooLarge: the whole, or a part that is no file, exceeds its limit.
    """
    bounded = limited(request, MAX_UPLOAD_BYTES)
    try:
        return await bounded.form(max_files=5, max_fields=5, max_part_size=MAX_CARD_BYTES)
    except HTTPException as error:
        # Starlette answers 400 to every fault of a form and tells them apart by its words alone.
        if "exceeded maximum size" in error.detail:
            raise TooLarge(f"a field of the form exceeds {MAX_CARD_BYTES} bytes; send it as a file") from None
        raise


async def _part(form: FormData, name: str, limit: int) -> bytes:
    """Returns a part of the form, sent as a field or as a file."""
    part = form.get(name)
    if part is None:
        raise InvalidInput(f"the form lacks {name!r}; it needs {', '.join(UPLOADS)}")
    data = await part.read(limit + 1) if isinstance(part, UploadFile) else part.encode()
    if len(data) > limit:
        raise TooLarge(f"{name}: more than {limit} bytes")
    return data


def _save(form: FormData, folder: Path) -> None:
    """Writes the adapter under the names we give; the sender's file names are never used."""
    for name, file in (("adapter_config", CONFIG_FILE), ("adapter_model", WEIGHTS_FILE)):
        part = form.get(name)
        if not isinstance(part, UploadFile):
            raise InvalidInput(
                f"the form lacks the file {name!r}; it needs {', '.join(UPLOADS)}, or whole_model instead"
            )
        with (folder / file).open("wb") as target:
            shutil.copyfileobj(part.file, target)


def _json(adapter: Any, value: object) -> dict[str, Any]:
    dumped: dict[str, Any] = adapter.dump_python(value, mode="json")
    return dumped
