"""POST /v1/route: the decision without the answer."""

from typing import Any

import httpx
import pytest

from catalogue import Learnware
from tests.serving.conftest import sentences
from tests.serving.doubles import EngineDouble
from tests.serving.tiny import BASE_NAME


async def route(gateway: httpx.AsyncClient, **body: object) -> dict[str, Any]:
    response = await gateway.post("/v1/route", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["x-slmdock-decision"] == response.json()["kind"]
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize("form", ["input", "prompt", "messages"])
async def test_the_decision_with_the_best_and_why(
    form: str, gateway: httpx.AsyncClient, double: EngineDouble, learnwares: dict[str, Learnware]
) -> None:
    text = sentences("law")[7]
    answer = await route(gateway, **{form: [{"role": "user", "content": text}] if form == "messages" else text})
    assert double.bodies == []
    assert (answer["kind"], answer["cause"], answer["base_model"]) == ("auto", "", BASE_NAME)
    assert answer["learnware"] == learnwares["law"].id
    assert answer["model"] == learnwares["law"].engine_name
    assert answer["seconds"] > 0
    best, *others = answer["candidates"]
    assert (best["model"], best["chosen"], best["why"]) == (answer["model"], True, "chosen")
    assert (best["fit"], best["p_value"]) == (answer["fit"], answer["p_value"])
    assert len(others) == 2
    assert all(not one["chosen"] and one["why"].startswith("does not fit") for one in others)


async def test_none_fits_and_who_was_looked_at(gateway: httpx.AsyncClient) -> None:
    answer = await route(gateway, input="zzzz 0101 qqqq")
    assert (answer["kind"], answer["cause"], answer["learnware"]) == ("none-fits", "none-fits", None)
    assert (answer["model"], len(answer["candidates"])) == (BASE_NAME, 3)


async def test_a_rank_that_cannot_be_loaded_is_said(
    gateway: httpx.AsyncClient, double: EngineDouble, learnwares: dict[str, Learnware]
) -> None:
    named = await route(gateway, model="law", input="x")
    assert (named["kind"], named["candidates"]) == ("named", [])
    double.max_lora_rank = 2
    assert (await route(gateway, input=sentences("law")[7]))["candidates"] == []
    refused = await gateway.post("/v1/route", json={"model": "law", "input": "x"})
    assert refused.status_code == 503


@pytest.mark.parametrize(
    ("body", "words"),
    [({}, "'input', 'prompt' or 'messages'"), ({"input": "x", "model": 7}, "'model'"),
     ({"input": "x", "model": "auto:colour=red"}, "colour")],
)  # fmt: skip
async def test_bad_requests(body: dict[str, object], words: str, gateway: httpx.AsyncClient) -> None:
    response = await gateway.post("/v1/route", json=body)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


@pytest.mark.parametrize("value", [None, 7, [], [1], {"a": 1}, ""])
async def test_nothing_to_read_is_no_failure(value: object, gateway: httpx.AsyncClient) -> None:
    assert (await route(gateway, input=value))["cause"] == "no-text"
