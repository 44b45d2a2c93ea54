"""Verification over HTTP: asking for it, and what came of it. The running is done beside, see ``Verifier``."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from catalogue.learnware import describe
from serving.access import Who
from serving.examination import choose
from serving.learnwares import Limit, required_learnware
from serving.openapi import json_body
from serving.parts import GatewayParts, Parts
from serving.requests import read_body
from serving.verification_queue import Job, require_verifiable, required_job
from serving.wire import Verification, VerificationList, VerificationRequest, parse_object
from specification.errors import InvalidInput

MAX_REQUEST_BYTES = 16 * 2**20
EXAMPLE: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 1}, "answer": {"type": "string", "minLength": 1}},
    "required": ["text", "answer"],
}
REQUEST: dict[str, Any] = {
    "type": "object",
    "properties": {
        "examples": {"type": "array", "items": EXAMPLE, "description": "Held-out examples, at least 16."},
        "chat": {"type": ["boolean", "null"], "description": "Through the chat template; null: if there is one."},
        "publish": {"type": "boolean", "description": "Publish it if it passes."},
    },
    "required": ["examples"],
}

router = APIRouter(tags=["Verification"])


@router.post(
    "/learnwares/{reference}/verification",
    status_code=202,
    openapi_extra=json_body(REQUEST, "Examples that it was not trained on."),
)
async def ask_for_verification(request: Request, parts: Parts, who: Who, reference: str) -> Verification:
    """Queues a learnware to be run on held-out examples, which are forgotten when that is done."""
    data = await read_body(request, MAX_REQUEST_BYTES)
    try:
        asked = VerificationRequest.model_validate(await run_in_threadpool(parse_object, data))
    except ValidationError as error:
        raise InvalidInput(f"verification: {describe(error)}") from None
    job = await run_in_threadpool(_queue, parts, reference, asked, who)
    return Verification(job=job, verifying=parts.verifying)


@router.get("/learnwares/{reference}/verification")
def get_verification(parts: Parts, reference: str) -> Verification:
    """Returns the last verification of a learnware, by id, name@version or name."""
    job = required_job(parts.verifications, required_learnware(parts, reference))
    return Verification(job=job, verifying=parts.verifying)


@router.get("/verifications")
def list_verifications(parts: Parts, limit: Limit = 100) -> VerificationList:
    """Lists the last verifications of all learnwares, newest first."""
    return VerificationList(data=parts.verifications.jobs(limit=limit), verifying=parts.verifying)


def _queue(parts: GatewayParts, reference: str, asked: VerificationRequest, who: str) -> Job:
    learnware = required_learnware(parts, reference)
    require_verifiable(learnware)
    chosen = choose(asked.examples)
    return parts.verifications.add(learnware.id, learnware.reference, chosen, who, asked.chat, asked.publish)
