"""Limits around the real gateway: slots, the queue before them, deadlines, lengths. Slots always come back."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import httpx
import openai
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message

from serving import Engine, GatewayParts, create_app
from serving.engine import EVENT_STREAM, EngineAnswer, Route
from serving.gate import Gate
from serving.keys import KeyRequest, KeyStore
from serving.limits import Limits
from serving.prompt_length import MOST_BYTES_A_TOKEN, check_length
from serving.requests import ClientGone
from specification.errors import ContextLengthExceeded, EngineError, InvalidInput, RateLimitExceeded
from tests.serving.conftest import TinyDock
from tests.serving.doubles import EVENTS, EngineDouble
from tests.serving.tiny import BASE_NAME

DEADLINE = "x-slmdock-deadline"


def app_of(dock: TinyDock, engine: Engine, **limits: Any) -> FastAPI:
    return create_app(replace(dock.parts(engine), limits=Limits(**limits)))


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://dock"
    )


def ask(client: httpx.AsyncClient, deadline: object = None, **fields: object) -> Awaitable[httpx.Response]:
    headers = {} if deadline is None else {DEADLINE: str(deadline)}
    return client.post("/v1/completions", json={"model": BASE_NAME, "prompt": "x", **fields}, headers=headers)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not happened():
            await asyncio.sleep(0.001)


async def stay() -> None:
    """A client that never leaves."""
    await asyncio.get_running_loop().create_future()


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_beyond_slots_and_queue_there_is_429(dock: TinyDock, double: EngineDouble) -> None:
    app = app_of(dock, double, parallel=1, waiting=1)
    gate: Gate = app.state.gates.generating
    double.mode = "hang"
    async with client_of(app) as client:
        running = asyncio.ensure_future(ask(client))
        await until(lambda: gate.running.total() == 1)
        waiting = asyncio.ensure_future(ask(client))
        await until(lambda: gate.waiting == 1)
        refused = await ask(client)
        error = error_of(refused)
        assert (refused.status_code, error["code"], error["type"]) == (429, "rate_limit_exceeded", "requests")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert "1 requests run and 1 wait" in error["message"]
        for path in ("/health", "/ready", "/v1/models", "/learnwares"):
            assert (await client.get(path)).status_code == 200
        double.mode = "answer"
        running.cancel()
        assert (await waiting).status_code == 200
        await asyncio.gather(running, return_exceptions=True)
    assert (gate.running, gate.waiting) == ({}, 0)


async def test_waiting_has_an_end(dock: TinyDock, double: EngineDouble) -> None:
    app = app_of(dock, double, parallel=1, wait_seconds=0.01)
    double.mode = "hang"
    async with client_of(app) as client:
        running = asyncio.ensure_future(ask(client))
        await until(lambda: app.state.gates.generating.running.total() == 1)
        refused = await ask(client)
        assert (refused.status_code, error_of(refused)["code"]) == (429, "rate_limit_exceeded")
        assert "within 0.01 s" in refused.text
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_openai_s_client_understands_429(dock: TinyDock, double: EngineDouble) -> None:
    app = app_of(dock, double, parallel=1, waiting=0)
    async with app.state.gates.generating.slot(None, stay), client_of(app) as http:
        client = openai.AsyncOpenAI(
            base_url="http://dock/v1", api_key="x", http_client=cast(Any, http), max_retries=0
        )
        with pytest.raises(openai.RateLimitError) as caught:
            await client.completions.create(model=BASE_NAME, prompt="x")
    assert caught.value.code == "rate_limit_exceeded"


async def test_a_key_has_its_own_bound(dock: TinyDock, double: EngineDouble, tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys.json")
    busy, other = (keys.create_key(KeyRequest(name=name, roles=("serve",))) for name in ("busy", "other"))
    limits = Limits(parallel=3, parallel_per_key=1, waiting=0)
    app = create_app(replace(dock.parts(double), keys=keys, limits=limits))
    async with app.state.gates.generating.slot(busy.id, stay), client_of(app) as client:
        client.headers["authorization"] = f"Bearer {busy.secret}"
        assert (await ask(client)).status_code == 429
        client.headers["authorization"] = f"Bearer {other.secret}"
        assert (await ask(client)).status_code == 200


async def test_keys_take_turns() -> None:
    gate = Gate(Limits(parallel=1, waiting=20))
    order: list[str] = []

    async def work(key: str) -> None:
        async with gate.slot(key, stay):
            order.append(key)

    async with gate.slot("a", stay):
        tasks = []
        for key in "aaaabbc":
            tasks.append(asyncio.create_task(work(key)))
            await until(lambda: gate.waiting == len(tasks))
    await asyncio.gather(*tasks)
    assert "".join(order) == "abcabaa"


async def test_a_key_s_crowd_leaves_room_in_the_queue() -> None:
    gate = Gate(Limits(parallel=1, waiting=4))
    async with gate.slot("a", stay):
        waiting = asyncio.create_task(gate.slot("a", stay).__aenter__())
        await until(lambda: gate.waiting == 1)
        with pytest.raises(RateLimitExceeded):
            await gate.slot("a", stay).__aenter__()
        other = asyncio.create_task(gate.slot("b", stay).__aenter__())
        await until(lambda: gate.waiting == 2)
        for task in (waiting, other):
            task.cancel()
        await asyncio.gather(waiting, other, return_exceptions=True)
    assert (gate.running, gate.waiting) == ({}, 0)


async def test_who_leaves_the_queue_is_not_waited_for() -> None:
    gate = Gate(Limits(parallel=1))
    left = asyncio.Event()

    async def leave() -> None:
        await left.wait()

    async with gate.slot(None, stay):
        waiting = asyncio.create_task(gate.slot(None, leave).__aenter__())
        await until(lambda: gate.waiting == 1)
        left.set()
        with pytest.raises(ClientGone):
            await waiting
        assert gate.waiting == 0
    assert gate.running == {}


async def test_a_deadline_ends_the_generation(dock: TinyDock, double: EngineDouble) -> None:
    app = app_of(dock, double)
    double.mode = "hang"
    async with client_of(app) as client:
        late = await ask(client, deadline=0.05)
    error = error_of(late)
    assert (late.status_code, error["code"], error["type"]) == (504, "deadline_exceeded", "timeout_error")
    assert "0.05 s" in error["message"]
    assert double.cancelled.is_set()
    assert app.state.gates.generating.running == {}


async def test_a_deadline_ends_a_stream_with_an_event(dock: TinyDock, double: EngineDouble) -> None:
    app = app_of(dock, double, deadline_seconds=0.05)
    double.mode = "hang"
    async with client_of(app) as client:
        late = await ask(client, stream=True)
    assert late.status_code == 200
    assert late.content.startswith(EVENTS[0].removesuffix(b"da") + b"data: ")
    assert json.loads(late.content.rpartition(b"data: ")[2])["error"]["code"] == "deadline_exceeded"
    assert double.cancelled.is_set()
    assert double.closed == 1
    assert app.state.gates.generating.running == {}


async def test_waiting_counts_towards_the_deadline(dock: TinyDock, double: EngineDouble) -> None:
    app = app_of(dock, double, parallel=1)
    async with app.state.gates.generating.slot(None, stay), client_of(app) as client:
        late = await ask(client, deadline=0.02)
        assert (late.status_code, error_of(late)["code"]) == (504, "deadline_exceeded")
    assert double.bodies == []


async def test_in_time_nothing_changes(dock: TinyDock, double: EngineDouble) -> None:
    async with client_of(app_of(dock, double)) as client:
        assert (await ask(client, deadline=60)).status_code == 200
        assert (await ask(client, deadline=60, stream=True)).content == b"".join(EVENTS)


@pytest.mark.parametrize("asked", ["", "0", "-1", "nan", "inf", "soon", "1801", "1e999"])
async def test_deadlines_that_are_none(asked: str, dock: TinyDock, double: EngineDouble) -> None:
    async with client_of(app_of(dock, double)) as client:
        refused = await ask(client, deadline=asked)
    assert refused.status_code == 400
    assert "x-slmdock-deadline" in error_of(refused)["message"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("parallel", 0),
        ("parallel_per_key", 0),
        ("waiting", -1),
        ("wait_seconds", 0),
        ("deadline_seconds", float("nan")),
    ],
)
def test_limits_that_let_nobody_in(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=name):
        Limits(**{name: value})


MOST = 4 * MOST_BYTES_A_TOKEN


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"prompt": [1] * 4}, True),
        ({"prompt": [1] * 5}, False),
        ({"prompt": [[1] * 4, [1] * 4]}, True),
        ({"prompt": [[1], [1] * 5]}, False),
        ({"prompt": "x" * MOST}, True),
        ({"prompt": "x" * (MOST + 1)}, False),
        ({"prompt": ["x" * MOST] * 3}, True),
        ({"prompt": "ü" * (MOST // 2 + 1)}, False),
        ({"prompt": "\ud800" * MOST}, True),
        ({"prompt": None}, True),
        ({"prompt": [[], {}, None, True]}, True),
        ({"messages": [{"content": "x" * MOST}]}, True),
        ({"messages": [{"content": "x" * MOST}, {"content": [{"type": "text", "text": "y"}]}]}, False),
        ({"messages": [None, {"content": None}, {"content": [{"image_url": "z" * MOST * 2}, 7]}]}, True),
        ({"messages": 7}, True),
    ],
)
def test_prompts_that_cannot_fit(body: dict[str, object], fits: bool) -> None:
    check_length(body, None)
    if fits:
        check_length(body, 4)
    else:
        with pytest.raises(ContextLengthExceeded, match="context holds 4 tokens"):
            check_length(body, 4)


async def test_a_prompt_too_long_does_not_reach_the_engine(dock: TinyDock, double: EngineDouble) -> None:
    double.max_model_len = 4
    async with client_of(app_of(dock, double)) as client:
        refused = await ask(client, prompt=[1] * 5)
        assert (refused.status_code, error_of(refused)["code"]) == (400, "context_length_exceeded")
        assert (await ask(client, prompt=[1] * 4)).status_code == 200
    assert len(double.bodies) == 1


class MoodyEngine(Engine):
    """Does what ``act`` in the request's body says, and counts what it has not ended yet."""

    def __init__(self) -> None:
        self.base_model = BASE_NAME
        self.open = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def healthy(self) -> bool:
        return True

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        act = body["act"]
        self.open += 1
        try:
            await asyncio.sleep(0)
            if act == "hang":
                await stay()
            if act == "dead":
                raise EngineError("dead")
            if act == "bug":
                raise ZeroDivisionError
        except BaseException:
            self.open -= 1
            raise
        return EngineAnswer(
            200, EVENT_STREAM if "stream" in str(act) else "text/plain", self._chunks(act), self._close
        )

    async def _chunks(self, act: object) -> AsyncIterator[bytes]:
        for event in EVENTS:
            yield event
            await asyncio.sleep(0)
            if act == "stream, hang":
                await stay()
            if act == "stream, break":
                raise EngineError("broke")

    async def _close(self) -> None:
        self.open -= 1


ACTS = ("answer", "hang", "dead", "bug", "stream", "stream, hang", "stream, break")


@dataclass(frozen=True)
class Plan:
    """One request: what the engine does, how and after how many steps it ends from outside, and whose it is."""

    act: str
    end: Literal["stay", "leave", "cancel", "deadline", "broken pipe", "half a body"]
    steps: int
    key: int


@dataclass
class Caller:
    """A client at the very ASGI interface, which can leave or break at any step."""

    plan: Plan
    secret: str
    left: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[Message] = field(default_factory=list)
    asked: bool = False

    async def __call__(self, app: FastAPI) -> None:
        headers = [(b"authorization", f"Bearer {self.secret}".encode()), (b"host", b"dock")]
        if self.plan.end == "deadline":
            headers.append((DEADLINE.encode(), f"{(self.plan.steps + 1) / 5000}".encode()))
        path = "/v1/completions"
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": "POST", "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
            "query_string": b"", "headers": headers, "server": ("dock", 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        await app(scope, self.receive, self.send)

    async def receive(self) -> Message:
        if not self.asked:
            self.asked = True
            body = json.dumps({"model": BASE_NAME, "prompt": "x", "act": self.plan.act}).encode()
            return {"type": "http.request", "body": body, "more_body": self.plan.end == "half a body"}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await asyncio.sleep(0)
        if self.plan.end == "broken pipe" and len(self.sent) >= self.plan.steps % 3:
            raise OSError("broken pipe")
        self.sent.append(message)

    async def end(self, task: "asyncio.Task[None]") -> None:
        for _ in range(self.plan.steps):
            await asyncio.sleep(0)
        if self.plan.end in ("leave", "half a body"):
            self.left.set()
        if self.plan.end == "cancel":
            task.cancel()


@dataclass(frozen=True)
class Arena:
    """One gateway with three keys and few slots, that all plans are run against."""

    app: FastAPI
    engine: MoodyEngine
    secrets: tuple[str, ...]

    async def run(self, plans: list[Plan]) -> None:
        self.engine.open = 0
        callers = [Caller(plan, self.secrets[plan.key]) for plan in plans]
        tasks = [asyncio.create_task(caller(self.app)) for caller in callers]
        await asyncio.gather(*(caller.end(task) for caller, task in zip(callers, tasks, strict=True)))
        for caller in callers:
            if caller.plan.end != "deadline":
                caller.left.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks, return_exceptions=True)
        for gate in (self.app.state.gates.generating, self.app.state.gates.others):
            assert (gate.running, gate.waiting, len(gate._queues)) == ({}, 0, 0)
        # A task of the server's own that is cancelled, which only its shutdown does, may lose a stream.
        if all(plan.end != "cancel" for plan in plans):
            assert self.engine.open == 0
        for caller, task in zip(callers, tasks, strict=True):
            self.check(caller, task)

    def check(self, caller: Caller, task: "asyncio.Task[None]") -> None:
        """What a client saw is one answer of the protocol, begun once and ended once at most."""
        kinds = [message["type"] for message in caller.sent]
        assert kinds.count("http.response.start") <= 1
        assert "http.response.start" not in kinds[1:]
        ends = [not message.get("more_body") for message in caller.sent if message["type"] == "http.response.body"]
        assert ends.count(True) <= 1
        assert True not in ends[:-1]
        if caller.plan.end == "deadline" and not task.cancelled() and task.exception() is None:
            assert ends[-1], "at a deadline the answer has an end"
            assert caller.sent[0]["status"] in (200, 429, 503, 504, 500 if caller.plan.act == "bug" else 504)


@pytest.fixture(scope="module")
def arena(dock: TinyDock, tmp_path_factory: pytest.TempPathFactory) -> Arena:
    keys = KeyStore(tmp_path_factory.mktemp("keys") / "keys.json")
    made = [keys.create_key(KeyRequest(name="somebody", roles=("serve",))) for _ in range(3)]
    engine = MoodyEngine()
    limits = Limits(parallel=3, parallel_per_key=2, waiting=8, wait_seconds=0.02)
    parts: GatewayParts = replace(dock.parts(engine), keys=keys, limits=limits)
    return Arena(create_app(parts), engine, tuple(key.secret for key in made))


plans = st.builds(
    Plan,
    act=st.sampled_from(ACTS),
    end=st.sampled_from(["stay", "leave", "cancel", "deadline", "broken pipe", "half a body"]),
    steps=st.integers(0, 25),
    key=st.integers(0, 2),
)


@settings(max_examples=200, deadline=None)
@given(crowd=st.lists(plans, min_size=1, max_size=14))
def test_slots_are_given_back_whatever_ends_a_request(arena: Arena, crowd: list[Plan]) -> None:
    asyncio.run(arena.run(crowd))
    asyncio.run(arena.run([Plan("answer", "stay", 0, key) for key in (0, 1, 2)]))
