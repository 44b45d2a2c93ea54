"""A FastAPI service whose middleware lets the dock choose who answers each question.

The service keeps its own routes, keys and logs; only the choice and the tokens come from the dock. Where the dock
cannot be asked, the service's own model server answers, any that speaks OpenAI's interface.

    export DOCK_URL=http://127.0.0.1:8000 MODEL_URL=http://127.0.0.1:8001 DEFAULT_MODEL=my-model
    uvicorn --port 8080 --factory examples.fastapi_middleware:from_environment
    curl --json '"Does the contract allow it?"' http://127.0.0.1:8080/answer
"""

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, FastAPI, Request, Response
from openai import AsyncOpenAI

from slmdock import AsyncClient
from specification.errors import DockError

MAX_TOKENS = 64
CHOICE_SECONDS = 2.0
ANSWER_SECONDS = 60.0

log = logging.getLogger(__name__)


def create_app(dock_url: str, own_url: str, default_model: str) -> FastAPI:
    """Returns the service; ``default_model`` at ``own_url`` answers while the dock's choice cannot be had."""
    dock = AsyncClient(dock_url, timeout=CHOICE_SECONDS)
    chosen = _tokens(dock_url, "SLMDOCK_KEY")
    own = _tokens(own_url, "MODEL_KEY")

    @asynccontextmanager
    async def connections(app: FastAPI) -> AsyncIterator[None]:
        async with dock, chosen, own:
            yield

    app = FastAPI(lifespan=connections)

    @app.middleware("http")
    async def choose(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.tokens, request.state.model = own, default_model
        try:
            route = await dock.route((await request.body()).decode("utf-8", "replace"))
            request.state.tokens, request.state.model = chosen, route.model
        except DockError as error:
            log.warning("%s answers, the dock does not choose: %s", default_model, error)
        response = await call_next(request)
        response.headers["x-answered-by"] = request.state.model
        return response

    @app.post("/answer")
    async def answer(request: Request, question: Annotated[str, Body()]) -> str:
        tokens: AsyncOpenAI = request.state.tokens
        completion = await tokens.chat.completions.create(
            model=request.state.model,
            messages=[{"role": "user", "content": question}],
            max_tokens=MAX_TOKENS,
        )
        return completion.choices[0].message.content or ""

    return app


def from_environment() -> FastAPI:
    """Returns the service that the environment describes."""
    dock_url = os.environ.get("DOCK_URL", "http://127.0.0.1:8000")
    own_url = os.environ.get("MODEL_URL", "http://127.0.0.1:8001")
    if not (default_model := os.environ.get("DEFAULT_MODEL")):
        raise SystemExit("DEFAULT_MODEL is not set: name the model that answers at MODEL_URL without the dock")
    return create_app(dock_url, own_url, default_model)


def _tokens(url: str, key_variable: str) -> AsyncOpenAI:
    key = os.environ.get(key_variable, "unused")
    return AsyncOpenAI(base_url=f"{url}/v1", api_key=key, timeout=ANSWER_SECONDS)
