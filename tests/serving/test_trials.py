"""Trials over a real socket, with the exact engine and tiny adapters; labels are what one learnware answers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
import torch

from catalogue import Learnware, parse_filter
from retriever import HalvingRule
from serving import DockClient, GatewayParts, TransformersConfig, TransformersEngine
from serving.trial_run import TrialOptions, TrialRun
from serving.trial_wire import Questions
from serving.trials import MAX_TRIAL_BYTES
from specification import Example
from specification.errors import InvalidInput, NotFound, TooLarge
from tests.serving.conftest import Sketch, TinyDock, sentences
from tests.serving.doubles import EngineDouble
from tests.serving.tiny import BASE_NAME

Serving = Callable[[GatewayParts], AbstractContextManager[str]]
PROMPTS = sentences("law")[:12]


@pytest.fixture(scope="module")
def client(dock: TinyDock, serving: Serving) -> Iterator[DockClient]:
    engine = TransformersEngine(TransformersConfig(dock.base, BASE_NAME, dock.store))
    with serving(dock.parts(engine)) as url, DockClient(url) as client:
        yield client


@pytest.fixture
def task(client: DockClient, sketch: Sketch) -> str:
    return client.register_task(sketch("law")).id


@pytest.fixture(scope="module")
def labelled(client: DockClient, sketch: Sketch, learnwares: dict[str, Learnware]) -> list[Example]:
    """Prompts whose gold answer is what ``space`` says, the best learnware though the match is with ``law``."""
    task = client.register_task(sketch("law")).id
    asked = Questions(models=[learnwares["space"].engine_name], prompts=PROMPTS, max_tokens=16)
    texts = client.trial_answers(task, asked).answers[0].texts
    return [
        Example(prompt, text.strip().partition("\n")[0] or "?")
        for prompt, text in zip(PROMPTS, texts, strict=True)
    ]


def test_the_base_model_takes_part(client: DockClient, sketch: Sketch, task: str) -> None:
    field = client.trial_candidates(sketch("law"), top=2)
    assert field.candidates[0].name == "law"
    assert (field.candidates[-1].model, field.candidates[-1].learnware) == (BASE_NAME, "")
    assert len(field.candidates) == 3
    assert [row[place] for place, row in enumerate(field.similarity)] == pytest.approx([1] * 3)
    everyone = client.trial_candidates(sketch("law"), top=2, where=parse_filter("domain=space"))
    assert [one.name for one in everyone.candidates] == ["space", BASE_NAME]
    with pytest.raises(NotFound, match="no learnware to try"):
        client.trial_candidates(sketch("law"), where=parse_filter("domain=nothing"))


def test_the_winner_is_found_and_kept(client: DockClient, sketch: Sketch, labelled: list[Example]) -> None:
    options = TrialOptions(score="f1", max_tokens=16, rule=HalvingRule(first=4))
    seen: list[tuple[int, int]] = []
    report = TrialRun(client, sketch("law"), labelled, options).run(lambda done, total: seen.append((done, total)))
    assert report.winner.candidate.name == "space"
    assert report.winner.low <= report.winner.mean <= report.winner.high
    assert report.gain > 0.9
    assert report.answers <= report.without_stopping == 12 * 4
    assert report.prompt_tokens > 0 < report.completion_tokens
    assert sum(each.tokens for each in report.standings) == report.prompt_tokens + report.completion_tokens
    assert seen[-1][0] == report.examples <= seen[-1][1] == 12
    kept = client.keep_outcome(report.task, report.outcome())
    assert kept.learnware == report.winner.candidate.learnware
    assert kept.trial is not None
    answer = httpx.post(f"{client.url}/v1/completions", trust_env=False, json={
        "model": f"task:{report.task}", "prompt": "a", "max_tokens": 1,
    })  # fmt: skip
    assert answer.headers["x-slmdock-model"].startswith("space@")
    assert answer.headers["x-slmdock-reason"].startswith("trial: space was best on")
    assert client.register_task(sketch("law")).trial is None


def test_a_trial_becomes_signals_of_those_who_answered(
    client: DockClient, sketch: Sketch, labelled: list[Example]
) -> None:
    report = TrialRun(client, sketch("law"), labelled, TrialOptions(score="exact", examples=4, top=1)).run()
    own, base = report.standings if report.winner.candidate.learnware else reversed(report.standings)
    signals = report.signals(sketch("law").digest)
    assert list(signals) == [own.candidate.learnware]
    learned, bare = signals[own.candidate.learnware]
    assert (learned.subject, learned.value, learned.examples) == ("learnware", round(own.mean, 6), own.examples)
    assert (bare.subject, bare.value, bare.examples) == ("base", round(base.mean, 6), base.examples)
    assert {signal.specification for signal in (learned, bare)} == {sketch("law").digest}


def test_no_label_is_sent(
    client: DockClient, sketch: Sketch, labelled: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    send = client._client.send

    def spy(request: httpx.Request, **rest: Any) -> httpx.Response:
        sent.append(request.read())
        return send(request, **rest)

    monkeypatch.setattr(client._client, "send", spy)
    secret = [Example(example.text, f"secret label {place}") for place, example in enumerate(labelled)]
    report = TrialRun(client, sketch("law"), secret, TrialOptions(examples=4, max_tokens=2)).run()
    client.keep_outcome(report.task, report.outcome())
    assert len(sent) >= 4
    assert b"secret" not in b"".join(sent)


def test_likelihoods_of_choices_are_the_model_s_own(client: DockClient, dock: TinyDock, task: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(dock.base)
    tokenizer: Any = AutoTokenizer.from_pretrained(dock.base)
    prompts, choices = ["the quick ", "seven wizards make\n"], ["fox", "toxic brew"]
    found = client.trial_answers(task, Questions(models=[BASE_NAME], prompts=prompts, choices=choices))
    for prompt, row in zip(prompts, found.answers[0].likelihoods, strict=True):
        for choice, likelihood in zip(choices, row, strict=True):
            ids = tokenizer(prompt + choice, return_tensors="pt").input_ids
            start = len(tokenizer(prompt.rstrip()).input_ids)
            odds = torch.log_softmax(model(ids).logits[0, :-1], -1)
            expected = odds.gather(1, ids[0, 1:, None])[start - 1 :].sum()
            assert likelihood == pytest.approx(expected.item(), abs=1e-3)


def test_choices_are_scored_by_likelihood(client: DockClient, sketch: Sketch) -> None:
    examples = [Example(prompt, "yes" if place % 2 else "no") for place, prompt in enumerate(PROMPTS)]
    run = TrialRun(client, sketch("law"), examples, TrialOptions(examples=4))
    assert (run.kind, run.choices) == ("choice", ["no", "yes"])
    assert 0 <= run.run().winner.mean <= 1


def test_an_adapter_that_cannot_be_loaded_costs_its_learnware_only(
    client: DockClient, sketch: Sketch, labelled: list[Example], dock: TinyDock, learnwares: dict[str, Learnware]
) -> None:
    folder = dock.indexer.store.path_of(learnwares["cooking"].id)
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    try:
        report = TrialRun(client, sketch("law"), labelled, TrialOptions(score="f1", max_tokens=16)).run()
    finally:
        hidden.rename(folder)
    assert report.winner.candidate.name == "space"
    assert report.standings[-1].candidate.name == "cooking"
    assert "does not exist" in report.standings[-1].error


def test_interrupted_it_tells_what_it_knows(client: DockClient, sketch: Sketch, labelled: list[Example]) -> None:
    options = TrialOptions(score="f1", max_tokens=4, rule=HalvingRule(risk=0, tolerance=0, first=4))
    run = TrialRun(client, sketch("law"), labelled, options)

    def stop(done: int, total: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    with pytest.raises(InvalidInput, match="nothing is known yet"):
        run.report()
    with pytest.raises(KeyboardInterrupt):
        run.run(stop)
    assert (run.report().examples, run.report().stopped) == (4, "interrupted")


@pytest.mark.parametrize(
    ("examples", "options", "message"),
    [
        ([Example("a", "b"), Example("c")], TrialOptions(), "1 of 2 examples have no 'answer'"),
        ([Example("a", "b"), Example("x" * 100_001, "b")], TrialOptions(), "100001 characters"),
        ([Example("a", "b")] * 4, TrialOptions(top=0), "0 learnwares"),
        ([Example("a", "b")] * 4, TrialOptions(max_tokens=9999), "9999 tokens"),
        ([Example("a", "b")] * 4, TrialOptions(score="choice"), "1 different answers"),
        ([Example("a", "b"), Example("a", "c")], TrialOptions(score="choice", chat=True), "in a chat"),
    ],
)
def test_the_user_s_mistakes_are_named(
    examples: list[Example], options: TrialOptions, message: str, client: DockClient, sketch: Sketch
) -> None:
    with pytest.raises(InvalidInput, match=message):
        TrialRun(client, sketch("law"), examples, options)


async def test_bad_requests_are_named(gateway: httpx.AsyncClient, sketch: Sketch, double: EngineDouble) -> None:
    task = (await gateway.post("/v1/tasks", content=sketch("law").to_bytes())).json()["id"]
    good: dict[str, Any] = {"models": [BASE_NAME], "prompts": ["a"]}
    outcome = {"winner": "", "fit": 0, "score": 0.5, "low": 0.4, "high": 0.6, "probability": 0.9, "examples": 8}
    asked: list[tuple[str, dict[str, Any], int, str]] = [
        ("", good | {"models": []}, 400, "models"),
        ("", good | {"models": ["auto"]}, 400, "cannot take part"),
        ("", good | {"models": ["nobody"]}, 404, "does not exist"),
        ("", good | {"prompts": ["a"] * 65}, 400, "prompts"),
        ("", good | {"max_tokens": 100_000}, 400, "max_tokens"),
        ("", good | {"choices": ["a", "b"], "chat": True}, 400, "chat"),
        (
            "",
            good | {"models": ["m"] * 32, "prompts": ["a"] * 64, "choices": list("abcdefgh")},
            400,
            "limit is 8192",
        ),
        ("", good | {"answers": ["b"]}, 400, "answers"),
        ("/outcome", outcome | {"winner": "0" * 64}, 404, "no learnware"),
        ("/outcome", outcome | {"score": 2}, 400, "score"),
    ]
    for path, body, status, message in asked:
        response = await gateway.post(f"/v1/tasks/{task}/trial{path}", json=body)
        assert (response.status_code, message in response.text) == (status, True), response.text
    other = sketch("space").to_bytes()
    response = await gateway.post(f"/v1/tasks/{task}/trial/candidates", content=other)
    assert response.status_code == 400
    for path, body in (("", good), ("/outcome", outcome)):
        assert (await gateway.post(f"/v1/tasks/{'0' * 16}/trial{path}", json=body)).status_code == 404
    big = await gateway.post(f"/v1/tasks/{task}/trial", content=b" " * (MAX_TRIAL_BYTES + 1))
    assert big.status_code == TooLarge.status
    double.mode = "dead"
    assert (await gateway.post(f"/v1/tasks/{task}/trial", json=good)).status_code == 503


async def test_the_base_model_may_win(gateway: httpx.AsyncClient, sketch: Sketch) -> None:
    task = (await gateway.post("/v1/tasks", content=sketch("law").to_bytes())).json()["id"]
    outcome = {"winner": "", "fit": 0, "score": 0.5, "low": 0.4, "high": 0.6, "probability": 0.9, "examples": 8}
    kept = (await gateway.post(f"/v1/tasks/{task}/trial/outcome", json=outcome)).json()
    assert kept["learnware"] is None
    answer = await gateway.post("/v1/completions", json={"model": f"task:{task}", "prompt": "a"})
    assert answer.headers["x-slmdock-model"] == BASE_NAME
    assert "trial: the base model was best" in answer.headers["x-slmdock-reason"]


def test_a_prompt_that_is_too_long_for_the_model_is_named(client: DockClient, task: str) -> None:
    with pytest.raises(InvalidInput, match="do not fit"):
        client.trial_answers(task, Questions(models=[BASE_NAME], prompts=["x " * 400]))
