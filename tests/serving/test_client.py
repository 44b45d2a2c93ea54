"""The gateway over a real socket, spoken to by the dock's own client: the same answers as from inside."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from catalogue import Card, Learnware, Signal, parse_filter
from indexer.store import CONFIG_FILE, WEIGHTS_FILE
from serving import DockClient, GatewayParts, TaskStore
from specification.errors import (
    Conflict,
    EngineError,
    InvalidAdapter,
    InvalidInput,
    ModelNotFound,
    NotFound,
    RateLimitExceeded,
    TooLarge,
)
from tests.serving.conftest import Sketch, TinyDock
from tests.serving.doubles import EngineDouble

ROOT = Path(__file__).parents[2]

Serving = Callable[[GatewayParts], AbstractContextManager[str]]


@pytest.fixture
def client(dock: TinyDock, double: EngineDouble, serving: Serving) -> Iterator[DockClient]:
    with serving(dock.parts(double)) as url, DockClient(url) as client:
        yield client


@pytest.fixture
def writer(empty_dock: TinyDock, double: EngineDouble, serving: Serving) -> Iterator[DockClient]:
    """A client of a dock without learnwares."""
    with serving(empty_dock.parts(double)) as url, DockClient(url) as client:
        yield client


def test_reads_what_the_catalogue_holds(client: DockClient, dock: TinyDock, sketch: Sketch) -> None:
    catalogue = dock.indexer.catalogue
    where = parse_filter("domain=law|space,rank>=1,rank<=8")
    assert client.health()
    assert client.learnwares() == catalogue.scroll()
    assert client.learnwares(where, limit=1) == catalogue.scroll(where, limit=1)
    assert client.find("about space", 2) == dock.retriever.find("about space", 2)
    assert client.facets("domain") == {"cooking": 1, "law": 1, "space": 1}
    assert client.learnware("law") == catalogue.named("law")
    assert client.specification_file("law") == sketch("law").to_bytes()


def test_search_is_the_retriever_s(client: DockClient, dock: TinyDock, sketch: Sketch) -> None:
    there, here = client.search(sketch("law"), 2), dock.retriever.search(sketch("law"), 2)
    assert (there.ranked, there.decision, there.candidates) == (here.ranked, here.decision, here.candidates)
    assert there.mixture == here.mixture


def test_pages_through(client: DockClient, learnwares: dict[str, Learnware]) -> None:
    first = client.learnwares(limit=2)
    second = client.learnwares(limit=2, after=first.next)
    assert len(first.learnwares + second.learnwares) == len(learnwares)
    assert second.next is None


def test_submits(writer: DockClient, empty_dock: TinyDock, adapters: dict[str, Path], sketch: Sketch) -> None:
    learnware = writer.submit(adapters["law"], sketch("law"), Card(name="law", tags=("a", "ü")))
    assert empty_dock.indexer.catalogue.get([learnware.id]) == [learnware]
    kept = empty_dock.indexer.store.path_of(learnware.id)
    assert {file.name for file in kept.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}
    assert writer.submit(adapters["law"], sketch("law"), Card(name="law", tags=("a", "ü"))) == learnware
    assert writer.register_task(sketch("law")).learnware == learnware.id


def test_what_lies_beside_an_adapter_is_held_against_the_dock_s_base(
    writer: DockClient, empty_dock: TinyDock, adapters: dict[str, Path], sketch: Sketch, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(adapters["law"], tmp_path / "law-adapter"))
    shutil.copy(empty_dock.base / "tokenizer.json", folder)
    fingerprint = empty_dock.indexer.bases.get("tiny-base").fingerprint
    (folder / "record.json").write_text(json.dumps({"base_fingerprint": fingerprint}))
    assert writer.submit(folder, sketch("law"), Card(name="law")).name == "law"
    (folder / "record.json").write_text(json.dumps({"base_fingerprint": {"weights": "0" * 64}}))
    with pytest.raises(InvalidAdapter, match=r"^record\.json: .*another base model tiny-base than .* \(weights"):
        writer.submit(folder, sketch("law"), Card(name="law"))
    (folder / "record.json").unlink()
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    with pytest.raises(InvalidAdapter, match=r"another base model tiny-base than this dock's \(tokenizer\.json"):
        writer.submit(folder, sketch("law"), Card(name="law"))


def test_an_adapter_of_a_base_that_is_named_in_the_request(
    writer: DockClient, adapters: dict[str, Path], sketch: Sketch, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(adapters["law"], tmp_path / "law-adapter"))
    config = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(config | {"base_model_name_or_path": "/home/somebody/base"}))
    with pytest.raises(InvalidAdapter, match=r"known: tiny-base\); 'slmdock base add' it"):
        writer.submit(folder, sketch("law"), Card(name="law"))
    learnware = writer.submit(folder, sketch("law"), Card(name="law"), base="tiny-base")
    assert writer.submit(adapters["law"], sketch("law"), Card(name="law")) == learnware
    with pytest.raises(NotFound, match="base model 'other' is not known"):
        writer.submit(folder, sketch("law"), Card(name="law"), base="other")


def test_what_is_in_under_another_name_is_renamed_on_demand(
    writer: DockClient, adapters: dict[str, Path], sketch: Sketch
) -> None:
    learnware = writer.submit(adapters["law"], sketch("law"), Card(name="law"))
    with pytest.raises(Conflict, match=r"already as law; .*--rename' \(over the API: rename=true\) to rename it"):
        writer.submit(adapters["law"], sketch("law"), Card(name="justice"))
    assert writer.learnware("law") == learnware
    renamed = writer.submit(adapters["law"], sketch("law"), Card(name="justice"), rename=True)
    assert (renamed.id, renamed.name) == (learnware.id, "justice")


def test_a_near_duplicate_is_pointed_out(writer: DockClient, adapters: dict[str, Path], sketch: Sketch) -> None:
    first = writer.submit(adapters["law"], sketch("law"), Card(name="law"))
    second = writer.submit(adapters["space"], sketch("law"), Card(name="justice"))
    assert [(near.id, near.by, near.likeness) for near in second.near_duplicates] == [
        (first.id, "specification", 1)
    ]
    assert writer.learnware("justice") == second
    (arrived,) = [change for change in writer.history("justice") if change.state == "submitted"]
    assert arrived.why == "almost the same as law@1 by specification (1.0000)"


def test_task_that_nothing_fits(writer: DockClient, sketch: Sketch) -> None:
    task = writer.register_task(sketch("law"))
    assert task.learnware is None
    assert task.reason.startswith("none fits")


def test_a_task_registered_again_is_decided_anew(
    writer: DockClient, empty_dock: TinyDock, adapters: dict[str, Path], sketch: Sketch
) -> None:
    tasks = TaskStore(empty_dock.folder / "tasks")
    first = writer.register_task(sketch("law"))
    learnware = writer.submit(adapters["law"], sketch("law"), Card(name="law"))
    assert tasks.get(first.id) == first
    assert first.learnware is None
    assert writer.register_task(sketch("law")).learnware == learnware.id


def test_a_damaged_task_is_cured_by_registering_it_again(
    writer: DockClient, empty_dock: TinyDock, sketch: Sketch
) -> None:
    tasks = TaskStore(empty_dock.folder / "tasks")
    id = writer.register_task(sketch("law")).id
    (tasks.root / f"{id}.json").write_bytes(b"{")
    assert writer.register_task(sketch("law")) == tasks.get(id)


def test_refused_uploads_change_nothing(
    writer: DockClient, empty_dock: TinyDock, adapters: dict[str, Path], sketch: Sketch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    with pytest.raises(InvalidAdapter, match=CONFIG_FILE):
        writer.submit(broken, sketch("law"), Card(name="law"))
    (broken / CONFIG_FILE).write_bytes((adapters["law"] / CONFIG_FILE).read_bytes())
    (broken / WEIGHTS_FILE).write_bytes(b"no tensors")
    with pytest.raises(InvalidAdapter, match=f"^{WEIGHTS_FILE}: "):
        writer.submit(broken, sketch("law"), Card(name="law"))
    with pytest.raises(InvalidInput, match="tiny-base"):
        writer.submit(adapters["law"], sketch("law"), Card(name="tiny-base"))
    assert empty_dock.indexer.catalogue.count() == 0
    assert list(empty_dock.indexer.store.ids()) == []


def test_uploads_are_limited(
    writer: DockClient, adapters: dict[str, Path], sketch: Sketch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.learnwares.MAX_UPLOAD_BYTES", 10_000)
    with pytest.raises(TooLarge, match="10000"):
        writer.submit(adapters["law"], sketch("law"), Card(name="law"))


def test_errors_keep_their_class(client: DockClient) -> None:
    with pytest.raises(NotFound, match="nobody"):
        client.learnware("nobody")
    with pytest.raises(InvalidInput, match="colour"):
        client.facets("colour")


def test_a_process_that_has_the_client_alone_knows_every_error_of_a_gateway() -> None:
    script = (
        "from serving import client\n"
        "known = set(client._CLASSES.values())\n"
        "import serving.gateway\n"
        "print(*(error.__name__ for error in client._tree(client.DockError) if error not in known))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_a_model_that_is_not_there_is_that(client: DockClient) -> None:
    with pytest.raises(ModelNotFound, match="nobody"):
        client.route("text", "nobody")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [({"retry-after": "17"}, 17), ({}, 1), ({"retry-after": "Sun, 22 Nov 2026 08:00:00 GMT"}, 1)],
)
def test_when_to_come_again_is_kept(header: dict[str, str], seconds: int) -> None:
    body = {"error": {"message": "too many requests", "code": "rate_limit_exceeded"}}
    full = httpx.MockTransport(lambda request: httpx.Response(429, json=body, headers=header))
    with (
        DockClient("http://dock", full) as client,
        pytest.raises(RateLimitExceeded, match="too many requests") as caught,
    ):
        client.learnwares()
    assert caught.value.retry_after == seconds


def test_the_map_and_a_task_s_place_on_it(client: DockClient, sketch: Sketch) -> None:
    with pytest.raises(Conflict, match="being made"):
        client.place(sketch("law"))
    deadline = time.monotonic() + 60
    while (found := client.map()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert sorted(found.references) == ["cooking@1", "law@1", "space@1"]
    own = found.references.index("law@1")
    assert client.place(sketch("law")) == (found.x[own], found.y[own])


def test_a_map_that_is_being_made_is_none(sketch: Sketch) -> None:
    making = httpx.MockTransport(lambda request: httpx.Response(202, json={"done": 7}))
    with DockClient("http://dock", making) as client:
        assert client.map() is None
        with pytest.raises(EngineError, match="is no dock: POST /v1/map"):
            client.place(sketch("law"))


def test_a_dock_that_is_silent_for_too_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with DockClient(url, timeout=0.1) as client, pytest.raises(EngineError, match=f"{url} does not answer: ."):
            client.learnwares()


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_what_is_no_time_to_wait(timeout: float) -> None:
    with pytest.raises(InvalidInput, match="timeout"):
        DockClient("http://dock", timeout=timeout)


def test_nobody_there(free_url: str) -> None:
    with DockClient(free_url) as client:
        assert not client.health()
        with pytest.raises(EngineError, match=free_url):
            client.learnwares()


@pytest.mark.parametrize("name", ["", ".", "..", "law/specification", "law?x=1", "\ud800"])
def test_what_can_be_no_name_is_not_found(name: str, client: DockClient) -> None:
    with pytest.raises(NotFound, match="no learnware"):
        client.learnware(name)


def test_text_that_cannot_be_sent_is_refused(client: DockClient) -> None:
    with pytest.raises(InvalidInput, match="query"):
        client.find("\ud800")
    with pytest.raises(InvalidInput, match="too long"):
        client.find("x" * 70_000)


@pytest.mark.parametrize("url", ["http://::1:8000", "http://\ud800", "http://host/\ud800"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(InvalidInput, match="dock URL"):
        DockClient(url)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<html>A router</html>"),
        httpx.Response(200),
        httpx.Response(200, content=b"\xff\xfe\x00"),
        httpx.Response(200, json={"learnwares": []}),
        httpx.Response(302, headers={"location": "http://elsewhere/"}),
        httpx.Response(404, html="<html>Not here</html>"),
        httpx.Response(502, content=b"\xff\xfe\x00"),
        httpx.Response(500, json={"error": {"message": None}}),
        httpx.Response(500, json={"error": "text"}),
    ],
)
def test_a_server_that_is_no_dock(answer: httpx.Response, sketch: Sketch) -> None:
    with DockClient("http://stranger", httpx.MockTransport(lambda request: answer)) as client:
        calls: list[Callable[[], object]] = [
            client.learnwares,
            lambda: client.find("text"),
            lambda: client.learnware("law"),
            lambda: client.facets("domain"),
            lambda: client.search(sketch("law")),
            lambda: client.register_task(sketch("law")),
        ]
        for call in calls:
            with pytest.raises(EngineError, match="what answers at http://stranger is no dock"):
                call()


def test_attaches_quality(
    writer: DockClient, empty_dock: TinyDock, adapters: dict[str, Path], sketch: Sketch
) -> None:
    learnware = writer.submit(adapters["law"], sketch("law"), Card(name="law"))
    digest = writer.measure(sketch("cooking"))
    assert empty_dock.indexer.measured.get(digest) is not None
    signal = Signal(kind="capability", task="bar exam", value=0.25, specification=digest, source="a file")
    rated = writer.attach("law", [signal])
    assert rated == learnware.model_copy(update={"quality": (signal,)})
    assert empty_dock.indexer.catalogue.get([learnware.id]) == [rated]
    with pytest.raises(NotFound, match="nobody"):
        writer.attach("nobody", [signal])
    with pytest.raises(TooLarge, match="quality signals"):
        writer.attach("law", [signal.model_copy(update={"task": f"t{n}"}) for n in range(200)])
