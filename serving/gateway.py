"""The gateway: one FastAPI app over the dock's parts, with every error in OpenAI's shape."""

import asyncio
import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from serving import (
    completions,
    console_routes,
    key_endpoints,
    learnwares,
    life_cycle,
    map_routes,
    residency_api,
    route_api,
    telemetry_routes,
    trials,
    verification_api,
)
from serving.access import AccessControl
from serving.error_response import error_response
from serving.gate import Gates
from serving.limiting import Limiting
from serving.openapi import ERRORS
from serving.parts import GatewayParts, Parts
from serving.request_record import note_error
from serving.requests import CLIENT_CLOSED_REQUEST, ClientGone
from serving.telemetry import TelemetryMiddleware
from serving.wire import Readiness, error_body, error_code
from specification.errors import DockError, InvalidInput, ModelNotFound, NotFound

__all__ = ["GatewayParts", "create_app"]

NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Readiness, "description": "A part does not answer."}}

log = logging.getLogger(__name__)


class _Gateway(FastAPI):
    """An app whose outermost layer is the telemetry, outside even of what answers unforeseen errors."""

    def build_middleware_stack(self) -> ASGIApp:
        parts: GatewayParts = self.state.parts
        return TelemetryMiddleware(super().build_middleware_stack(), parts.telemetry)


def create_app(parts: GatewayParts, address: str | None = None) -> FastAPI:
    """Returns the gateway. The engine is started and stopped by whoever runs it, see ``serving.server``.

    ``address`` is the one it listens on; see ``AccessControl``.
    """
    app = _Gateway(title="SLM Dock", docs_url=None, redoc_url=None, responses=ERRORS)
    app.state.parts = parts
    app.state.gates = Gates.of(parts.limits)
    # The last one added is the first that a request meets.
    app.add_middleware(Limiting, limits=parts.limits, gates=app.state.gates)
    app.add_middleware(AccessControl, routes=app.routes, keys=parts.keys, address=address)
    # Routes are tried in this order, so the busiest come first.
    app.include_router(completions.router)
    app.include_router(key_endpoints.router)
    app.include_router(learnwares.router)
    app.include_router(life_cycle.router)
    app.include_router(trials.router)
    app.include_router(verification_api.router)
    app.include_router(telemetry_routes.router)
    app.include_router(route_api.router)
    app.include_router(residency_api.router)
    app.include_router(console_routes.router)
    app.include_router(map_routes.router)
    app.get("/health", tags=["State"])(health)
    app.get("/ready", tags=["State"], response_model=Readiness, responses=NOT_READY)(ready)
    app.add_exception_handler(DockError, _dock_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientGone, _client_gone)
    # Starlette's own word for it, where the client leaves before its request has arrived.
    app.add_exception_handler(ClientDisconnect, _client_gone)
    app.add_exception_handler(Exception, _unforeseen)
    return app


async def health() -> dict[str, str]:
    """Tells that the process lives."""
    return {"status": "ok"}


async def ready(parts: Parts, response: Response) -> Readiness:
    """Tells whether requests can be answered, with status 503 and the part at fault if not."""
    healthy = await asyncio.gather(*(engine.healthy() for engine in parts.engines))
    engine, catalogue = all(healthy), await run_in_threadpool(_answers, parts)
    response.status_code = 200 if engine and catalogue else 503
    return Readiness(ready=engine and catalogue, engine=engine, catalogue=catalogue)


def _answers(parts: GatewayParts) -> bool:
    try:
        parts.catalogue.count()
    except DockError as error:
        log.warning("the catalogue does not answer: %s", error)
        return False
    return True


async def _dock_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DockError)
    note_error(error_code(type(error)))
    return error_response(error, "model" if isinstance(error, ModelNotFound) else None)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = str(first["loc"][-1])
    body = error_body(f"{param}: {first['msg']}", InvalidInput.kind, error_code(InvalidInput), param)
    return JSONResponse(body, InvalidInput.status)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    found = error.status_code != NotFound.status
    kind, code = (InvalidInput, error_code(InvalidInput)) if found else (NotFound, error_code(NotFound))
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse(error_body(message, kind.kind, code), error.status_code, error.headers)


async def _client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    """The telemetry logs where it happened; the client learns no more than that it did."""
    body = error_body("the dock failed inside; its log says why", DockError.kind, DockError.kind)
    return JSONResponse(body, DockError.status)
