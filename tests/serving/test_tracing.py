"""Traces: one span a request, below it the decision and the engine, tied to the caller's and the engine's own."""

import sys
from collections.abc import AsyncIterator

import httpx
import pytest
from aiohttp import web
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from serving import RemoteConfig, RemoteEngine, create_app
from serving.telemetry import Telemetry
from serving.tracing import Tracer, wished
from specification.errors import InvalidInput
from tests.serving.conftest import TinyDock, engine_server, sentences
from tests.serving.doubles import EngineDouble
from tests.serving.tiny import BASE_NAME

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Tracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracer(provider)


@pytest.fixture
async def gateway(dock: TinyDock, double: EngineDouble, tracer: Tracer) -> AsyncIterator[httpx.AsyncClient]:
    parts = dock.parts(double, telemetry=Telemetry(tracer))
    transport = httpx.ASGITransport(create_app(parts), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://dock") as client:
        yield client


async def ask(gateway: httpx.AsyncClient, model: str = "auto", **headers: str) -> httpx.Response:
    body = {"model": model, "prompt": sentences("law")[4], "stream": model == BASE_NAME}
    return await gateway.post("/v1/completions", json=body, headers=headers)


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    spans = exporter.get_finished_spans()
    assert len({span.name for span in spans}) == len(spans)
    return {span.name: span for span in spans}


async def test_spans_of_a_request(gateway: httpx.AsyncClient, exporter: InMemorySpanExporter) -> None:
    response = await ask(gateway, **{"x-request-id": "mine"})
    spans = by_name(exporter)
    assert set(spans) == {"request", "decide", "engine"}
    request = spans["request"]
    assert request.parent is None
    assert request.kind == SpanKind.SERVER
    for name in ("decide", "engine"):
        parent = spans[name].parent
        assert parent is not None
        assert parent.span_id == request.context.span_id
    assert (spans["decide"].end_time or 0) <= (spans["engine"].start_time or 0)
    assert (spans["engine"].end_time or 0) <= (request.end_time or 0)
    assert request.attributes is not None
    expected = {
        "http.route": "/v1/completions",
        "http.response.status_code": 200,
        "slmdock.decision": "auto",
        "slmdock.learnware": response.headers["x-slmdock-learnware"],
        "slmdock.request_id": "mine",
    }
    assert {name: request.attributes[name] for name in expected} == expected
    assert sentences("law")[4] not in "".join(span.to_json() for span in spans.values())


async def test_the_caller_s_trace_goes_on(gateway: httpx.AsyncClient, exporter: InMemorySpanExporter) -> None:
    await ask(gateway, BASE_NAME, traceparent=CALLER)
    request = by_name(exporter)["request"]
    assert f"{request.context.trace_id:032x}" == TRACE
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == "b7ad6b7169203331"


@pytest.mark.parametrize("traceparent", ["nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "x" * 5000])
async def test_a_bad_traceparent_begins_a_new_trace(
    traceparent: str, gateway: httpx.AsyncClient, exporter: InMemorySpanExporter
) -> None:
    assert (await ask(gateway, traceparent=traceparent)).status_code == 200
    assert by_name(exporter)["request"].parent is None


async def test_errors_are_marked(
    gateway: httpx.AsyncClient, double: EngineDouble, exporter: InMemorySpanExporter
) -> None:
    double.mode = "dead"
    await ask(gateway)
    request = by_name(exporter)["request"]
    assert request.status.status_code == StatusCode.ERROR
    assert request.attributes is not None
    assert request.attributes["error.type"] == "engine_error"


async def test_health_checks_are_not_traced(gateway: httpx.AsyncClient, exporter: InMemorySpanExporter) -> None:
    await gateway.get("/health")
    assert exporter.get_finished_spans() == ()


async def test_the_engine_continues_the_trace(
    dock: TinyDock, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    seen: list[tuple[str, dict[str, object]]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.headers["traceparent"], await request.json()))
        return web.json_response({})

    async with engine_server(answer) as url:
        engine = RemoteEngine(RemoteConfig(url, BASE_NAME))
        engine.connect()
        parts = dock.parts(engine, telemetry=Telemetry(tracer))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(parts)), base_url="http://dock"
        ) as client:
            await ask(client, traceparent=CALLER)
        await engine.stop()
    span = by_name(exporter)["engine"]
    parent, body = seen[0]
    assert parent == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert body["model"] != "auto"


def test_wished_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert not wished()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    assert wished()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InvalidInput, match=r"pip install '\.\[tracing\]'"):
        Tracer.exporting()


def test_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(InvalidInput, match="'grpc'"):
        Tracer.exporting()


def test_the_exporter_can_be_made_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL", raising=False)
    Tracer.exporting().close()
