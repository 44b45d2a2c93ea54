"""The files under ``examples/``, against a gateway with tiny models over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from examples import batch_job
from examples.chat_model import DockChat
from examples.fastapi_middleware import create_app
from serving import GatewayParts, TransformersConfig, TransformersEngine
from specification import SentenceEncoder
from tests.serving.conftest import TinyDock, sentences
from tests.serving.tiny import BASE_NAME

Serving = Callable[[GatewayParts], AbstractContextManager[str]]
PROMPT = sentences("law")[0]


@pytest.fixture(scope="module")
def url(dock: TinyDock, serving: Serving) -> Iterator[str]:
    with serving(dock.parts(TransformersEngine(TransformersConfig(dock.base, BASE_NAME, dock.store)))) as url:
        yield url


@asynccontextmanager
async def service(url: str) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(url, BASE_NAME)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
    ):
        yield client


async def test_the_middleware_lets_the_dock_choose(url: str) -> None:
    async with service(url) as client:
        answer = await client.post("/answer", json=PROMPT)
    assert answer.status_code == 200
    assert answer.headers["x-answered-by"].startswith("law@")
    assert answer.json()


async def test_the_service_answers_without_the_dock_s_choice(free_url: str) -> None:
    async with service(free_url) as client:
        answer = await client.get("/openapi.json")
    assert (answer.status_code, answer.headers["x-answered-by"]) == (200, BASE_NAME)


async def test_the_chat_model_s_forms_say_the_same(url: str) -> None:
    chat = DockChat(url, "law", options={"max_tokens": 8, "temperature": 0})
    said = await chat.ainvoke(PROMPT)
    assert said
    assert "".join([piece async for piece in chat.astream(PROMPT)]) == said
    assert await chat.abatch([PROMPT, PROMPT]) == [said, said]
    assert await asyncio.to_thread(chat.invoke, PROMPT) == said
    assert await asyncio.to_thread(lambda: "".join(chat.stream(PROMPT))) == said
    assert await asyncio.to_thread(chat.batch, [PROMPT]) == [said]


async def test_the_batch_job_answers_every_prompt_in_order(
    url: str, tmp_path: Path, encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_job, "MAX_TOKENS", 2)
    prompts, answers = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    texts = sentences("law")
    prompts.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    reason = await batch_job.run(url, prompts, answers, encoder)
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [line["text"] for line in lines] == texts
    assert all(line["model"].startswith("law@") for line in lines), reason
