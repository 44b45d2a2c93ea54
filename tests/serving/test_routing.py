"""Who answers: filters, what is read of a request, faults of routing, ranks. Catalogue and encoder are real."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from catalogue import Learnware
from retriever import Retriever
from serving.auto import by_prompt
from serving.decisions import DecisionLimits
from serving.parts import GatewayParts
from serving.prompts import MAX_TURNS, user_turns
from serving.routing import choose
from specification.errors import CatalogueError, EncoderError, InvalidInput
from tests.serving.conftest import Sketch, TinyDock, sentences
from tests.serving.doubles import EngineDouble
from tests.serving.tiny import BASE_NAME

SECRET = "a very private prompt about soup"


@pytest.fixture
def parts(dock: TinyDock, double: EngineDouble) -> GatewayParts:
    return dock.parts(double)


def asking(text: object, **fields: object) -> dict[str, object]:
    return {"prompt": text, **fields}


@pytest.mark.parametrize(
    ("body", "turns"),
    [
        ({"prompt": " one "}, ["one"]),
        ({"prompt": ["", "two", "three"]}, ["two"]),
        ({"prompt": [1, 2]}, []),
        ({"prompt": [[1], [2]]}, []),
        ({"input": "four"}, ["four"]),
        ({}, []),
        ({"messages": "x"}, []),
        (
            {
                "messages": [
                    {"role": "system", "content": "no"},
                    {"role": "user", "content": "first"},
                    {"role": "assistant", "content": "no"},
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
                    {"role": "user", "content": [{"type": "text", "text": "a"}, {"text": 7}, 7, {"text": "b"}]},
                    {"role": "user", "content": None},
                    "no",
                ]
            },
            ["first", "a\nb"],
        ),
    ],
)
def test_what_is_read(body: dict[str, object], turns: list[str]) -> None:
    assert user_turns(body) == turns


def test_of_a_long_conversation_the_newest_turns_are_read() -> None:
    said = [{"role": "user", "content": str(number)} for number in range(MAX_TURNS + 3)]
    turns = user_turns({"messages": said})
    assert (len(turns), turns[-1]) == (MAX_TURNS, str(MAX_TURNS + 2))


async def test_auto_with_a_filter(parts: GatewayParts) -> None:
    prompt = asking(sentences("law")[7])
    assert (await choose(parts, "auto:domain=law|space", prompt)).model.startswith("law@")
    elsewhere = await choose(parts, "auto:domain=cooking", prompt)
    assert (elsewhere.kind, elsewhere.cause, elsewhere.model) == ("none-fits", "none-fits", BASE_NAME)
    assert (await choose(parts, "auto:domain=nothing", prompt)).kind == "none-fits"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("auto:", "0 conditions"),
        ("auto:colour=red", "give one of name, domain"),
        ("auto:domain", "no operator"),
        ("auto:" + ",".join(["rank>=1"] * 21), "21 conditions"),
        ("auto:domain=" + "x" * 2000, "2000 at most"),
        ("auto:domain=\0", "cannot be printed"),
    ],
)
async def test_a_bad_filter_is_said(model: str, words: str, parts: GatewayParts) -> None:
    with pytest.raises(InvalidInput, match=words):
        await choose(parts, model, asking("x"))


async def test_headers_tell_the_decision(gateway: httpx.AsyncClient, learnwares: dict[str, Learnware]) -> None:
    body = {"model": "auto", "prompt": sentences("law")[7]}
    headers = (await gateway.post("/v1/completions", json=body)).headers
    law = learnwares["law"]
    assert headers["x-slmdock-learnware"] == law.id
    assert headers["x-slmdock-version"] == str(law.version)
    assert 0.05 <= float(headers["x-slmdock-p-value"]) <= 1
    assert float(headers["x-slmdock-decision-ms"]) > 0
    assert headers["x-slmdock-cause"] == ""


@pytest.mark.parametrize(
    ("error", "cause"),
    [(EncoderError("down"), "encoder"), (CatalogueError("down"), "catalogue"), (RuntimeError(SECRET), "failure")],
)
async def test_a_fault_of_routing_costs_no_answer(
    error: Exception,
    cause: str,
    parts: GatewayParts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(parts.retriever, "route", fail)
    choice = await choose(parts, "auto", asking(SECRET))
    assert (choice.kind, choice.cause, choice.model) == ("fallback", cause, BASE_NAME)
    assert SECRET not in caplog.text + choice.reason
    assert ("RuntimeError" in caplog.text) == (cause == "failure")


async def test_the_catalogue_gone_under_a_registered_task(
    parts: GatewayParts, gateway: httpx.AsyncClient, sketch: Sketch, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = (await gateway.post("/v1/tasks", content=sketch("space").to_bytes())).json()

    def fail(*_: object) -> None:
        raise CatalogueError("gone")

    monkeypatch.setattr(parts.catalogue, "get", fail)
    choice = await choose(parts, f"task:{task['id']}", asking("x"))
    assert (choice.kind, choice.cause, choice.model) == ("fallback", "catalogue", BASE_NAME)


async def test_token_ids_are_answered_by_the_base_model(parts: GatewayParts) -> None:
    choice = await choose(parts, "auto", asking([1, 2, 3]))
    assert (choice.kind, choice.cause) == ("fallback", "no-text")
    assert "token ids" in choice.reason


async def test_a_decision_that_takes_too_long(dock: TinyDock, monkeypatch: pytest.MonkeyPatch) -> None:
    double = EngineDouble(BASE_NAME)
    template = dock.parts(double)
    parts = GatewayParts(
        template.catalogue, template.retriever, template.indexer, (double,), template.tasks,
        deciding=DecisionLimits(seconds=0.05),
    )  # fmt: skip
    slow = parts.retriever.route

    def sleepy(*arguments: Any) -> object:
        time.sleep(0.3)
        return slow(*arguments)

    monkeypatch.setattr(parts.retriever, "route", sleepy)
    choice = await choose(parts, "auto", asking(sentences("law")[7]))
    assert (choice.kind, choice.cause, choice.model) == ("fallback", "deadline", BASE_NAME)
    async with parts.encoding:
        pass
    assert (await choose(parts, "auto", asking(sentences("law")[7]))).model.startswith("law@")


async def test_the_next_best_answers_where_the_best_has_too_large_a_rank(
    dock: TinyDock, learnwares: dict[str, Learnware], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = EngineDouble(BASE_NAME), EngineDouble("another/base")
    small.max_lora_rank, large.max_lora_rank = 2, 64
    parts = dock.parts(small, large)
    prompt = sentences("law")[7]
    alone = await choose(parts, "auto", asking(prompt))
    assert (alone.kind, alone.cause) == ("fallback", "adapter")
    assert "rank 4" in alone.reason

    route = Retriever.route

    def beside_another(*arguments: Any) -> object:
        """As if the second best were on the other base model and fitted too."""
        ranking = route(parts.retriever, *arguments)
        first, second = ranking.ranked[:2]
        moved = second.learnware.model_copy(update={"base_model": "another/base"})
        from dataclasses import replace

        return replace(ranking, ranked=(first, replace(second, learnware=moved, p_value=0.5)))

    monkeypatch.setattr(parts.retriever, "route", beside_another)
    choice = await choose(dock.parts(small, large), "auto", asking(prompt))
    assert (choice.kind, choice.base_model) == ("auto", "another/base")
    assert "best that can be loaded" in choice.reason


def said(*turns: str) -> dict[str, object]:
    messages: list[dict[str, str]] = []
    for turn in turns:
        messages += [{"role": "user", "content": turn}, {"role": "assistant", "content": "I see."}]
    return {"messages": messages[:-1]}


FOLLOW_UPS = (
    "and the second one?",
    "thanks!",
    "Why?",
    "Can you explain that again, please, and a bit slower?",
    "ok, make it shorter and write it as a list",
    "What about the other half of it, is that the same?",
    "What about the contract?",
)


@pytest.mark.parametrize("topic", ["cooking", "law", "space"])
@pytest.mark.parametrize("follow_up", FOLLOW_UPS)
async def test_a_conversation_stays_on_follow_ups(topic: str, follow_up: str, parts: GatewayParts) -> None:
    choice = await choose(parts, "auto", said(sentences(topic)[5], follow_up))
    assert choice.model.startswith(f"{topic}@")
    assert choice.reason.startswith("the conversation stays")


CHANGES = {
    "law": "Now something else: may my landlord cancel the lease before it ends?",
    "space": "How high above the planet is the orbit of a geostationary satellite?",
    "cooking": "And how long should I simmer the tomato sauce until it is thick?",
}


@pytest.mark.parametrize("topic", CHANGES)
async def test_a_conversation_moves_with_its_topic_and_stays_there(topic: str, parts: GatewayParts) -> None:
    for first in set(CHANGES) - {topic}:
        turns = (sentences(first)[5], CHANGES[topic])
        assert (await choose(parts, "auto", said(*turns))).model.startswith(f"{topic}@")
        later = await choose(parts, "auto", said(*turns, "and the second one?"))
        assert later.model.startswith(f"{topic}@")
        assert "since user turn 2 of 3" in later.reason


async def test_a_conversation_that_begins_with_nothing_fitting(parts: GatewayParts) -> None:
    greeting = "zzzz 0101 qqqq"
    assert (await choose(parts, "auto", said(greeting, "and the second one?"))).kind == "none-fits"
    assert (await choose(parts, "auto", said(greeting, sentences("space")[3]))).model.startswith("space@")


async def test_a_foreign_turn_does_not_take_the_conversation_away(parts: GatewayParts) -> None:
    foreign = "Which team won the league in 2010, and who scored the winning goal?"
    choice = await choose(parts, "auto", said(sentences("law")[5], foreign))
    assert choice.model.startswith("law@")


async def test_many_at_once_are_all_answered(parts: GatewayParts) -> None:
    bodies = [asking(sentences(topic)[number]) for number in range(4) for topic in ("law", "space")]
    choices = await asyncio.gather(*(by_prompt(parts, body, parts.servable) for body in bodies))
    assert [choice.model.partition("@")[0] for choice in choices] == ["law", "space"] * 4
