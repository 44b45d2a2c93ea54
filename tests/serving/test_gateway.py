"""The gateway around its engine: choices, headers, errors, limits. Catalogue and retriever are real."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from catalogue import Learnware
from catalogue.contract import MAX_LIMIT
from serving import Task, TaskStore, create_app
from serving.completions import MAX_JSON_BYTES
from serving.learnwares import MAX_CARD_BYTES
from serving.requests import CLIENT_CLOSED_REQUEST
from serving.tasks import Part
from specification import MAX_SPECIFICATION_BYTES, SentenceEncoder, specify
from specification.errors import CatalogueError, EncoderError
from tests.serving.conftest import Sketch, TinyDock, sentences
from tests.serving.doubles import EVENTS, EngineDouble
from tests.serving.tiny import BASE_NAME

FAR = "zzzz 0101 qqqq"


async def ask(
    gateway: httpx.AsyncClient, model: str, prompt: object = "hello", **fields: object
) -> httpx.Response:
    return await gateway.post("/v1/completions", json={"model": model, "prompt": prompt, **fields})


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_base_model_by_name(gateway: httpx.AsyncClient, double: EngineDouble) -> None:
    response = await ask(gateway, BASE_NAME, unknown_field={"kept": [1, None]})
    assert response.status_code == 200
    assert double.bodies == [{"model": BASE_NAME, "prompt": "hello", "unknown_field": {"kept": [1, None]}}]
    assert response.headers["x-slmdock-decision"] == "base"
    assert response.headers["x-slmdock-model"] == BASE_NAME
    assert response.headers["x-slmdock-learnware"] == response.headers["x-slmdock-fit"] == ""
    assert double.closed == 1


@pytest.mark.parametrize("form", ["name", "id", "engine_name"])
async def test_learnware_by(
    form: str, gateway: httpx.AsyncClient, double: EngineDouble, learnwares: dict[str, Learnware]
) -> None:
    response = await ask(gateway, getattr(learnwares["law"], form))
    assert double.bodies[0]["model"] == learnwares["law"].engine_name
    assert response.headers["x-slmdock-learnware"] == learnwares["law"].id
    assert response.headers["x-slmdock-decision"] == "named"


@pytest.mark.parametrize("topic", ["cooking", "law", "space"])
async def test_auto_chooses_by_prompt(
    topic: str, gateway: httpx.AsyncClient, learnwares: dict[str, Learnware]
) -> None:
    response = await ask(gateway, "auto", sentences(topic)[7])
    assert response.headers["x-slmdock-decision"] == "auto"
    assert response.headers["x-slmdock-model"] == learnwares[topic].engine_name
    assert 0 < float(response.headers["x-slmdock-fit"]) <= 1


async def test_auto_reads_the_last_user_message(gateway: httpx.AsyncClient) -> None:
    parts = [{"type": "text", "text": sentences("space")[0]}, {"type": "image_url", "image_url": {"url": "x"}}]
    messages = [
        {"role": "user", "content": sentences("law")[0]},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": sentences("law")[1]},
    ]
    response = await gateway.post("/v1/chat/completions", json={"model": "auto", "messages": messages})
    assert response.headers["x-slmdock-model"].startswith("space@")


@pytest.mark.parametrize("options", [{"prompt_logprobs": 0}, {"echo": True, "logprobs": 1}])
async def test_prompt_logprobs_which_would_end_the_engine_are_refused(
    options: dict[str, object], gateway: httpx.AsyncClient
) -> None:
    response = await gateway.post("/v1/completions", json={"model": BASE_NAME, "prompt": "x", **options})
    assert response.status_code == 400
    assert "prompt_logprobs" in response.json()["error"]["message"]


async def test_auto_with_nothing_near(gateway: httpx.AsyncClient) -> None:
    response = await ask(gateway, "auto", FAR)
    assert response.headers["x-slmdock-decision"] == "none-fits"
    assert response.headers["x-slmdock-model"] == BASE_NAME
    assert response.headers["x-slmdock-reason"].startswith("none fits")


@pytest.mark.parametrize("prompt", ["", "  ", [1, 2, 3], [[1], [2]], None, 7])
async def test_auto_without_text_falls_back(prompt: object, gateway: httpx.AsyncClient) -> None:
    response = await ask(gateway, "auto", prompt)
    assert response.status_code == 200
    assert response.headers["x-slmdock-decision"] == "fallback"


@pytest.mark.parametrize("error", [EncoderError("no weights\nhere — ü"), CatalogueError("gone")])
async def test_auto_survives_a_failing_choice(
    error: Exception, gateway: httpx.AsyncClient, dock: TinyDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(dock.retriever, "route", fail)
    response = await ask(gateway, "auto", "any text")
    assert response.status_code == 200
    assert response.headers["x-slmdock-model"] == BASE_NAME
    assert response.headers["x-slmdock-decision"] == "fallback"
    assert "\n" not in response.headers["x-slmdock-reason"]


async def test_unknown_model(gateway: httpx.AsyncClient) -> None:
    for name in (
        "nobody",
        "../../etc/passwd",
        "law@0000000000000000",
        "0" * 64,
        "task:0123456789abcdef",
        "task:..",
    ):
        response = await ask(gateway, name)
        error = error_of(response)
        assert response.status_code == 404
        assert error["code"] == "model_not_found"
        assert error["param"] == "model"


async def test_task_is_kept(
    gateway: httpx.AsyncClient, dock: TinyDock, sketch: Sketch, learnwares: dict[str, Learnware]
) -> None:
    specification = sketch("cooking")
    first = await gateway.post("/v1/tasks", content=specification.to_bytes())
    task = first.json()
    assert task["id"] == specification.digest[:16]
    assert (await gateway.get(f"/v1/tasks/{task['id']}")).json() == task
    kept = TaskStore(dock.folder / "tasks").get(task["id"])
    assert kept is not None
    assert kept.learnware == learnwares["cooking"].id
    response = await ask(gateway, f"task:{task['id']}")
    assert response.headers["x-slmdock-decision"] == "task"
    assert response.headers["x-slmdock-model"] == learnwares["cooking"].engine_name


async def test_a_mixture_is_answered_prompt_by_prompt(
    gateway: httpx.AsyncClient, dock: TinyDock, learnwares: dict[str, Learnware], encoder: SentenceEncoder
) -> None:
    texts = [*sentences("cooking")[::2], *sentences("law")[::2]]
    task = (await gateway.post("/v1/tasks", content=specify(texts, encoder).to_bytes())).json()
    assert {part["learnware"] for part in task["mixture"]} == {learnwares[name].id for name in ("cooking", "law")}
    assert task["learnware"] == task["mixture"][0]["learnware"]
    assert task["reason"].startswith("a mixture: ")
    for topic in ("cooking", "law"):
        headers = (await ask(gateway, f"task:{task['id']}", sentences(topic)[5])).headers
        assert headers["x-slmdock-decision"] == "mixture"
        assert headers["x-slmdock-model"] == learnwares[topic].engine_name
        assert headers["x-slmdock-reason"].startswith(f"{topic}, ")
        assert 0.5 < float(headers["x-slmdock-fit"]) <= 1
    unreadable = (await ask(gateway, f"task:{task['id']}", [1, 2, 3])).headers
    assert unreadable["x-slmdock-decision"] == "mixture"
    assert unreadable["x-slmdock-learnware"] == task["learnware"]
    assert "choosing by prompt failed" in unreadable["x-slmdock-reason"]


async def test_only_parts_that_can_answer_take_part(
    gateway: httpx.AsyncClient, dock: TinyDock, learnwares: dict[str, Learnware], double: EngineDouble
) -> None:
    parts = tuple(Part(learnware=id, weight=0.5) for id in ("0" * 64, learnwares["law"].id))
    task = Task(
        id="f" * 16, learnware="0" * 64, fit=1, threshold=0.5, reason="", created=0, mixture=parts, unknown=0
    )
    TaskStore(dock.folder / "tasks").put(task)
    headers = (await ask(gateway, f"task:{task.id}", sentences("cooking")[5])).headers
    assert headers["x-slmdock-model"] == learnwares["law"].engine_name
    double.max_lora_rank = 2
    headers = (await ask(gateway, f"task:{task.id}", sentences("law")[5])).headers
    assert headers["x-slmdock-decision"] == "fallback"
    assert "no learnware of its mixture can answer" in headers["x-slmdock-reason"]


async def test_a_prompt_outside_a_mixture_goes_to_the_base_model(
    gateway: httpx.AsyncClient, dock: TinyDock, learnwares: dict[str, Learnware]
) -> None:
    parts = tuple(Part(learnware=learnwares[name].id, weight=0.3) for name in ("cooking", "law"))
    task = Task(
        id="e" * 16, learnware=parts[0].learnware, fit=0.6, threshold=0.5, reason="", created=0, mixture=parts,
        unknown=0.4,
    )  # fmt: skip
    TaskStore(dock.folder / "tasks").put(task)
    headers = (await ask(gateway, f"task:{task.id}", FAR)).headers
    assert headers["x-slmdock-decision"] == "none-fits"
    assert headers["x-slmdock-model"] == BASE_NAME


async def test_a_damaged_task_costs_no_answer(gateway: httpx.AsyncClient, dock: TinyDock) -> None:
    file = dock.folder / "tasks" / "ffffffffffffffff.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"{")
    headers = (await ask(gateway, "task:ffffffffffffffff")).headers
    assert headers["x-slmdock-model"] == BASE_NAME
    assert headers["x-slmdock-cause"] == "task"
    assert headers["x-slmdock-reason"].startswith("task ffff")
    file.unlink()


async def test_rank_beyond_the_engine_s_limit_is_said_by_name(
    gateway: httpx.AsyncClient, double: EngineDouble, learnwares: dict[str, Learnware]
) -> None:
    double.max_lora_rank = learnwares["law"].rank
    assert (await ask(gateway, "law")).status_code == 200
    double.max_lora_rank = 2
    refused = await ask(gateway, "law")
    error = error_of(refused)
    assert (refused.status_code, error["code"]) == (503, "adapter_unavailable")
    assert "rank 4" in error["message"]
    assert "up to 2; restart 'slmdock serve'" in error["message"]


async def test_rank_beyond_the_engine_s_limit_is_not_chosen(
    gateway: httpx.AsyncClient, double: EngineDouble, sketch: Sketch
) -> None:
    task = (await gateway.post("/v1/tasks", content=sketch("space").to_bytes())).json()
    assert task["learnware"]
    double.max_lora_rank = 2
    kept = await ask(gateway, f"task:{task['id']}")
    assert kept.headers["x-slmdock-decision"] == "fallback"
    assert "rank 4" in kept.headers["x-slmdock-reason"]
    automatic = await ask(gateway, "auto", sentences("space")[7])
    assert automatic.headers["x-slmdock-decision"] == "none-fits"
    models = (await gateway.get("/v1/models")).json()["data"]
    assert [entry["id"] for entry in models] == [BASE_NAME, "auto"]


async def test_stream_is_passed_byte_for_byte(gateway: httpx.AsyncClient, double: EngineDouble) -> None:
    response = await ask(gateway, BASE_NAME, stream=True)
    assert response.content == b"".join(EVENTS)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-slmdock-decision"] == "base"
    assert double.closed == 1


async def test_engine_dies_in_the_middle_of_a_stream(gateway: httpx.AsyncClient, double: EngineDouble) -> None:
    double.mode = "break"
    events = (await ask(gateway, BASE_NAME, stream=True)).content.rpartition(b"data: ")
    assert json.loads(events[2])["error"]["type"] == "engine_unavailable"


async def test_dead_engine(gateway: httpx.AsyncClient, double: EngineDouble) -> None:
    double.mode = "dead"
    response = await ask(gateway, BASE_NAME)
    assert response.status_code == 503
    assert error_of(response)["code"] == "engine_error"
    ready = await gateway.get("/ready")
    assert ready.status_code == 503
    assert ready.json() == {"ready": False, "engine": False, "catalogue": True}
    assert (await gateway.get("/health")).status_code == 200


async def test_ready(gateway: httpx.AsyncClient) -> None:
    response = await gateway.get("/ready")
    assert response.status_code == 200
    assert response.json() == {"ready": True, "engine": True, "catalogue": True}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"model": NaN}',
        b'{"model": 1}',
        b"{}",
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000,
        b'{"model": "\\ud800"}',
        b'{"model": "task:\\udfff"}',
    ],
)
async def test_malformed_json(data: bytes, gateway: httpx.AsyncClient) -> None:
    response = await gateway.post("/v1/completions", content=data)
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"


async def test_odd_text_reaches_the_engine(gateway: httpx.AsyncClient, double: EngineDouble) -> None:
    data = b'{"model": "auto", "prompt": "\\ud800 cook \\u0000"}'
    assert (await gateway.post("/v1/completions", content=data)).status_code == 200
    assert double.bodies[0]["prompt"] == "\ud800 cook \0"


@pytest.mark.parametrize("query", ["query=%ED%A0%80&limit=1", "where=name%3D%ED%A0%80"])
async def test_odd_text_in_a_listing_is_no_failure(query: str, gateway: httpx.AsyncClient) -> None:
    assert (await gateway.get(f"/learnwares?{query}")).status_code in (200, 400)


@pytest.mark.parametrize("path", ["/learnwares", "/v1/models"])
async def test_listings_share_the_catalogue_s_limit(path: str, gateway: httpx.AsyncClient) -> None:
    assert (await gateway.get(path, params={"limit": MAX_LIMIT})).status_code == 200
    assert (await gateway.get(path, params={"limit": MAX_LIMIT + 1})).status_code == 400


@pytest.mark.parametrize("part", [b" " * (MAX_CARD_BYTES + 1), (None, b" " * (MAX_CARD_BYTES + 1))])
async def test_parts_of_a_form_are_limited(part: Any, gateway: httpx.AsyncClient) -> None:
    response = await gateway.post("/learnwares", files={"card": part})
    assert response.status_code == 413
    assert error_of(response)["code"] == "too_large"
    assert str(MAX_CARD_BYTES) in response.text


async def test_bodies_are_limited(gateway: httpx.AsyncClient) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 2**16

    big = await gateway.post("/v1/completions", content=b" " * (MAX_JSON_BYTES + 1))
    unannounced = await gateway.post("/v1/completions", content=endless())
    specification = await gateway.post("/search", content=b" " * (MAX_SPECIFICATION_BYTES + 1))
    for response in (big, unannounced, specification):
        assert response.status_code == 413
        assert error_of(response)["code"] == "too_large"


async def test_errors_have_one_shape(gateway: httpx.AsyncClient) -> None:
    asked = {
        ("GET", "/nowhere"): 404,
        ("GET", "/learnwares/nobody"): 404,
        ("GET", "/v1/tasks/nothing"): 404,
        ("DELETE", "/v1/completions"): 405,
        ("GET", "/learnwares?limit=many"): 400,
        ("GET", "/learnwares?limit=0"): 400,
        ("GET", "/learnwares?after=zzz"): 400,
        ("GET", "/v1/models?after=zzz"): 400,
        ("GET", "/learnwares?where=colour=red"): 400,
        ("GET", "/learnwares/facets"): 400,
        ("GET", "/learnwares/facets?field=colour"): 400,
        ("POST", "/search"): 400,
        ("POST", "/learnwares"): 400,
    }
    for (method, path), status in asked.items():
        response = await gateway.request(method, path)
        assert response.status_code == status, path
        error_of(response)


async def test_a_client_that_leaves_while_sending_is_no_failure(dock: TinyDock, double: EngineDouble) -> None:
    received = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(received)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"", "headers": []}
    await create_app(dock.parts(double))(scope, receive, send)
    assert sent[0]["status"] == CLIENT_CLOSED_REQUEST
    assert double.bodies == []


async def test_unforeseen_errors_tell_nothing(
    gateway: httpx.AsyncClient, dock: TinyDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(dock.indexer.catalogue, "named", fail)
    response = await ask(gateway, "law")
    assert response.status_code == 500
    assert "secret" not in response.text
    error_of(response)


async def test_models_by_page(gateway: httpx.AsyncClient, learnwares: dict[str, Learnware]) -> None:
    first = (await gateway.get("/v1/models", params={"limit": 2})).json()
    second = (await gateway.get("/v1/models", params={"limit": 2, "after": first["next"]})).json()
    assert [entry["id"] for entry in first["data"][:2]] == [BASE_NAME, "auto"]
    found = [entry["id"] for entry in first["data"][2:] + second["data"]]
    assert sorted(found) == sorted(one.engine_name for one in learnwares.values())
    assert (first["has_more"], second["has_more"], second["next"]) == (True, False, None)


async def test_prompts_are_not_logged(gateway: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="serving")
    await ask(gateway, "auto", "a very private prompt")
    await ask(gateway, "nobody", "a very private prompt")
    assert "private" not in caplog.text


def test_importing_the_facade_is_light() -> None:
    import subprocess
    import sys

    code = (
        "import serving, sys; print([m for m in ('torch', 'vllm', 'fastapi', 'transformers') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[]"
