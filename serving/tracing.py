"""OpenTelemetry traces, on wish: a span for the request, one for the decision, one for the engine.

OpenTelemetry is imported when tracing is switched on, and need not be installed otherwise. Its own variables
apply: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from serving.request_record import RequestRecord
from specification.errors import InvalidInput

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
SERVICE_NAME = "slmdock"
TRACE_HEADERS = ("traceparent", "tracestate")


def wished() -> bool:
    """Tells whether the environment names a collector."""
    return any(os.environ.get(name) for name in ENDPOINTS)


class Tracer:
    """Makes the traces of one gateway."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("slmdock.serving")
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def exporting(cls) -> "Tracer":
        """Returns a tracer that sends to the collector that the environment names, or to http://localhost:4318.

        Raises:
            InvalidInput: OpenTelemetry is not installed, or another protocol than OTLP over HTTP is asked for.
        """
        asked = next((os.environ[name] for name in PROTOCOLS if os.environ.get(name)), PROTOCOL)
        if asked != PROTOCOL:
            raise InvalidInput(f"traces are sent as {PROTOCOL}, not as {asked!r}; unset {' and '.join(PROTOCOLS)}")
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise InvalidInput(
                f"traces need OpenTelemetry ({error}); in SLM Dock's own folder: pip install '.[tracing]'"
            ) from None
        name = os.environ.get("OTEL_SERVICE_NAME", SERVICE_NAME)
        provider = TracerProvider(resource=Resource.create({"service.name": name}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def request(self, headers: Mapping[str, str]) -> "Trace":
        """Begins a trace, or goes on with the one that the request's ``traceparent`` names."""
        from opentelemetry.trace import SpanKind

        carrier = {name: headers[name] for name in TRACE_HEADERS if name in headers}
        context = self._propagator.extract(carrier)
        span = self._tracer.start_span("request", context, kind=SpanKind.SERVER)
        return Trace(self, span)

    def child(self, name: str, parent: "Span") -> "Span":
        """Begins a span below another."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        kind = SpanKind.CLIENT if name == "engine" else SpanKind.INTERNAL
        return self._tracer.start_span(name, set_span_in_context(parent), kind=kind)

    def headers(self, span: "Span") -> dict[str, str]:
        """Returns the W3C headers that make a span the parent of the callee's."""
        from opentelemetry.trace import set_span_in_context

        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        return carrier

    def close(self) -> None:
        """Sends what is left and lets go of the collector."""
        self._provider.shutdown()


class Trace:
    """The spans of one request: the whole, and one step below it at a time."""

    def __init__(self, tracer: Tracer, span: "Span") -> None:
        self._tracer = tracer
        self._span = span
        self._step: Span | None = None
        self.trace_id = f"{span.get_span_context().trace_id:032x}"

    def step(self, name: str) -> None:
        """Ends the step before and begins the next one."""
        if self._step is not None:
            self._step.end()
        self._step = self._tracer.child(name, self._span)

    def headers(self) -> dict[str, str]:
        """Returns what makes the callee's spans children of the present step."""
        return self._tracer.headers(self._step or self._span)

    def end(self, record: RequestRecord) -> None:
        """Ends everything and notes what became of the request."""
        from opentelemetry.trace import Status, StatusCode

        if self._step is not None:
            self._step.end()
        self._span.set_attributes(_attributes(record))
        if record.status >= 500 or record.broken:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def _attributes(record: RequestRecord) -> dict[str, str | int | float]:
    """The attributes of a request's span, by OpenTelemetry's conventions where there are any; never content."""
    attributes: dict[str, str | int | float] = {
        "http.request.method": record.method,
        "http.route": record.route,
        "http.response.status_code": record.status,
        "slmdock.request_id": record.id,
    }
    if record.error:
        attributes["error.type"] = record.error
    if record.choice is not None:
        attributes["slmdock.decision"] = record.kind
        attributes["gen_ai.request.model"] = record.choice.model
        attributes["slmdock.learnware"] = record.choice.learnware
        if record.choice.fit is not None:
            attributes["slmdock.fit"] = record.choice.fit
    if record.usage is not None:
        attributes["gen_ai.usage.input_tokens"] = record.usage.prompt_tokens
        attributes["gen_ai.usage.output_tokens"] = record.usage.completion_tokens
    return attributes
