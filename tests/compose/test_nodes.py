"""The Qdrant nodes of docker-compose.yml: their structure, and their entry point and health check run for real."""

import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.compose.stack import document

VERSION = re.compile(r"qdrant/qdrant:v\d+\.\d+\.\d+-unprivileged")
SECRET = "/run/secrets/qdrant_api_key"


@pytest.fixture(scope="module")
def nodes() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = document()["services"]
    return {name: service for name, service in services.items() if name.startswith("qdrant")}


def test_one_node_by_default_and_three_with_the_profile(nodes: dict[str, dict[str, Any]]) -> None:
    assert [name for name, node in nodes.items() if not node.get("profiles")] == ["qdrant"]
    assert [name for name, node in nodes.items() if node.get("profiles") == ["cluster"]] == [
        "qdrant-2",
        "qdrant-3",
    ]


def test_each_node_is_known_by_its_own_name_and_joins_the_first(nodes: dict[str, dict[str, Any]]) -> None:
    for name, node in nodes.items():
        words = node["command"]
        assert words[words.index("--uri") + 1] == f"http://{name}:6335"
        assert node["environment"]["QDRANT__CLUSTER__ENABLED"] == "true"
        assert node["volumes"] == [f"{name}:/qdrant/storage"]
        if name != "qdrant":
            assert words[words.index("--bootstrap") + 1] == "http://qdrant:6335"
            assert node["depends_on"] == {"qdrant": {"condition": "service_healthy"}}
    assert "--bootstrap" not in nodes["qdrant"]["command"]


def test_a_released_image_and_no_port_for_others(nodes: dict[str, dict[str, Any]]) -> None:
    published = [port for node in nodes.values() for port in node["ports"]]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:6333", port) for port in published)
    assert len(set(published)) == len(nodes)
    for node in nodes.values():
        assert VERSION.fullmatch(node["image"])
        assert node["secrets"] == [SECRET.rpartition("/")[2]]


@pytest.mark.parametrize("key", ["a-key", "", None])
def test_no_node_starts_without_the_key_in_its_file(
    nodes: dict[str, dict[str, Any]], tmp_path: Path, key: str | None
) -> None:
    file = tmp_path / "key"
    if key is not None:
        file.write_text(key)
    server = ["python3", "-c", "import os, sys; print(os.environ['QDRANT__SERVICE__API_KEY'], *sys.argv[1:])"]
    for node in nodes.values():
        assert node["command"][0] == "./qdrant"
        words = [word.replace(SECRET, str(file)) for word in node["entrypoint"]] + server + node["command"][1:]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        if key:
            assert done.stdout.split() == [key, *node["command"][1:]]
        else:
            assert done.returncode != 0
            assert done.stdout == ""


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check_tells_a_server_that_answers(
    nodes: dict[str, dict[str, Any]], status: int | None, healthy: bool
) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status or 500)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    if status is None:
        server.server_close()
    thread = threading.Thread(target=server.handle_request)
    if status is not None:
        thread.start()
    kind, *command = nodes["qdrant"]["healthcheck"]["test"]
    assert kind == "CMD"
    script = command.pop().replace("/6333", f"/{server.server_port}")
    done = subprocess.run([*command, script], capture_output=True, timeout=30, check=False)
    assert (done.returncode == 0) is healthy
    if status is not None:
        thread.join()
        server.server_close()
        assert asked == ["/livez"]
