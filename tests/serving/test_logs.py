"""The log: one line a request, in JSON or text, with its id and never with what was asked or answered."""

import json
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving import create_app
from serving.engine import EVENT_STREAM, Engine, EngineAnswer, Route
from serving.logs import logging_to
from specification.errors import EngineError, InvalidInput
from tests.serving.conftest import TinyDock, sentences
from tests.serving.tiny import BASE_NAME

CANARY = "c4nary-7f31"


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def test_one_line_of_json_a_request(gateway: httpx.AsyncClient, tmp_path: Path) -> None:
    file = tmp_path / "gateway.log"
    with logging_to("json", file):
        headers = {"x-request-id": "mine"}
        response = await gateway.post(
            "/v1/completions", json={"model": "auto", "prompt": sentences("law")[2]}, headers=headers
        )
        await gateway.get("/learnwares/nobody")
        await gateway.get("/health")
    first, second = lines_of(file)
    assert first["time"].endswith("+00:00")
    expected = {
        "level": "INFO",
        "request_id": "mine",
        "method": "POST",
        "route": "/v1/completions",
        "status": 200,
        "kind": "auto",
        "learnware": response.headers["x-slmdock-learnware"],
    }
    assert {name: first[name] for name in expected} == expected
    assert first["seconds"] >= first["decision_seconds"] > 0
    assert (second["route"], second["status"], second["error"]) == ("/learnwares/{reference}", 404, "not_found")


async def test_text_for_people(gateway: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to("text"):
        await gateway.post(
            "/v1/completions", json={"model": BASE_NAME, "prompt": "x"}, headers={"x-request-id": "mine"}
        )
    assert " INFO    mine POST /v1/completions 200 " in capsys.readouterr().err


async def test_all_lines_of_a_request_carry_its_id(
    gateway: httpx.AsyncClient, dock: TinyDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        logging.getLogger("elsewhere").warning("something happened")
        raise ZeroDivisionError(CANARY)

    monkeypatch.setattr(dock.indexer.catalogue, "count", fail)
    file = tmp_path / "gateway.log"
    with logging_to("json", file):
        await gateway.get("/ready", headers={"x-request-id": "mine"})
        logging.getLogger("elsewhere").warning("outside of any request")
    *inside, outside = lines_of(file)
    assert [one["message"].split()[0] for one in inside] == ["something", "unforeseen", "GET"]
    assert {one["request_id"] for one in inside} == {"mine"}
    assert outside["request_id"] == "-"
    assert "ZeroDivisionError" in inside[1]["message"]
    assert "in fail" in inside[1]["message"]
    assert CANARY not in file.read_text()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidInput, match=r"log file .* cannot be written"),
        logging_to("text", tmp_path / "no" / "x"),
    ):
        pass


def test_logging_is_left_as_it_was(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    with logging_to("json", tmp_path / "log"):
        assert root.level == logging.WARNING
        assert logging.getLogger("serving").getEffectiveLevel() == logging.INFO
    assert (root.level, list(root.handlers)) == before


class Stuck(logging.Handler):
    """A log on a pipe that nobody reads, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.written = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.free.wait(30)
        self.written += 1


async def test_a_log_that_is_stuck_does_not_stop_the_gateway(
    gateway: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = Stuck()
    monkeypatch.setattr("serving.logs.MAX_WAITING", 5)
    monkeypatch.setattr("serving.logs._target", lambda file: stuck)
    with logging_to("json"):
        for _ in range(20):
            assert (await gateway.get("/learnwares")).status_code == 200
        stuck.free.set()
    assert 5 <= stuck.written <= 6


class Chatty(Engine):
    """Answers with the canary, or fails with it."""

    base_model = BASE_NAME

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def healthy(self) -> bool:
        return True

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        if body.get("fail") == "bug":
            raise ValueError(f"bad words: {body['prompt']}")
        if body.get("fail") == "engine":
            raise EngineError(f"the engine says {body['prompt']}")
        answer = json.dumps({"choices": [{"text": CANARY}]}).encode()
        if body.get("stream"):
            return EngineAnswer(200, EVENT_STREAM, _broken(answer))
        return EngineAnswer(200, "application/json", _once(answer))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _broken(data: bytes) -> AsyncIterator[bytes]:
    yield b"data: " + data + b"\n\n"
    raise EngineError(f"broke off after {CANARY}")


async def test_what_was_asked_and_answered_stays_out_of_log_and_metrics(
    dock: TinyDock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "gateway.log"
    key = {"authorization": f"Bearer {CANARY}", "x-api-key": CANARY, "x-request-id": f"{CANARY}!"}
    app = create_app(dock.parts(Chatty()))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with logging_to("json", file):
        caplog.set_level("DEBUG", logger="serving")
        async with httpx.AsyncClient(transport=transport, base_url="http://dock", headers=key) as client:
            statuses = [await _asked(client, **fields) for fields in (
                {}, {"stream": True}, {"model": "law"}, {"model": CANARY}, {"model": f"task:{CANARY}"},
                {"prompt_logprobs": CANARY}, {"fail": "bug"}, {"fail": "engine"}, {"model": "auto"},
            )]  # fmt: skip
            await client.post("/v1/completions", content=f'{{"prompt": "{CANARY}'.encode())
            await client.post("/search", content=CANARY.encode())
            for path in (
                f"/{CANARY}",
                f"/learnwares/{CANARY}",
                f"/learnwares?query={CANARY}&where=domain={CANARY}",
            ):
                await client.get(path)
            metrics = (await client.get("/metrics")).text
            live = (await client.get("/v1/live")).text
    assert statuses == [200, 200, 200, 404, 404, 400, 500, 503, 200]
    assert len(lines_of(file)) > 14
    assert len(caplog.records) > 14
    assert CANARY not in "".join(f"{one.getMessage()}{one.__dict__}" for one in caplog.records)
    for text in (file.read_text(), metrics, live):
        assert CANARY not in text


async def _asked(client: httpx.AsyncClient, **fields: object) -> int:
    body = {"model": BASE_NAME, "prompt": f"say {CANARY}", "user": CANARY, **fields}
    return (await client.post("/v1/completions", json=body)).status_code
