"""The files under ``examples/``, against a gateway with tiny models over a real socket."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from examples import batch_job, fastapi_middleware, train_adapter
from examples.chat_model import DockChat
from examples.fastapi_middleware import create_app, from_environment
from indexer import BaseModels
from serving import GatewayParts, TransformersConfig, TransformersEngine
from slmdock import cli
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
async def service(dock_url: str, own_url: str) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(dock_url, own_url, BASE_NAME)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client,
    ):
        yield client


async def test_the_middleware_lets_the_dock_choose(url: str, free_url: str) -> None:
    async with service(url, free_url) as client:
        answer = await client.post("/answer", json=PROMPT)
    assert answer.status_code == 200
    assert answer.headers["x-answered-by"].startswith("law@")
    assert answer.json()


async def test_the_service_s_own_model_answers_without_the_dock(url: str, free_url: str) -> None:
    async with service(free_url, url) as client:
        answer = await client.post("/answer", json=PROMPT)
    assert (answer.status_code, answer.headers["x-answered-by"]) == (200, BASE_NAME)
    assert isinstance(answer.json(), str)


async def test_a_dock_that_hangs_does_not_keep_the_service_waiting(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastapi_middleware, "CHOICE_SECONDS", 0.1)
    # It takes connections and never answers; without a time limit the test would end by its own.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with service(f"http://127.0.0.1:{silent.getsockname()[1]}", url) as client:
            answer = await client.post("/answer", json=PROMPT)
    assert (answer.status_code, answer.headers["x-answered-by"]) == (200, BASE_NAME)


def test_the_service_s_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEFAULT_MODEL", raising=False)
    with pytest.raises(SystemExit, match="DEFAULT_MODEL"):
        from_environment()
    monkeypatch.setenv("DEFAULT_MODEL", BASE_NAME)
    assert {getattr(route, "path", "") for route in from_environment().routes} >= {"/answer"}


async def test_the_chat_model_s_forms_say_the_same(url: str) -> None:
    chat = DockChat(url, "law", options={"max_tokens": 8, "temperature": 0})
    said = await chat.ainvoke(PROMPT)
    assert said
    assert "".join([piece async for piece in chat.astream(PROMPT)]) == said
    assert await chat.abatch([PROMPT] * 3, at_once=2) == [said] * 3
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


def test_a_trained_adapter_goes_in_as_it_was_saved(
    dock: TinyDock,
    tmp_path: Path,
    encoder: SentenceEncoder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, folder = tmp_path / "good-at.jsonl", tmp_path / "yes-man"
    file.write_text("".join(json.dumps({"text": text, "answer": "yes"}) + "\n" for text in sentences("law")))
    first = train_adapter.train(file, folder, dock.base, steps=1)
    assert train_adapter.train(file, folder, dock.base, steps=12) < first / 2
    for module in ("context", "dock"):
        monkeypatch.setattr(f"slmdock.{module}.SentenceEncoder", lambda _: encoder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    BaseModels(tmp_path / "bases.json").add(BASE_NAME, dock.base)
    monkeypatch.setattr(
        "sys.argv", ["slmdock", "--dock", str(tmp_path), "submit", str(folder), "--examples", str(file), "--json"]
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    printed = capsys.readouterr()
    assert not end.value.code, printed.err
    assert json.loads(printed.out)["base_model"] == BASE_NAME


def test_examples_without_answers_train_nothing(dock: TinyDock, tmp_path: Path) -> None:
    file = tmp_path / "bare.jsonl"
    file.write_text('{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(SystemExit, match="'a' has no 'answer' to learn"):
        train_adapter.train(file, tmp_path / "adapter", dock.base)
    assert not (tmp_path / "adapter").exists()
