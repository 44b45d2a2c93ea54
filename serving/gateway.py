"""The gateway: one FastAPI app over the dock's parts, with every error in OpenAI's shape."""

import logging

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from serving import completions, learnwares, trials
from serving.parts import GatewayParts, Parts
from serving.requests import ClientGone
from serving.routing import ModelNotFound
from serving.wire import Readiness, error_body, error_code
from specification.errors import DockError, InvalidInput, NotFound

__all__ = ["GatewayParts", "create_app"]

# What nginx logs where a client left before the answer.
CLIENT_CLOSED_REQUEST = 499

log = logging.getLogger(__name__)


def create_app(parts: GatewayParts) -> FastAPI:
    """Returns the gateway. The engine is started and stopped by whoever runs it, see ``serving.server``."""
    app = FastAPI(title="SLM Dock", docs_url=None, redoc_url=None)
    app.state.parts = parts
    app.include_router(completions.router)
    app.include_router(learnwares.router)
    app.include_router(trials.router)
    app.get("/health")(health)
    app.get("/ready", response_model=Readiness)(ready)
    app.add_exception_handler(DockError, _dock_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientGone, _client_gone)
    app.add_exception_handler(Exception, _unforeseen)
    return app


async def health() -> dict[str, str]:
    """Tells that the process lives."""
    return {"status": "ok"}


async def ready(parts: Parts, response: Response) -> Readiness:
    """Tells whether requests can be answered, with status 503 and the part at fault if not."""
    engine, catalogue = await parts.engine.healthy(), await run_in_threadpool(_answers, parts)
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
    param = "model" if isinstance(error, ModelNotFound) else None
    body = error_body(str(error), error.kind, error_code(type(error)), param)
    return JSONResponse(body, error.status)


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
    """The server logs the error itself; the client learns no more than that it happened."""
    body = error_body("the dock failed inside; its log says why", DockError.kind, DockError.kind)
    return JSONResponse(body, DockError.status)
