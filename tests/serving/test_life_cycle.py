"""The life of learnwares through the real gateway: who may change it, who answers meanwhile, and the history."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from catalogue import Card, Learnware
from serving import DockClient, GatewayParts, Pool
from serving.access import KEYLESS
from serving.keys import KeyRequest, KeyStore, Role
from specification.errors import Conflict, HistoryUnavailable, InvalidInput, NotFound, PermissionDenied
from tests.serving.conftest import Sketch, TinyDock, sentences
from tests.serving.doubles import EngineDouble

Serving = Callable[[GatewayParts], AbstractContextManager[str]]


@dataclass
class House:
    """A gateway with keys over an empty dock, and a client for each role, its key named like it."""

    parts: GatewayParts
    pool: Pool
    url: str
    keys: dict[Role, str]
    search: DockClient
    serve: DockClient
    publish: DockClient
    admin: DockClient

    def ask(self, model: str, prompt: str = "x") -> httpx.Response:
        headers = {"authorization": f"Bearer {self.keys['serve']}"}
        body = {"model": model, "prompt": prompt}
        return httpx.post(f"{self.url}/v1/completions", json=body, headers=headers, trust_env=False)

    def answering(self, model: str, prompt: str = "x") -> str:
        """The id of the learnware that answers, empty for the base model."""
        answer = self.ask(model, prompt)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-slmdock-learnware"]

    def refusal(self, model: str) -> str:
        """Why nobody answers to that name."""
        answer = self.ask(model)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        return str(answer.json()["error"]["message"])

    def happened(self, reference: str = "") -> list[tuple[str, str, str]]:
        """Names, states and who, oldest first."""
        found = self.search.history(reference)[::-1]
        return [(f"{one.name}@{one.version}", one.state, one.who) for one in found]


@pytest.fixture
def house(empty_dock: TinyDock, double: EngineDouble, serving: Serving) -> Iterator[House]:
    keys = KeyStore(empty_dock.folder / "keys.json")
    roles: tuple[Role, ...] = ("search", "serve", "publish", "admin")
    made = {role: keys.create_key(KeyRequest(name=role, roles=(role,))).secret for role in roles}
    pool = Pool([double])
    parts = replace(empty_dock.parts(pool), keys=keys)
    with serving(parts) as url, contextlib.ExitStack() as clients:
        by_role = {str(role): clients.enter_context(DockClient(url, key=made[role])) for role in roles}
        yield House(parts, pool, url, made, **by_role)


@pytest.fixture
def two(house: House, adapters: dict[str, Path], sketch: Sketch) -> tuple[Learnware, Learnware]:
    """Two versions of one learnware, the second held back."""
    first = house.publish.submit(adapters["law"], sketch("law"), Card(name="law"))
    second = house.publish.submit(adapters["space"], sketch("law"), Card(name="law"), "checked")
    assert [(one.version, one.status) for one in (first, second)] == [(1, "published"), (2, "checked")]
    return first, second


def test_from_held_back_to_deleted(house: House, two: tuple[Learnware, Learnware], sketch: Sketch) -> None:
    first, second = two

    def found() -> list[str]:
        return [item.learnware.id for item in house.search.search(sketch("law")).ranked]

    prompt = sentences("law")[0]
    for name in ("law", "law@1", first.id, first.engine_name):
        assert house.answering(name) == first.id
    for name in ("law@2", second.id, second.engine_name):
        assert "is checked, and only published ones answer; 'slmdock status law'" in house.refusal(name)
    assert (found(), house.answering("auto", prompt)) == ([first.id], first.id)

    assert house.publish.move("law@2", "published", "looks good").status == "published"
    assert [house.answering(name) for name in ("law", "law@1", "law@2")] == [second.id, first.id, second.id]
    assert (found(), house.answering("auto", prompt)) == ([second.id], second.id)

    house.publish.move("law@1", "retired")
    assert "is retired, and only published ones answer" in house.refusal("law@1")
    house.publish.move("law", "quarantined", "it lies")
    for name in ("law", "law@2"):
        assert f"{second.engine_name} is quarantined" in house.refusal(name)
    assert (found(), house.answering("auto", prompt)) == ([], "")

    gone = house.admin.delete("law@2", why="it still lies")
    assert (gone.id, gone.status) == (second.id, "quarantined")
    assert "does not exist" in house.refusal("law@2")
    assert list(house.parts.indexer.store.ids()) == [first.id]
    assert house.happened() == [
        ("law@1", "submitted", "publish"), ("law@1", "checked", "publish"), ("law@1", "published", "publish"),
        ("law@2", "submitted", "publish"), ("law@2", "checked", "publish"), ("law@2", "published", "publish"),
        ("law@1", "retired", "publish"), ("law@2", "quarantined", "publish"), ("law@2", "deleted", "admin"),
    ]  # fmt: skip
    assert [one.why for one in house.search.history("law@2", 3)] == ["it still lies", "it lies", "looks good"]


def test_a_task_stays_with_its_version_until_it_is_decided_anew(
    house: House, two: tuple[Learnware, Learnware], adapters: dict[str, Path], sketch: Sketch
) -> None:
    first, second = two
    task = house.serve.register_task(sketch("law"))
    assert house.answering(f"task:{task.id}") == first.id
    house.publish.move("law@2", "published")
    again = house.publish.submit(adapters["law"], sketch("law"), Card(name="law", description="New words"))
    assert (again.id, again.version) == (first.id, 1)
    assert house.answering(f"task:{task.id}") == first.id
    house.publish.move("law@1", "retired")
    answer = house.ask(f"task:{task.id}")
    assert (answer.status_code, answer.headers["x-slmdock-decision"]) == (200, "fallback")
    assert "is retired" in answer.headers["x-slmdock-reason"]
    assert house.serve.register_task(sketch("law")).learnware == second.id
    assert house.answering(f"task:{task.id}") == second.id


def test_what_a_task_uses_is_deleted_by_force_alone(
    house: House, two: tuple[Learnware, Learnware], sketch: Sketch
) -> None:
    first, _ = two
    task = house.serve.register_task(sketch("law"))
    (house.parts.tasks.root / f"{'0' * 16}.json").write_bytes(b"{")
    with pytest.raises(Conflict, match=rf"law@1 answers registered tasks, 1 in number \({task.id}\)"):
        house.admin.delete("law@1")
    assert house.answering(f"task:{task.id}") == first.id
    house.admin.delete("law@2")
    house.admin.delete("law@1", force=True)
    answer = house.ask(f"task:{task.id}")
    assert (answer.status_code, answer.headers["x-slmdock-decision"]) == (200, "fallback")
    assert house.parts.indexer.catalogue.count() == 0
    assert list(house.parts.indexer.store.ids()) == []


def test_who_may_do_what(house: House, two: tuple[Learnware, Learnware]) -> None:
    for client in (house.search, house.serve):
        with pytest.raises(PermissionDenied, match="the role publish or admin"):
            client.move("law@1", "retired")
    for client in (house.search, house.serve, house.publish):
        with pytest.raises(PermissionDenied, match="the role admin"):
            client.delete("law@1")
    with pytest.raises(PermissionDenied, match="role search or publish or admin"):
        house.serve.history()
    house.publish.move("law@1", "quarantined")
    with pytest.raises(PermissionDenied, match="law@1 is quarantined; only a key with the role admin"):
        house.publish.move("law@1", "published")
    assert house.admin.move("law@1", "published").status == "published"
    assert house.happened("law@1")[-2:] == [("law@1", "quarantined", "publish"), ("law@1", "published", "admin")]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "new state: field 'state': Field required"),
        ({"state": "verified"}, "new state: field 'state'"),
        ({"state": "deleted"}, "new state: field 'state'"),
        ({"state": "retired", "who": "root"}, "new state: field 'who'"),
        ({"state": "retired", "why": "x" * 2001}, "new state: field 'why'"),
        ({"state": "retired", "why": "\x1b"}, "new state: field 'why'"),
        ([], "a JSON list, expected an object"),
    ],
)
def test_bad_moves_change_nothing(
    house: House, two: tuple[Learnware, Learnware], body: object, message: str
) -> None:
    headers = {"authorization": f"Bearer {house.keys['admin']}"}
    answer = httpx.post(f"{house.url}/learnwares/law@1/state", json=body, headers=headers, trust_env=False)
    assert (answer.status_code, message in answer.json()["error"]["message"]) == (400, True), answer.text
    assert house.search.learnware("law@1") == two[0]


def test_other_mistakes_keep_their_class(house: House, two: tuple[Learnware, Learnware]) -> None:
    with pytest.raises(Conflict, match="law@1 is published and cannot become published, only retired or quar"):
        house.publish.move("law", "published")
    with pytest.raises(NotFound, match="no learnware"):
        house.admin.move("law@3", "retired")
    with pytest.raises(NotFound, match="no learnware"):
        house.admin.delete("nobody")
    with pytest.raises(InvalidInput, match="why: "):
        house.admin.delete("law@1", why="\x1b")
    with pytest.raises(InvalidInput, match="is no learnware's name"):
        house.search.history("law/1")
    with pytest.raises(InvalidInput, match="limit"):
        house.search.history(limit=0)
    house.parts.indexer.history.path.write_bytes(b"damaged")
    with pytest.raises(HistoryUnavailable, match="damaged"):
        house.search.history()


def test_the_history_comes_in_pages(house: House, two: tuple[Learnware, Learnware]) -> None:
    headers = {"authorization": f"Bearer {house.keys['search']}"}
    with httpx.Client(base_url=house.url, headers=headers, trust_env=False) as client:
        page = client.get("/history", params={"learnware": "law", "limit": 3}).json()
        rest = client.get("/history", params={"learnware": "law", "limit": 3, "before": page["next"]}).json()
    assert [one["number"] for one in page["data"] + rest["data"]] == [5, 4, 3, 2, 1]
    assert (page["next"], rest["next"]) == (3, None)


def test_engines_let_go_of_what_answers_no_more(house: House, two: tuple[Learnware, Learnware]) -> None:
    first, second = two
    house.publish.move("law@2", "published")
    for one in two:
        house.answering(one.id)
        house.pool.pin(one.engine_name)
    (replica,) = house.pool.replicas
    assert all(one.engine_name in replica.residency for one in two)
    house.publish.move("law@1", "quarantined")
    assert list(house.pool.pins) == [second.engine_name]
    assert first.engine_name not in replica.residency
    headers = {"authorization": f"Bearer {house.keys['admin']}"}
    refused = httpx.put(f"{house.url}/v1/residency/pins/law@1", headers=headers, trust_env=False)
    assert (refused.status_code, "is published" in refused.text) == (404, True)
    house.admin.delete("law@2")
    assert list(house.pool.pins) == []
    assert len(replica.residency) == 0


def test_a_refused_upload_is_recorded_under_its_key(
    house: House, adapters: dict[str, Path], sketch: Sketch
) -> None:
    with pytest.raises(InvalidInput, match="tiny-base"):
        house.publish.submit(adapters["law"], sketch("law"), Card(name="tiny-base"))
    (refused,) = house.search.history()
    assert (refused.name, refused.state, refused.who) == ("tiny-base", "refused", "publish")
    assert "is the name of a base model" in refused.why


def test_without_keys_the_change_is_this_machine_s(
    empty_dock: TinyDock, double: EngineDouble, serving: Serving, adapters: dict[str, Path], sketch: Sketch
) -> None:
    with serving(empty_dock.parts(double)) as url, DockClient(url) as client:
        client.submit(adapters["law"], sketch("law"), Card(name="law"))
        client.move("law", "quarantined", "a test")
        client.move("law", "published")
        client.delete("law")
        assert [one.state for one in client.history("law", 3)] == ["deleted", "published", "quarantined"]
        assert {one.who for one in client.history()} == {KEYLESS}
