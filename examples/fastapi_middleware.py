"""A FastAPI service whose middleware lets the dock choose who answers each question.

The service keeps its own routes, keys and logs; only the choice and the tokens come from the dock. Where the dock
cannot be asked, the service's default model answers.

    uvicorn --factory examples.fastapi_middleware:create_app
    curl --json '"Does the contract allow it?"' http://127.0.0.1:8000/answer
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

DOCK = os.environ.get("DOCK_URL", "http://127.0.0.1:8000")
MAX_TOKENS = 64

log = logging.getLogger(__name__)


def create_app(dock_url: str = DOCK, default_model: str = "base") -> FastAPI:
    """Returns the service; ``default_model`` answers while the dock's choice cannot be had."""
    dock = AsyncClient(dock_url)
    tokens = AsyncOpenAI(base_url=f"{dock_url}/v1", api_key=os.environ.get("SLMDOCK_KEY", "unused"))

    @asynccontextmanager
    async def connections(app: FastAPI) -> AsyncIterator[None]:
        async with dock, tokens:
            yield

    app = FastAPI(lifespan=connections)

    @app.middleware("http")
    async def choose(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.model = default_model
        try:
            route = await dock.route((await request.body()).decode("utf-8", "replace"))
            request.state.model = route.model
        except DockError as error:
            log.warning("%s answers, the dock does not choose: %s", default_model, error)
        response = await call_next(request)
        response.headers["x-answered-by"] = request.state.model
        return response

    @app.post("/answer")
    async def answer(request: Request, question: Annotated[str, Body()]) -> str:
        messages = [{"role": "user", "content": question}]
        completion = await tokens.chat.completions.create(
            model=request.state.model,
            messages=messages,  # type: ignore[arg-type]
            max_tokens=MAX_TOKENS,
        )
        return completion.choices[0].message.content or ""

    return app
