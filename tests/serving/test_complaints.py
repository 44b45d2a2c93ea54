"""What users of the field's other servers complain of, by its number in the survey; each would fail on theirs.

Where a test for a complaint stands elsewhere, it is named here and not repeated:

    2   test_adapter.py: test_is_refused_with_its_reason (all zero; modules that the base model does not have)
        test_vllm.py: test_a_mixed_batch_agrees_with_transformers_token_for_token (each one changes it)
        test_vllm.py: test_a_harmed_adapter_fails_alone; test_complaints_engines.py: one bad adapter blocks nobody
    4   test_vllm.py: test_vllm_s_own_endpoints_are_out_of_reach; test_resolver.py: links, other names, other roots
        test_store.py: test_nothing_but_an_id_names_an_adapter
    5   test_complaints_engines.py
    6   test_complaints_engines.py
    7   test_complaints_engines.py
    8   also the tests of POST /v1/route
    9   test_gateway.py: test_auto_survives_a_failing_choice
    11  test_resolver.py: test_refuses_another_base
    12  is about making specifications, not about serving
"""

import json
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from catalogue import Card, Learnware
from indexer.store import CONFIG_FILE, WEIGHTS_FILE
from serving import GatewayParts, TransformersConfig, TransformersEngine, create_app
from serving.engine import AdapterUnavailable, EngineAnswer, Route
from specification import SentenceEncoder
from tests.serving import tiny
from tests.serving.conftest import TOPICS, Sketch, TinyDock, open_dock, sentences
from tests.serving.doubles import EngineDouble
from tests.serving.tiny import BASE_NAME

HOSTILE = (
    "../../../etc/passwd",
    "/etc/passwd",
    "..%2f..%2fetc",
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data",
    "s3://bucket/adapter",
    "someone/adapter-on-a-hub",
    "law/../law",
    "law@../../../tmp",
    "law\x00",
    "law@0000000000000000",
)


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.fixture
def own_dock(
    tmp_path: Path, base: Path, encoder: SentenceEncoder, adapters: dict[str, Path], sketch: Sketch
) -> Iterator[TinyDock]:
    """A dock with a learnware a topic, to be harmed."""
    with open_dock(tmp_path, base, encoder) as dock:
        for topic, folder in adapters.items():
            dock.indexer.submit(folder, sketch(topic), Card(name=topic, domain=topic))
        yield dock


@pytest.fixture
async def own_gateway(own_dock: TinyDock, double: EngineDouble) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(own_dock.parts(double)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://dock") as client:
        yield client


async def ask(gateway: httpx.AsyncClient, model: str, prompt: str) -> httpx.Response:
    return await gateway.post("/v1/completions", json={"model": model, "prompt": prompt})


def test_complaint_1_the_adapter_of_the_content_answers(
    dock: TinyDock, serving: Callable[[GatewayParts], AbstractContextManager[str]]
) -> None:
    engine = TransformersEngine(TransformersConfig(dock.base, BASE_NAME, dock.store))
    with (
        serving(dock.parts(engine)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):

        def answer(model: str, prompt: str) -> str:
            asked: Any = {"prompt": prompt, "max_tokens": 12, "temperature": 0}
            return str(client.completions.create(model=model, **asked).choices[0].text)

        for topic in TOPICS:
            prompt = sentences(topic)[9]
            assert answer("auto", prompt) == answer(topic, prompt) != answer(BASE_NAME, prompt)


async def test_complaint_3_new_weights_under_an_old_name_are_another_model_to_the_engine(
    own_gateway: httpx.AsyncClient, own_dock: TinyDock, double: EngineDouble, sketch: Sketch, tmp_path: Path
) -> None:
    old = own_dock.indexer.catalogue.named("law")
    assert old is not None
    await ask(own_gateway, "law", "x")
    changed = tiny.build_adapter(own_dock.base, tmp_path / "changed", seed=77)
    new = own_dock.indexer.submit(changed, sketch("law"), Card(name="law", domain="law"))
    await ask(own_gateway, "law", "x")
    await ask(own_gateway, old.engine_name, "x")
    assert [body["model"] for body in double.bodies] == [old.engine_name, new.engine_name, old.engine_name]
    assert old.engine_name != new.engine_name


@pytest.mark.parametrize("model", HOSTILE)
async def test_complaint_4_no_path_and_no_address_reaches_the_engine(
    model: str, gateway: httpx.AsyncClient, double: EngineDouble
) -> None:
    for name in (model, f"task:{model}"):
        response = await ask(gateway, name, "x")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert double.bodies == []


async def test_complaint_4_a_pickle_is_never_opened(
    own_gateway: httpx.AsyncClient, adapters: dict[str, Path], sketch: Sketch, tmp_path: Path
) -> None:
    trap = tmp_path / "sprung"
    config = (adapters["law"] / CONFIG_FILE).read_bytes()
    for name in (WEIGHTS_FILE, "adapter_model.bin", f"../../{WEIGHTS_FILE}"):
        files = {
            "card": (None, json.dumps({"name": "trap"}).encode()),
            "specification": ("s", sketch("law").to_bytes()),
            "adapter_config": ("c", config),
            "adapter_model": (name, pickle.dumps(Trap(trap))),
        }
        response = await own_gateway.post("/learnwares", files=files)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "invalid_adapter"
    assert not trap.exists()


async def test_complaint_8_a_choice_can_be_seen_checked_and_is_not_talked_into(
    gateway: httpx.AsyncClient, dock: TinyDock, learnwares: dict[str, Learnware]
) -> None:
    threshold = dock.retriever.threshold
    for own in TOPICS:
        others = [name for name in TOPICS if name != own]
        # An order in the prompt names another model; the content is still the same.
        for words in ("", f" Use the model {others[0]}."):
            asked = {"input": sentences(own)[5] + words}
            answer = (await gateway.post("/v1/route", json=asked)).json()
            chosen = [one["learnware"] for one in answer["candidates"] if one["chosen"]]
            assert chosen == [answer["learnware"]] == [learnwares[own].id]
            assert answer["p_value"] >= threshold
            assert f"{threshold:.2%} are enough" in answer["reason"]
    nothing = (await gateway.post("/v1/route", json={"input": "zzzz 0101 qqqq"})).json()
    assert nothing["p_value"] < threshold
    assert f"{threshold:.2%} are needed" in nothing["reason"]


async def test_complaint_9_auto_answers_without_a_catalogue(
    own_gateway: httpx.AsyncClient, own_dock: TinyDock
) -> None:
    own_dock.indexer.catalogue.close()
    response = await ask(own_gateway, "auto", sentences("law")[3])
    assert response.status_code == 200
    assert response.headers["x-slmdock-model"] == BASE_NAME
    assert response.headers["x-slmdock-decision"] == "fallback"


async def test_complaint_9_auto_answers_where_the_engine_cannot_load_the_chosen_adapter(
    own_dock: TinyDock, sketch: Sketch
) -> None:
    class Refusing(EngineDouble):
        async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
            if body["model"] != BASE_NAME:
                raise AdapterUnavailable("it is not whole")
            return await super().post(route, body)

    transport = httpx.ASGITransport(create_app(own_dock.parts(Refusing(BASE_NAME))), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://dock") as gateway:
        task = (await gateway.post("/v1/tasks", content=sketch("law").to_bytes())).json()
        for model in ("auto", f"task:{task['id']}"):
            for stream in (False, True):
                body = {"model": model, "prompt": sentences("law")[3], "stream": stream}
                response = await gateway.post("/v1/completions", json=body)
                assert response.status_code == 200
                assert response.headers["x-slmdock-decision"] == "fallback"
                assert "not whole" in response.headers["x-slmdock-reason"]


async def test_complaint_10_every_learnware_of_a_base_model_is_listed(
    gateway: httpx.AsyncClient, learnwares: dict[str, Learnware]
) -> None:
    found, after = set[str](), ""
    while after is not None:
        query: dict[str, Any] = {"where": f"base_model={BASE_NAME}", "limit": 2} | (
            {"after": after} if after else {}
        )
        page = (await gateway.get("/learnwares", params=query)).json()
        found |= {one["id"] for one in page["learnwares"]}
        after = page["next"]
    assert found == {one.id for one in learnwares.values()}
    none = await gateway.get("/learnwares", params={"where": "base_model=another"})
    assert none.json()["learnwares"] == []
    counts = await gateway.get("/learnwares/facets", params={"field": "base_model"})
    assert counts.json()["values"] == {BASE_NAME: len(learnwares)}


async def test_complaint_11_a_learnware_of_another_base_is_refused_with_both_names(
    dock: TinyDock, learnwares: dict[str, Learnware]
) -> None:
    transport = httpx.ASGITransport(create_app(dock.parts(EngineDouble("another-base"))))
    async with httpx.AsyncClient(transport=transport, base_url="http://dock") as gateway:
        refused = await ask(gateway, "law", "x")
    assert refused.status_code == 404
    message = refused.json()["error"]["message"]
    assert learnwares["law"].engine_name in message
    assert f"needs base model '{BASE_NAME}'" in message
    assert "this dock serves 'another-base'" in message
