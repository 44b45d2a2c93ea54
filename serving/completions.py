"""The endpoints of OpenAI's API: models, completions and chat, passed on to the engine."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from catalogue.contract import MAX_LIMIT
from serving.engine import EVENT_STREAM, EngineAnswer, LearnwareUnavailable, Route
from serving.events import kept_alive, whole_events
from serving.openapi import GENERATED, generation_body
from serving.parts import GatewayParts, Parts
from serving.prompt_length import check_length
from serving.request_record import note_broken_stream, noted, timed
from serving.requests import read_body, while_connected
from serving.routing import AUTO, Choice, choose, fall_back, requested_model
from serving.wire import ModelEntry, ModelList, error_body, error_code, parse_object
from specification.errors import EngineError, InvalidInput

MAX_JSON_BYTES = 2 * 2**20

MESSAGES = {"type": "array", "minItems": 1, "items": {"type": "object"}}

router = APIRouter(prefix="/v1", tags=["OpenAI"])


@router.get("/models")
async def list_models(
    parts: Parts, limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100, after: str | None = None
) -> ModelList:
    """Lists what can be sent as ``model``: on the first page base models and ``auto``, then learnwares."""
    page = await run_in_threadpool(parts.catalogue.scroll, parts.servable, limit, after)
    bases = [engine.base_model for engine in parts.engines]
    first = [] if after else [ModelEntry(id=id) for id in (*bases, AUTO)]
    entries = first + [ModelEntry.of(learnware) for learnware in page.learnwares]
    return ModelList(data=entries, has_more=page.next is not None, next=page.next)


@router.get("/models/{model:path}")
async def get_model(parts: Parts, model: str) -> ModelEntry:
    """Returns one that can be sent as ``model``, under the name it was asked for by."""
    if model == AUTO or parts.engine_of(model) is not None:
        return ModelEntry(id=model)
    choice = await choose(parts, model, {})
    found = await run_in_threadpool(parts.catalogue.get, [choice.learnware] if choice.learnware else [])
    return next(map(ModelEntry.of, found), ModelEntry(id=model)).model_copy(update={"id": model})


@router.post(
    "/completions",
    response_class=Response,
    responses=GENERATED,
    openapi_extra=generation_body("prompt", {"oneOf": [{"type": "string"}, {"type": "array"}]}),
)
async def complete(request: Request, parts: Parts) -> Response:
    """Completes a prompt."""
    return await _answer("completions", request, parts)


@router.post(
    "/chat/completions",
    response_class=Response,
    responses=GENERATED,
    openapi_extra=generation_body("messages", MESSAGES),
)
async def chat(request: Request, parts: Parts) -> Response:
    """Answers a conversation."""
    return await _answer("chat/completions", request, parts)


async def _answer(route: Route, request: Request, parts: GatewayParts) -> Response:
    body = parse_object(await read_body(request, MAX_JSON_BYTES))
    _refuse_prompt_logprobs(body)
    choice = await timed(choose(parts, requested_model(body), body))
    try:
        answer, data = await while_connected(request, _ask(parts, route, body, choice))
    except LearnwareUnavailable as error:
        # Whoever named the learnware must know; whoever left the choice to the dock gets an answer.
        if choice.kind == "named":
            raise
        choice = noted(replace(fall_back(parts, str(error)), seconds=choice.seconds))
        answer, data = await while_connected(request, _ask(parts, route, body, choice))
    if data is None:
        return EventStream(answer, choice.headers())
    return Response(data, answer.status, choice.headers(), answer.media_type)


def _refuse_prompt_logprobs(body: dict[str, object]) -> None:
    """Raises InvalidInput for what kills vLLM's CPU build while adapters are loaded (docs/log.md)."""
    if body.get("prompt_logprobs") is not None or (body.get("echo") and body.get("logprobs") is not None):
        raise InvalidInput(
            "log-probabilities of the prompt ('prompt_logprobs', or 'echo' with 'logprobs') are not served; "
            "ask for 'logprobs' of the answer alone"
        )


async def _ask(
    parts: GatewayParts, route: Route, body: dict[str, object], choice: Choice
) -> tuple[EngineAnswer, bytes | None]:
    """Returns the engine's answer, and its whole body unless it is a stream."""
    engine = parts.engine_for(choice.base_model, choice.model)
    assert engine is not None
    check_length(body, engine.max_model_len)
    answer = await engine.post(route, body | {"model": choice.model})
    return answer, None if answer.media_type == EVENT_STREAM else await answer.read()


class EventStream(StreamingResponse):
    """Passes an engine's events on as they are; closes them when the client is done or gone."""

    def __init__(self, answer: EngineAnswer, headers: dict[str, str]) -> None:
        unbuffered = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(_events(answer), answer.status, headers | unbuffered, answer.media_type)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with kept_alive(send) as speaking:
                await super().__call__(scope, receive, speaking)
        finally:
            await self._answer.close()


async def _events(answer: EngineAnswer) -> AsyncIterator[bytes]:
    """Yields the engine's bytes. If it dies in between, the headers are gone, so an event says so."""
    try:
        async for events in whole_events(answer.chunks):
            yield events
    except EngineError as error:
        note_broken_stream()
        body = error_body(str(error), error.kind, error_code(EngineError))
        yield b"data: " + json.dumps(body).encode() + b"\n\n"
