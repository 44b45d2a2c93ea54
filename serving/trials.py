"""Trials: several learnwares answer the same prompts in one batch. Only the client knows who is right."""

import asyncio
import json
import time
from collections.abc import Mapping, Set
from dataclasses import dataclass
from math import isnan
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from catalogue import parse_filter
from catalogue.learnware import WHOLE_MODEL, describe
from retriever import trial_candidates, with_base
from serving.engine import Engine, LearnwareUnavailable, Route
from serving.openapi import binary_body, json_body
from serving.parts import GatewayParts, Parts
from serving.requests import read_body, while_connected
from serving.routing import choose
from serving.tasks import TASK_ID_LENGTH, Task
from serving.trial_wire import (
    MAX_MODELS,
    Answers,
    Candidate,
    CandidateAnswers,
    CandidateField,
    Questions,
    TrialOutcome,
)
from serving.warming import warm_task
from serving.wire import parse_object
from specification import MAX_SPECIFICATION_BYTES, Specification
from specification.errors import EngineError, InvalidInput, NotFound

MAX_TRIAL_BYTES = 8 * 2**20
IN_FLIGHT = 128

Message = TypeVar("Message", bound=BaseModel)

router = APIRouter(prefix="/v1/tasks/{id}/trial", tags=["Trials"])


@router.post("/candidates", openapi_extra=binary_body("The task's specification file."))
async def list_candidates(
    id: str, request: Request, parts: Parts, top: Annotated[int, Query(ge=1, lt=MAX_MODELS)] = 10, where: str = ""
) -> CandidateField:
    """Chooses who takes part for the task whose specification file is the body; the base model comes last."""
    condition = parse_filter(where)
    data = await read_body(request, MAX_SPECIFICATION_BYTES)
    specification = await run_in_threadpool(Specification.from_bytes, data)
    if specification.digest[:TASK_ID_LENGTH] != id:
        raise InvalidInput(
            f"the specification is of task {specification.digest[:TASK_ID_LENGTH]}, not of {id[:80]}"
        )
    servable = parts.servable_by_default & condition
    found = await run_in_threadpool(trial_candidates, parts.retriever, specification, top, servable)
    if found is None:
        raise NotFound("no learnware to try: none that this engine serves passes the filter")
    base = parts.engine.base_model
    learnwares = [(item.learnware, item.fit) for item in found.ranked]
    candidates = [
        Candidate(model=one.engine_name, name=one.name, learnware=one.id, fit=fit) for one, fit in learnwares
    ]
    prior = with_base(found.prior)
    rows = [] if prior.capability is None else prior.capability.tolist()
    return CandidateField(
        candidates=[*candidates, Candidate(model=base, name=base, learnware="", fit=0.0)],
        similarity=prior.similarity.tolist(),
        capability=[[None if isnan(each) else each for each in row] for row in rows],
    )


@router.post("", openapi_extra=json_body(Questions, "Prompts for every model."))
async def answer_questions(id: str, request: Request, parts: Parts) -> Answers:
    """Lets every model answer every prompt, in one batch, without chance. Ends early if the client goes."""
    _task(parts, id)
    asked = _parse(Questions, await read_body(request, MAX_TRIAL_BYTES))
    started = time.perf_counter()
    whole, refused = set[str](), dict[str, str]()
    for model in asked.models:
        try:
            choice = await choose(parts, model, {})
        except LearnwareUnavailable as error:
            refused[model] = str(error)
            continue
        if choice.kind not in ("named", "base"):
            raise InvalidInput(f"model {model[:200]!r} cannot take part; send engine names from 'candidates'")
        if choice.base_model == WHOLE_MODEL:
            whole.add(model)
    batch = _Batch(parts, asked, whole, refused)
    answers = await while_connected(request, batch.run())
    return Answers(answers=answers, seconds=time.perf_counter() - started)


@router.post("/outcome", openapi_extra=json_body(TrialOutcome, "How the trial ended."))
async def keep_outcome(id: str, request: Request, parts: Parts) -> Task:
    """Makes the winner the one who answers ``task:<id>``, until the task is registered again."""
    outcome = _parse(TrialOutcome, await read_body(request, MAX_TRIAL_BYTES))
    task = await run_in_threadpool(_keep, parts, id, outcome)
    await warm_task(parts, task)
    return task


def _keep(parts: GatewayParts, id: str, outcome: TrialOutcome) -> Task:
    name = "the base model"
    if outcome.winner:
        learnware = next(iter(parts.catalogue.get([outcome.winner])), None)
        if learnware is None:
            raise NotFound(f"no learnware {outcome.winner!r}")
        name = learnware.name
    reason = (
        f"trial: {name} was best on {outcome.examples} examples, score {outcome.score:.3f} "
        f"({outcome.low:.3f} to {outcome.high:.3f}), best of all with probability {outcome.probability:.2f}"
    )
    kept = {"learnware": outcome.winner or None, "fit": outcome.fit, "reason": reason, "trial": outcome}
    single = {"mixture": (), "unknown": 0.0, "created": int(time.time())}
    task = _task(parts, id).model_copy(update={**kept, **single})
    parts.tasks.put(task)
    return task


@dataclass(frozen=True)
class _Choice:
    """A prompt with a choice behind it, in tokens, of which the first ``prefix`` are the prompt's."""

    tokens: tuple[int, ...]
    prefix: int

    @property
    def steps(self) -> list[tuple[int, ...]]:
        """The beginnings that end with a token of the choice."""
        return [self.tokens[: end + 1] for end in range(self.prefix, len(self.tokens))]


class _Batch:
    """All requests of one round. A model that cannot be loaded costs its own answers, not the round.

    ``whole`` names the whole models. They answer one after another, since not all may fit in memory at once, and
    read choices by their own tokenizers. ``refused`` maps those who cannot answer to the reason.
    """

    def __init__(self, parts: GatewayParts, asked: Questions, whole: Set[str], refused: Mapping[str, str]) -> None:
        self._parts = parts
        self._asked = asked
        self._whole = whole
        self._refused = refused
        self._gate = asyncio.Semaphore(IN_FLIGHT)
        self._turn = asyncio.Lock()

    async def run(self) -> list[CandidateAnswers]:
        """Returns the answers of all models, in their order."""
        engine = self._parts.engine
        choices = await self._tokenised(engine)
        return await _all(
            [
                self._of_whole(model) if model in self._whole else self._answers(engine, model, choices)
                for model in self._asked.models
            ]
        )

    async def _of_whole(self, model: str) -> CandidateAnswers:
        async with self._turn:
            try:
                engine = self._parts.engine_for(WHOLE_MODEL, model)
                assert engine is not None
                return await self._answers(engine, model, await self._tokenised(engine))
            except LearnwareUnavailable as error:
                return CandidateAnswers(model=model, error=str(error))

    async def _answers(self, engine: Engine, model: str, choices: list[_Choice]) -> CandidateAnswers:
        if model in self._refused:
            return CandidateAnswers(model=model, error=self._refused[model])
        try:
            return await (self._likelihoods(engine, model, choices) if choices else self._texts(engine, model))
        except LearnwareUnavailable as error:
            return CandidateAnswers(model=model, error=str(error))

    async def _texts(self, engine: Engine, model: str) -> CandidateAnswers:
        asked = self._asked
        found = await _all([self._post(engine, model, prompt, asked.max_tokens) for prompt in asked.prompts])
        return CandidateAnswers(model=model, texts=[_text(answer) for answer in found], **_usage(found))

    async def _tokenised(self, engine: Engine) -> list[_Choice]:
        """Returns every prompt with every choice in tokens, by the tokenizer that an engine's models share."""
        base, asked = engine.base_model, self._asked
        if not asked.choices:
            return []
        texts = [_continued(prompt, choice) for prompt in asked.prompts for choice in asked.choices]
        bare = await _all([self._post(engine, base, prompt.rstrip(), 1) for prompt in asked.prompts])
        whole = await _all([self._post(engine, base, text, 1, return_token_ids=True) for text in texts])
        width = len(asked.choices)
        return [
            _Choice(
                tuple(answer["choices"][0]["prompt_token_ids"]), bare[place // width]["usage"]["prompt_tokens"]
            )
            for place, answer in enumerate(whole)
        ]

    async def _likelihoods(self, engine: Engine, model: str, choices: list[_Choice]) -> CandidateAnswers:
        """Asks for the log-probability of each token of each choice, as the only one allowed to come next.

        vLLM's ``prompt_logprobs`` would need one request a choice, but with LoRA on a CPU it kills the engine.
        """
        steps = list(dict.fromkeys(step for choice in choices for step in choice.steps))
        found = await _all([self._post(engine, model, list(step[:-1]), 1, **_forced(step[-1])) for step in steps])
        logprobs = [answer["choices"][0]["logprobs"]["token_logprobs"][0] for answer in found]
        known = dict(zip(steps, logprobs, strict=True))
        sums = [float(sum(known[step] for step in choice.steps)) for choice in choices]
        width = len(self._asked.choices or ())
        rows = [sums[start : start + width] for start in range(0, len(sums), width)]
        return CandidateAnswers(model=model, likelihoods=rows, **_usage(found))

    async def _post(
        self, engine: Engine, model: str, prompt: str | list[int], max_tokens: int, **fields: object
    ) -> dict[str, Any]:
        chat = self._asked.chat
        asked = {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
        route: Route = "chat/completions" if chat else "completions"
        async with self._gate:
            body = {"model": model, "max_tokens": max_tokens, "temperature": 0, **asked, **fields}
            answer = await engine.post(route, body)
            data = await answer.read()
        if 400 <= answer.status < 500:
            raise InvalidInput(f"the engine refuses a prompt: {_words(data)}")
        if answer.status != 200:
            raise EngineError(f"the engine answered with status {answer.status}: {_words(data)}")
        found: dict[str, Any] = json.loads(data)
        return found


Result = TypeVar("Result")


async def _all(work: list[Any]) -> list[Any]:
    """Returns all results; if one fails, the others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _continued(prompt: str, choice: str) -> str:
    """The prompt and the choice; blanks at the prompt's end go to the choice, as in lm-evaluation-harness."""
    bare = prompt.rstrip()
    return bare + (prompt[len(bare) :] or " ") + choice


def _forced(token: int) -> dict[str, object]:
    return {"allowed_token_ids": [token], "logprobs": 0}


def _text(answer: dict[str, Any]) -> str:
    choice = answer["choices"][0]
    return str((choice["message"]["content"] if "message" in choice else choice["text"]) or "")


def _usage(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: sum(one["usage"][name] for one in found) for name in ("prompt_tokens", "completion_tokens")}


def _words(data: bytes) -> str:
    try:
        return str(json.loads(data)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return data[:200].decode("utf-8", "replace")


def _parse(kind: type[Message], data: bytes) -> Message:
    try:
        return kind.model_validate(parse_object(data))
    except ValidationError as error:
        raise InvalidInput(f"trial: {describe(error)}") from None


def _task(parts: GatewayParts, id: str) -> Task:
    task = parts.tasks.get(id)
    if task is None:
        raise NotFound(f"task {id[:80]!r} is not registered; send its specification to POST /v1/tasks")
    return task
