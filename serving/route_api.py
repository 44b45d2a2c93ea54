"""``POST /v1/route``: the decision alone, with the learnwares it looked at and why each was or was not chosen."""

from fastapi import APIRouter, Request, Response

from retriever import Ranked
from serving.auto import AUTO, obstacle
from serving.choice import Choice
from serving.completions import MAX_JSON_BYTES
from serving.openapi import json_body
from serving.parts import GatewayParts, Parts
from serving.requests import read_body
from serving.route_wire import RouteAnswer, RouteCandidate
from serving.routing import choose, requested_model
from serving.wire import parse_object
from specification.errors import InvalidInput

BODY = {
    "type": "object",
    "properties": {
        "model": {"type": "string", "minLength": 1},
        "input": {"type": "string"},
        "prompt": {"oneOf": [{"type": "string"}, {"type": "array"}]},
        "messages": {"type": "array", "items": {"type": "object"}},
    },
}

router = APIRouter(prefix="/v1", tags=["OpenAI"])


@router.post("/route", openapi_extra=json_body(BODY, "A request to generate, or a text as `input`."))
async def route(request: Request, response: Response, parts: Parts) -> RouteAnswer:
    """Decides who would answer and generates nothing.

    The body is that of /v1/completions or /v1/chat/completions, or ``{"input": text}``; ``model`` may be left out
    and is then ``auto``. The headers are those of an answer.
    """
    body = parse_object(await read_body(request, MAX_JSON_BYTES))
    model = requested_model(body) if "model" in body else AUTO
    if not {"prompt", "messages", "input"} & body.keys():
        raise InvalidInput("the request needs 'input', 'prompt' or 'messages' to choose by")
    choice = await choose(parts, model, body)
    response.headers.update(choice.headers())
    return _answer(parts, choice)


def _answer(parts: GatewayParts, choice: Choice) -> RouteAnswer:
    candidates = [
        RouteCandidate(
            learnware=one.learnware.id,
            model=one.learnware.engine_name,
            version=one.learnware.version,
            base_model=one.learnware.base_model,
            fit=one.fit,
            p_value=one.p_value,
            chosen=one.learnware.id == choice.learnware,
            why=_why(parts, choice, one),
        )
        for one in choice.candidates
    ]
    return RouteAnswer(
        kind=choice.kind,
        cause=choice.cause,
        model=choice.model,
        base_model=choice.base_model,
        learnware=choice.learnware or None,
        version=choice.version,
        fit=choice.fit,
        p_value=choice.p_value,
        reason=choice.reason,
        seconds=choice.seconds,
        candidates=candidates,
    )


def _why(parts: GatewayParts, choice: Choice, one: Ranked) -> str:
    if one.learnware.id == choice.learnware:
        return "chosen"
    trouble = obstacle(parts, one.learnware)
    if trouble:
        return f"cannot be loaded: {trouble}"
    rarity = f"{one.p_value:.2%} of its genuine prompts fit it no better"
    if one.p_value < parts.retriever.threshold:
        return f"does not fit: {rarity}, less than {parts.retriever.threshold:.2%}"
    if choice.learnware:
        return f"fits ({rarity}), but {choice.model} was preferred: likelier, or it holds the conversation"
    return f"fits ({rarity}), but the base model answers: {choice.reason}"
