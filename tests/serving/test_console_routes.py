"""The console's files, and the two endpoints that only its pages ask."""

import hashlib
import json
import logging
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import httpx
import pytest

from serving import create_app
from serving.console_routes import FILES, FOLDER, MAX_EXAMPLES, MAX_EXAMPLES_BYTES, SECURITY
from specification import Specification
from tests.serving.conftest import Sketch, TinyDock, sentences
from tests.serving.doubles import EngineDouble

LINES = b"\n".join(json.dumps({"text": text}).encode() for text in sentences("law"))
SECRET = "the-landlord-of-seven-wizards"


def client_from(dock: TinyDock, double: EngineDouble, peer: str, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(
        create_app(dock.parts(double)), client=(peer, 4711), raise_app_exceptions=False
    )
    return httpx.AsyncClient(transport=transport, base_url="http://dock", headers=headers)


async def test_every_file_is_served_with_its_type_and_the_policy(gateway: httpx.AsyncClient) -> None:
    assert set(FILES) == {file.relative_to(FOLDER).as_posix() for file in FOLDER.rglob("*") if file.is_file()}
    for name in ["", *FILES]:
        answer = await gateway.get(f"/console/{name}" if name else "/")
        assert answer.status_code == 200, name
        assert answer.content == (FOLDER / (name or "index.html")).read_bytes()
        assert SECURITY.items() <= dict(answer.headers).items()
        assert answer.headers["cache-control"] == "no-cache"
        again = await gateway.get(answer.url.path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    types = {name: (await gateway.get(f"/console/{name}")).headers["content-type"] for name in FILES}
    assert types["app.js"] == "text/javascript; charset=utf-8"
    assert types["console.css"] == "text/css; charset=utf-8"
    assert (await gateway.head("/")).status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "../gateway.py", "%2e%2e/gateway.py", "/etc/passwd", "vendor", ""])
async def test_nothing_else_is_served(gateway: httpx.AsyncClient, name: str) -> None:
    assert (await gateway.get(f"/console/{name}")).status_code == 404


def test_the_page_holds_no_inline_code_and_names_no_other_origin() -> None:
    for file in FOLDER.glob("*"):
        text = file.read_text() if file.is_file() else ""
        assert "://" not in text.replace("http://www.w3.org/2000/svg", ""), file.name
        for word in ("innerHTML", "dangerouslySet", "eval(", "document.write"):
            assert word not in text, file.name
    index = (FOLDER / "index.html").read_text()
    assert "<style" not in index
    assert index.count("<script") == index.count('<script type="module" src="/console/')


def test_vendored_files_are_those_of_their_package() -> None:
    vendor = FOLDER / "vendor"
    named = {"vendor.json"}
    for entry in json.loads((vendor / "vendor.json").read_text()):
        assert hashlib.sha256((vendor / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        named |= {entry["file"], *entry["licences"]}
    assert named == {file.name for file in vendor.iterdir()}


def test_every_file_is_in_the_package() -> None:
    root = Path(__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "serving"
    ]
    for name in FILES:
        depth = name.count("/")
        assert any(fnmatch(f"console/{name}", each) and each.count("/") == depth + 1 for each in patterns), name


async def test_a_sketch_is_the_one_that_the_command_makes(
    dock: TinyDock, double: EngineDouble, sketch: Sketch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    before = sorted(dock.folder.rglob("*"))
    async with client_from(dock, double, "127.0.0.1") as client:
        assert (await client.get("/v1/console")).json()["local"] is True
        secret = json.dumps({"text": SECRET, "answer": SECRET}).encode()
        made = await client.post("/v1/sketch", content=LINES)
        learnware = await client.post("/v1/sketch?purpose=learnware", content=LINES)
        assert (await client.post("/v1/sketch", content=LINES + b"\n" + secret)).status_code == 200
        task = await client.post("/v1/tasks", content=made.content)
    found = Specification.from_bytes(made.content)
    assert found.section.calibration is None
    assert found.prompt is None
    assert Specification.from_bytes(learnware.content).digest == sketch("law").digest
    law = next(one for one in dock.indexer.catalogue.scroll().learnwares if one.name == "law")
    assert task.json()["learnware"] == law.id
    assert SECRET not in caplog.text
    kept = set(dock.folder.rglob("*")) - set(before)
    assert {file.name for file in kept} <= {"tasks", f"{task.json()['id']}.json"}


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("203.0.113.7", {}),
        ("::ffff:203.0.113.7", {}),
        ("203.0.113.7", {"x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}),
        ("127.0.0.1", {"origin": "https://dock.example"}),
    ],
)
async def test_strangers_get_no_sketch(
    dock: TinyDock, double: EngineDouble, peer: str, headers: dict[str, str]
) -> None:
    async with client_from(dock, double, peer, **headers) as client:
        refused = await client.post("/v1/sketch", content=LINES)
        assert (await client.get("/v1/console")).json()["local"] is False
    assert refused.status_code == 403
    assert "slmdock spec" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "no examples"),
        (b'{"text": "alone"}', 400, "at least 2"),
        (b'{"text": "one"}\n{"prose": "two"}', 400, "examples, line 2: no field 'text'"),
        (b'{"text": "one"}\nnot json', 400, "line 2: not JSON"),
        (b'{"text": "one"}\n\xff', 400, "line 2: not UTF-8"),
        (b'{"text": "x"}\n' * MAX_EXAMPLES + b'{"text": "y"}', 413, "the limit here is"),
        (b"x" * (MAX_EXAMPLES_BYTES + 1), 413, "exceeds the limit"),
    ],
)
async def test_bad_examples_are_refused_by_line(
    gateway: httpx.AsyncClient, body: bytes, status: int, words: str
) -> None:
    refused = await gateway.post("/v1/sketch", content=body)
    assert refused.status_code == status
    assert words in refused.json()["error"]["message"]
