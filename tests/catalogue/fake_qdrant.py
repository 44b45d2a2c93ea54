"""The least of a Qdrant server, on a real socket: it takes points, gives them back, and fails when told to.

It searches nothing: nobody is near to anybody.

The engine's tests need a server that refuses, hangs up, or is gone; a real one cannot be made to do so.
"""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

KEY = "a-secret-that-nobody-may-see"

Failure = Callable[[BaseHTTPRequestHandler], None]


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection instead of answering."""
    handler.close_connection = True


def status(code: int, **headers: str) -> Failure:
    """Answers with a status; ``Retry_After="1"`` is written Retry-After."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {**headers, "Content_Length": "0"}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return answer


@dataclass
class FakeQdrant:
    """What the server holds, and the requests it got as (method, path). ``failures`` are used up, one a
    request."""

    collection: dict[str, Any] | None = None
    aliases: dict[str, str] = field(default_factory=dict)
    points: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    url: str = ""

    def reply(self, method: str, path: str, body: Any) -> tuple[int, object]:
        """Returns status and result."""
        if path == "/aliases":
            pairs = self.aliases.items()
            return 200, {"aliases": [{"alias_name": name, "collection_name": it} for name, it in pairs]}
        name = path.split("/")[2]
        if path == "/collections/aliases":
            (made,) = (action["create_alias"] for action in body["actions"])
            self.aliases[made["alias_name"]] = made["collection_name"]
            return 200, True
        if path.endswith("/exists"):
            return 200, {"exists": name in self.aliases}
        if path.endswith("/facet"):
            (wanted,) = (match["match"]["any"] for match in body["filter"]["must"])
            payloads = [point["payload"] for point in self.points.values()]
            names = {payload["name"] for payload in payloads if payload["name_lower_case"] in wanted}
            return 200, {"hits": [{"value": name, "count": 1} for name in sorted(names)]}
        if path.endswith("/points/scroll"):
            wanted = [match["match"]["any"] for match in body["filter"]["must"] if match["key"] == "name"]
            ids = [id for id, point in self.points.items() if not wanted or point["payload"]["name"] in wanted[0]]
            return 200, {"points": self._read(ids, body), "next_page_offset": None}
        if path.endswith("/points/count"):
            return 200, {"count": len(self.points)}
        if path.endswith("/points/query"):
            return 200, {"points": []}
        if path.endswith("/points") and "ids" in body:
            return 200, self._read(body["ids"], body)
        if path.endswith("/points"):
            self.points |= {point["id"]: point for point in body["points"]}
            return 200, {"operation_id": len(self.requests), "status": "completed"}
        if path.endswith("/index"):
            return 200, {"operation_id": len(self.requests), "status": "completed"}
        if method == "PUT":
            if self.collection is not None:
                return 409, f"Collection {name} already exists"
            self.collection = body
            return 200, True
        return 200, self._described()

    def _read(self, ids: list[str], body: Any) -> list[dict[str, object]]:
        asked = body["with_payload"]
        hidden = asked["exclude"] if isinstance(asked, dict) else []
        shown = {id: self.points[id]["payload"].items() for id in ids if id in self.points}
        return [
            {"id": id, "payload": {key: value for key, value in payload if key not in hidden}}
            for id, payload in shown.items()
        ]

    def _described(self) -> dict[str, object]:
        assert self.collection is not None
        params = {"vectors": self.collection["vectors"], "metadata": self.collection["metadata"]}
        hnsw = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}
        optimizer = {"deleted_threshold": 0.2, "vacuum_min_vector_number": 9, "default_segment_number": 0}
        return {
            "status": "green",
            "optimizer_status": "ok",
            "segments_count": 1,
            "payload_schema": {},
            "config": {
                "params": params,
                "hnsw_config": hnsw,
                "optimizer_config": optimizer | {"flush_interval_sec": 5},
                "metadata": self.collection["metadata"],
            },
        }


@contextmanager
def serving(fake: FakeQdrant, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[FakeQdrant]:
    """Runs the server in a thread; afterwards connections to its port are refused."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            fake.requests.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if fake.failures:
                fake.failures.pop(0)(self)
                return
            code, result = 403, cast(object, "no key, or a wrong one")
            if self.headers["api-key"] == KEY:
                code, result = fake.reply(self.command, self.path.split("?")[0], json.loads(body or b"null"))
            shown = {"result": result} if code == 200 else {"status": {"error": result}}
            text = json.dumps({"time": 0.0, "status": "ok"} | shown).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PUT = do_POST = answer  # noqa: N815 - the base class looks for these names

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    fake.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
