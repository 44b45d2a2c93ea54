"""The gateway's metrics in Prometheus' form, in a registry of their own for each gateway.

Labels have few values, all known beforehand: routes by template, kinds of decision, status codes, base models.
A learnware's id is never one: a catalogue has a hundred thousand of them, and each would become a time series
that every scrape carries for as long as the gateway runs. The most used ones are in ``GET /v1/live``.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from serving.live import DockState
from serving.request_record import RequestRecord, Stage

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

DURATIONS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
FIRST_TOKEN = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
GAPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
DECISIONS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
FITS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
OTHER = "other"


class Metrics:
    """Counts finished requests, and shows the state of the dock at a scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # The library looks a child up under a lock, and makes its labels texts, each time.
        self._child = lru_cache(maxsize=1024)(_labelled)
        ProcessCollector(registry=self.registry)
        counter, histogram, gauge = self._counter, self._histogram, self._gauge
        self._requests = counter("requests", "Requests answered.", "route", "kind", "status")
        self._seconds = histogram("request_seconds", "From arrival to the answer's end.", DURATIONS, "route")
        self._prompt_tokens = counter("prompt_tokens", "Tokens in, where the engine told.", "kind")
        self._completion_tokens = counter("completion_tokens", "Tokens out, where the engine told.", "kind")
        self._untold = counter("answers_without_usage", "Answers whose tokens nobody told, mostly streams.")
        self._first_token = histogram("first_token_seconds", "Arrival to a stream's first bytes.", FIRST_TOKEN)
        self._gaps = histogram("between_chunks_seconds", "Between two chunks of a stream.", GAPS)
        self._streams = counter("streams", "Streams by end: whole, broken by the engine, left.", "end")
        self._decision = histogram("decision_seconds", "Choosing who answers.", DECISIONS, "kind")
        self._fit = histogram("fit", "Fit of the decision.", FITS, "kind")
        self._fallbacks = counter("fallbacks", "Answers of the base model since something failed.", "cause")
        self._in_flight = gauge("requests_in_flight", "Requests for tokens, by stage.", "stage")
        self._residents = gauge("adapters_resident", "Adapters in memory.", "base_model", "replica")
        self._loads = counter("adapter_loads", "Adapters read into memory.", "base_model", "replica")
        self._loads_told: dict[tuple[str, str], int] = {}
        self._replica_up = gauge("replica_up", "1 if the replica is up.", "base_model", "replica")
        self._replica_load = gauge("replica_requests_in_flight", "Its requests.", "base_model", "replica")
        self._engine_up = gauge("engine_up", "1 if the engine answers.", "base_model")
        self._models_running = gauge("whole_models_running", "Whole models in memory.")
        self._models_bytes = gauge("whole_models_bytes", "What they take of the budget.")
        self._models_budget = gauge("whole_models_budget_bytes", "What they may take.")
        self._catalogue_up = gauge("catalogue_up", "1 if the catalogue answers.")
        self._learnwares = gauge("catalogue_learnwares", "Learnwares in the catalogue.")

    def add(self, record: RequestRecord) -> None:
        """Counts a finished request."""
        route = record.route or OTHER
        self._child(self._requests, route, record.kind, str(record.status)).inc()
        self._child(self._seconds, route).observe(record.seconds)
        if record.choice is not None:
            self._add_choice(record)
        if record.streams:
            self._child(self._streams, record.stream_end).inc()
            if record.first_token_seconds is not None:
                self._first_token.observe(record.first_token_seconds)
        if record.usage is not None:
            self._child(self._prompt_tokens, record.kind).inc(record.usage.prompt_tokens)
            self._child(self._completion_tokens, record.kind).inc(record.usage.completion_tokens)
        elif record.generates and record.status < 300:
            self._untold.inc()

    def add_gap(self, seconds: float) -> None:
        """Notes the time between two chunks of a stream."""
        self._gaps.observe(seconds)

    def expose(self, state: DockState, in_flight: Iterable[tuple[Stage, int]]) -> bytes:
        """Returns everything as Prometheus reads it."""
        for stage, count in in_flight:
            self._in_flight.labels(stage).set(count)
        for gauge in (self._engine_up, self._residents, self._replica_up, self._replica_load):
            gauge.clear()
        for engine in state.engines:
            self._engine_up.labels(engine.base_model).set(engine.healthy)
            for one in engine.replicas:
                self._residents.labels(engine.base_model, one.replica).set(one.residents)
                self._add_loads((engine.base_model, one.replica), one.loads)
                self._replica_up.labels(engine.base_model, one.replica).set(one.up)
                self._replica_load.labels(engine.base_model, one.replica).set(one.in_flight)
        if state.whole is not None:
            self._models_running.set(sum(one.up for one in state.whole.models))
            self._models_bytes.set(state.whole.used)
            self._models_budget.set(state.whole.budget)
        self._catalogue_up.set(state.learnwares is not None)
        if state.learnwares is not None:
            self._learnwares.set(state.learnwares)
        return generate_latest(self.registry)

    def _add_choice(self, record: RequestRecord) -> None:
        assert record.choice is not None
        if record.decision_seconds is not None:
            self._child(self._decision, record.kind).observe(record.decision_seconds)
        if record.choice.fit is not None:
            self._child(self._fit, record.kind).observe(record.choice.fit)
        if record.kind == "fallback":
            self._child(self._fallbacks, record.choice.cause).inc()

    def _add_loads(self, replica: tuple[str, str], loads: int) -> None:
        self._loads.labels(*replica).inc(loads - self._loads_told.get(replica, 0))
        self._loads_told[replica] = loads

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"slmdock_{name}", help, labels, registry=self.registry)

    def _gauge(self, name: str, help: str, *labels: str) -> Gauge:
        return Gauge(f"slmdock_{name}", help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"slmdock_{name}", help, labels, buckets=buckets, registry=self.registry)


def _labelled(metric: Any, *labels: str) -> Any:
    return metric.labels(*labels)
