"""What a gateway counts: requests, tokens, times, decisions, engines; and that the labels stay few."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving import GatewayParts, create_app
from serving.engine import EVENT_STREAM, AdapterUnavailable, EngineAnswer, Route
from serving.live import SAMPLES, LiveSnapshot, Quantiles, Recent
from serving.metrics import Metrics
from serving.request_record import RequestRecord, Usage, usage_in
from serving.residency import Residency
from specification.errors import CatalogueError
from tests.serving.conftest import TinyDock, sentences
from tests.serving.doubles import EVENTS, EngineDouble
from tests.serving.tiny import BASE_NAME

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "slmdock.json"
USAGE = b'"usage":{"prompt_tokens":5,"total_tokens":12,"completion_tokens":7,"prompt_tokens_details":null}'
COUNTED = (
    b'data: {"choices":[{"text":"one"}],"usage":null}\n\n',
    b'data: {"choices":[{"text":"two"}],"usage":null}\n\ndata: {"choices":[],' + USAGE[:20],
    USAGE[20:] + b"}\n\n",
    b"data: [DONE]\n\n",
)

Serving = Callable[[GatewayParts], AbstractContextManager[str]]


@dataclass
class FakeReplica:
    """A replica of a pool, and the adapters it holds."""

    name: str
    residency: Residency
    up: bool = True
    in_flight: int = 0


class CountingDouble(EngineDouble):
    """Tells its tokens as vLLM does, and what lies in its memory."""

    def __init__(self) -> None:
        super().__init__(BASE_NAME)
        self.broken_adapters = False
        self.replicas = (FakeReplica("first", Residency()), FakeReplica("second", Residency()))
        for adapter in "abca":
            self.replicas[0].residency.touch(adapter)

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        if self.broken_adapters and body["model"] != BASE_NAME:
            raise AdapterUnavailable("the weights of secret-name are cut short")
        if body.get("stream"):
            return EngineAnswer(200, EVENT_STREAM, _each(COUNTED))
        return EngineAnswer(200, "application/json", _each((b'{"choices":[],' + USAGE + b"}",)))


async def _each(chunks: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.fixture
def double() -> EngineDouble:
    return CountingDouble()


async def scrape(gateway: httpx.AsyncClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    response = await gateway.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(response.text)
    return {(one.name, frozenset(one.labels.items())): one.value for each in families for one in each.samples}


async def value(gateway: httpx.AsyncClient, name: str, **labels: str) -> float | None:
    return (await scrape(gateway)).get((f"slmdock_{name}", frozenset(labels.items())))


async def ask(gateway: httpx.AsyncClient, model: str, prompt: str = "hello", **fields: object) -> httpx.Response:
    return await gateway.post("/v1/completions", json={"model": model, "prompt": prompt, **fields})


@pytest.mark.parametrize(
    ("data", "usage"),
    [
        (b'{"choices":[],' + USAGE + b"}", Usage(5, 7)),
        (b'\x80"half a character","usage" : {"prompt_tokens": 3}}', Usage(3, 0)),
        (b'{"usage":{"prompt_tokens":1,"completion_tokens":1}}{"usage":{"prompt_tokens":1,"completion_tokens":2}}',
         Usage(1, 2)),
        (json.dumps({"text": '"usage":{"prompt_tokens":9,"completion_tokens":9}'}).encode(), None),
        (b'{"top_logprobs":{"usage":-0.5}}', None),
        (b'"usage":{"prompt_tokens":-1,"completion_tokens":1}', None),
        (b'"usage":{"prompt_tokens":true}', None),
        (b'"usage":{"prompt_tokens":1,"compl', None),
        (b'"usage":{}', None),
        (b'"usage":' + b'{"a":' * 5000, None),
        (b"", None),
    ],
)  # fmt: skip
def test_usage_in(data: bytes, usage: Usage | None) -> None:
    assert usage_in(data) == usage


async def test_an_answer_is_counted(gateway: httpx.AsyncClient) -> None:
    await ask(gateway, BASE_NAME)
    await ask(gateway, "law")
    await ask(gateway, "law")
    assert (await ask(gateway, "nobody")).status_code == 404
    route = "/v1/completions"
    assert await value(gateway, "requests_total", route=route, kind="base", status="200") == 1
    assert await value(gateway, "requests_total", route=route, kind="named", status="200") == 2
    assert await value(gateway, "requests_total", route=route, kind="", status="404") == 1
    assert await value(gateway, "prompt_tokens_total", kind="named") == 10
    assert await value(gateway, "completion_tokens_total", kind="named") == 14
    assert await value(gateway, "request_seconds_count", route=route) == 4
    assert await value(gateway, "decision_seconds_count", kind="named") == 2
    assert await value(gateway, "first_token_seconds_count") == 0
    assert await value(gateway, "answers_without_usage_total") == 0


async def test_decisions_are_counted_with_their_fit(gateway: httpx.AsyncClient) -> None:
    response = await ask(gateway, "auto", sentences("law")[3])
    assert await value(gateway, "fit_count", kind="auto") == 1
    total = await value(gateway, "fit_sum", kind="auto")
    assert total == pytest.approx(float(response.headers["x-slmdock-fit"]), abs=1e-4)


async def test_a_stream_passes_untouched_and_is_counted(gateway: httpx.AsyncClient) -> None:
    response = await ask(gateway, "law", stream=True)
    assert response.content == b"".join(COUNTED)
    assert await value(gateway, "completion_tokens_total", kind="named") == 7
    assert await value(gateway, "first_token_seconds_count") == 1
    assert await value(gateway, "between_chunks_seconds_count") == len(COUNTED) - 1
    assert await value(gateway, "streams_total", end="whole") == 1


async def test_keep_alives_are_no_tokens(dock: TinyDock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.serving.test_metrics.COUNTED", (b": keep-alive\n\n", *COUNTED, b": keep-alive\n\n"))
    async with client_of(dock.parts(CountingDouble())) as gateway:
        await ask(gateway, BASE_NAME, stream=True)
        assert await value(gateway, "between_chunks_seconds_count") == len(COUNTED) - 3
        assert await value(gateway, "completion_tokens_total", kind="base") == 7


async def test_a_stream_without_usage(dock: TinyDock) -> None:
    double = EngineDouble(BASE_NAME)
    async with client_of(dock.parts(double)) as gateway:
        await ask(gateway, BASE_NAME, stream=True)
        assert await value(gateway, "answers_without_usage_total") == 1
        double.mode = "break"
        await ask(gateway, BASE_NAME, stream=True)
        assert await value(gateway, "streams_total", end="broken") == 1


def client_of(parts: GatewayParts) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(parts), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://dock")


async def test_each_gateway_counts_for_itself(dock: TinyDock, gateway: httpx.AsyncClient) -> None:
    await ask(gateway, BASE_NAME)
    async with client_of(dock.parts(CountingDouble())) as other:
        assert await value(other, "prompt_tokens_total", kind="base") is None


async def test_fallbacks_have_a_cause_and_no_words(gateway: httpx.AsyncClient, double: CountingDouble) -> None:
    double.broken_adapters = True
    response = await ask(gateway, "auto", sentences("law")[3])
    assert response.headers["x-slmdock-decision"] == "fallback"
    found = [(name, dict(labels)) for name, labels in await scrape(gateway) if name == "slmdock_fallbacks_total"]
    assert len(found) == 1
    assert re.fullmatch("[a-z_-]+", found[0][1]["cause"])
    assert "secret-name" not in (await gateway.get("/metrics")).text


async def test_labels_stay_few(gateway: httpx.AsyncClient) -> None:
    async def labels() -> int:
        return len([name for name, _ in await scrape(gateway) if name.startswith("slmdock")])

    async def everything(round: str) -> None:
        for name in ("law", "space", "cooking", f"nobody-{round}"):
            await ask(gateway, name)
            await gateway.get(f"/learnwares/{name}")
        await gateway.get(f"/no/{round}")
        await gateway.request(f"METHOD{round}", "/health")

    await everything("0")
    await scrape(gateway)
    before = await labels()
    for round in range(3):
        await everything(f"again{round}")
    assert await labels() == before
    text = (await gateway.get("/metrics")).text
    assert "law" not in text
    assert "again" not in text
    assert 'route="/learnwares/{reference}"' in text


async def test_engine_residents_and_catalogue(
    gateway: httpx.AsyncClient, double: CountingDouble, dock: TinyDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await value(gateway, "adapters_resident", base_model=BASE_NAME, replica="first") == 3
    assert await value(gateway, "adapters_resident", base_model=BASE_NAME, replica="second") == 0
    assert await value(gateway, "adapter_loads_total", base_model=BASE_NAME, replica="first") == 3
    double.replicas[0].residency.drop("a")
    double.replicas[0].residency.touch("a")
    assert await value(gateway, "adapter_loads_total", base_model=BASE_NAME, replica="first") == 4
    double.replicas[1].up = False
    assert await value(gateway, "replica_up", base_model=BASE_NAME, replica="first") == 1
    assert await value(gateway, "replica_up", base_model=BASE_NAME, replica="second") == 0
    assert await value(gateway, "replica_requests_in_flight", base_model=BASE_NAME, replica="first") == 0
    assert await value(gateway, "engine_up", base_model=BASE_NAME) == 1
    assert await value(gateway, "catalogue_up") == 1
    assert await value(gateway, "catalogue_learnwares") == 3

    def gone() -> int:
        raise CatalogueError("gone")

    double.mode = "dead"
    monkeypatch.setattr(dock.indexer.catalogue, "count", gone)
    assert await value(gateway, "engine_up", base_model=BASE_NAME) == 0
    assert await value(gateway, "catalogue_up") == 0


async def test_an_engine_that_hangs_is_not_up(
    gateway: httpx.AsyncClient, double: EngineDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> bool:
        await asyncio.sleep(3600)
        return True

    monkeypatch.setattr(double, "healthy", never)
    monkeypatch.setattr("serving.telemetry_routes.HEALTH_SECONDS", 0.01)
    assert await value(gateway, "engine_up", base_model=BASE_NAME) == 0


def test_requests_in_flight_and_left(dock: TinyDock, serving: Serving) -> None:
    double = EngineDouble(BASE_NAME)
    double.mode = "hang"
    with serving(dock.parts(double)) as url:
        asyncio.run(_wait_and_leave(url))


async def _wait_and_leave(url: str) -> None:
    body = {"model": BASE_NAME, "prompt": "x"}
    async with httpx.AsyncClient(base_url=url, trust_env=False) as gateway, asyncio.timeout(30):
        waiting = asyncio.create_task(gateway.post("/v1/completions", json=body))
        await _settled(gateway, "requests_in_flight", 1, stage="waiting")
        async with gateway.stream("POST", "/v1/completions", json=body | {"stream": True}) as response:
            events = response.aiter_raw()  # kept, since one that is forgotten closes the stream
            assert b"".join(EVENTS).startswith(await anext(events))
            await _settled(gateway, "requests_in_flight", 1, stage="answering")
        waiting.cancel()
        await _settled(gateway, "streams_total", 1, end="left")
        await _settled(gateway, "requests_total", 1, route="/v1/completions", kind="base", status="499")
        for stage in ("queued", "deciding", "waiting", "answering"):
            await _settled(gateway, "requests_in_flight", 0, stage=stage)


async def _settled(gateway: httpx.AsyncClient, name: str, expected: float, **labels: str) -> None:
    while await value(gateway, name, **labels) != expected:
        await asyncio.sleep(0.02)


async def test_live_snapshot(gateway: httpx.AsyncClient) -> None:
    for model in ("law", "law", "space", BASE_NAME, "nobody"):
        await ask(gateway, model, stream=model == "law")
    await gateway.get("/health")
    live = LiveSnapshot.model_validate_json((await gateway.get("/v1/live")).content)
    minute = live.last_minute
    window = minute.window_seconds
    assert (minute.requests * window, minute.refused * window, minute.failed) == pytest.approx((5, 1, 0))
    assert minute.completion_tokens * window == pytest.approx(28)
    assert minute.decisions == {"named": 3, "base": 1}
    assert [(one.model.partition("@")[0], one.requests) for one in minute.most_used] == [("law", 2), ("space", 1)]
    assert minute.most_used[0].completion_tokens == 14
    assert minute.first_token is not None
    assert minute.whole is not None
    assert minute.first_token.p50 <= minute.first_token.p95
    assert set(live.in_flight.values()) == {0}
    assert live.dock.learnwares == 3
    assert [(one.replica, one.residents) for one in live.dock.engines[0].replicas] == [("first", 3), ("second", 0)]


def test_recent_forgets_and_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("serving.live.time.monotonic", lambda: now)
    recent = Recent()
    for _ in range(3 * SAMPLES):
        recent.add(finished(0.25))
    now = 1030.0
    recent.add(finished(0.75))
    assert recent.last_minute().requests * 30 == 3 * SAMPLES + 1
    assert recent.last_minute().whole == Quantiles(p50=0.25, p95=0.25)
    now = 1070.0
    assert recent.last_minute().requests * 60 == 1
    now = 5000.0
    assert recent.last_minute().requests == 0
    assert recent.last_minute().whole is None


def finished(seconds: float) -> RequestRecord:
    record = RequestRecord("id", "POST", True, 0.0, lambda *_: None, status=200)
    record.ended = seconds
    return record


def test_dashboard_asks_for_metrics_that_exist() -> None:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= set(dashboard)
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Requests", "Latency", "Decisions", "Residency", "Engine"]
    names = _exposed_names()
    variables = {f"${{{variable['name']}}}" for variable in dashboard["templating"]["list"]}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["datasource"]["uid"] in variables
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            asked = re.findall(r"\b(?:slmdock|process)_\w+", target["expr"])
            assert asked
            assert set(asked) <= names, panel["title"]


def test_dashboard_shows_every_metric_of_ours() -> None:
    asked = set(re.findall(r"\bslmdock_\w+", DASHBOARD.read_text()))
    assert all(any(one.startswith(family.name) for one in asked) for family in Metrics().registry.collect()
               if family.name.startswith("slmdock"))  # fmt: skip


def _exposed_names() -> set[str]:
    """The names of all samples; those of families with labels do not show before their first use."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {
        family.name + suffix
        for family in Metrics().registry.collect()
        for suffix in suffixes[family.type]
    }  # fmt: skip
