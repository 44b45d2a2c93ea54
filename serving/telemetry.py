"""Sees every request of a gateway from outside: its id, its record, its metrics, its line in the log, its trace.

Bytes pass untouched and at once. Nothing of a request's content is kept or written, nor of its query, nor its
headers but for the request id; routes are named by their template, since a path is content too.
"""

import logging
import re
import secrets
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.live import Recent
from serving.metrics import Metrics
from serving.request_record import JSON_TAIL_BYTES, TAIL_BYTES, RequestRecord, Stage, current
from serving.requests import CLIENT_CLOSED_REQUEST

if TYPE_CHECKING:
    from serving.tracing import Tracer

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
REQUEST_ID_HEADER = "x-request-id"
GENERATING = frozenset({"/v1/completions", "/v1/chat/completions"})
# Asked every few seconds by machines; their lines would bury the others.
QUIET = frozenset({"/health", "/ready", "/metrics", "/v1/live"})
# Events that begin so carry nothing; they keep a silent connection open.
COMMENT = b":"

log = logging.getLogger(__name__)


class Telemetry:
    """What one gateway knows of its requests. ``tracer`` None traces nothing."""

    def __init__(self, tracer: "Tracer | None" = None) -> None:
        self.metrics = Metrics()
        self.recent = Recent()
        self.in_flight: Counter[Stage] = Counter(dict.fromkeys(get_args(Stage), 0))
        self._tracer = tracer

    def begin(self, scope: Scope) -> RequestRecord:
        """Returns the record of a request that has just arrived."""
        headers = Headers(scope=scope)
        sent = headers.get(REQUEST_ID_HEADER, "")
        record = RequestRecord(
            id=sent if REQUEST_ID.fullmatch(sent) else secrets.token_hex(16),
            method=scope["method"],
            generates=scope["path"] in GENERATING,
            started=time.perf_counter(),
            entering=self._move,
        )
        if record.generates:
            self.in_flight[record.stage] += 1
        if self._tracer is not None and record.generates:
            record.trace = self._tracer.request(headers)
        return record

    def answer(self, record: RequestRecord, message: Message) -> None:
        """Notes a message of the answer on its way out; gives the first one the request's id."""
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (REQUEST_ID_HEADER.encode(), record.id.encode())]
            message["headers"] = headers
            record.status = message["status"]
            record.streams = any(
                name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers
            )
            return
        data: bytes = message.get("body", b"")
        record.complete = not message.get("more_body", False)
        if not data or (record.streams and data.startswith(COMMENT)):
            return
        now = time.perf_counter()
        if record.first_byte is None:
            record.first_byte = now
            record.enter("answering")
        elif record.streams:
            self.metrics.add_gap(now - record.last_chunk)
        record.last_chunk = now
        if record.generates:
            kept = TAIL_BYTES if record.streams else JSON_TAIL_BYTES
            record.tail = (record.tail + data)[-kept:]

    def end(self, record: RequestRecord, scope: Scope) -> None:
        """Counts the request and writes its line."""
        record.ended = time.perf_counter()
        # Requests that were refused before they reached a route have none; these two paths are known.
        found: str | None = getattr(scope.get("route"), "path", None)
        record.route = found or (scope["path"] if record.generates else "")
        record.status = record.status or CLIENT_CLOSED_REQUEST
        record.read_usage()
        if record.generates:
            self.in_flight[record.stage] -= 1
            self.recent.add(record)
        self.metrics.add(record)
        if record.trace is not None:
            record.trace.end(record)
        _write_line(record)

    def _move(self, record: RequestRecord, stage: Stage) -> None:
        if record.generates:
            self.in_flight[record.stage] -= 1
            self.in_flight[stage] += 1


class TelemetryMiddleware:
    """The outermost layer of the gateway, so that errors of all others are seen and carry the request's id."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = self._telemetry.begin(scope)
        token = current.set(record)

        async def observed(message: Message) -> None:
            self._telemetry.answer(record, message)
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except ClientDisconnect:
            record.status = CLIENT_CLOSED_REQUEST
        except Exception as error:
            _write_unforeseen(error)
        finally:
            self._telemetry.end(record, scope)
            current.reset(token)


def _write_unforeseen(error: Exception) -> None:
    """Writes where it happened, but not the error's words, which may quote a prompt."""
    places = "".join(traceback.format_tb(error.__traceback__))
    log.error("unforeseen %s\n%s", type(error).__qualname__, places)


def _write_line(record: RequestRecord) -> None:
    level = logging.DEBUG if record.route in QUIET and record.status < 400 else logging.INFO
    if not log.isEnabledFor(level):
        return
    words = [record.method, record.route or "-", str(record.status), f"{record.seconds:.3f} s"]
    if record.choice is not None:
        words += [record.kind, record.choice.model]
    log.log(level, "%s", " ".join(words), extra=fields_of(record))


def fields_of(record: RequestRecord) -> Mapping[str, object]:
    """Returns what the log tells of a request; what is not known is left out."""
    choice, usage = record.choice, record.usage
    fields: dict[str, object] = {
        "method": record.method,
        "route": record.route,
        "status": record.status,
        "seconds": round(record.seconds, 6),
        "error": record.error or None,
        "kind": record.kind or None,
        "learnware": choice.learnware or None if choice else None,
        "fit": choice.fit if choice else None,
        "decision_seconds": _rounded(record.decision_seconds),
        "first_token_seconds": _rounded(record.first_token_seconds),
        "stream": record.stream_end if record.streams else None,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "trace_id": record.trace.trace_id if record.trace else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
