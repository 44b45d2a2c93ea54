"""Trials: several learnwares answer the same prompts in one batch. Only the client knows who is right."""

import asyncio
import time
from collections.abc import Mapping, Set
from math import isnan
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from catalogue import parse_filter
from catalogue.learnware import WHOLE_MODEL, describe
from retriever import trial_candidates, with_base
from serving.asking import IN_FLIGHT, Asker, Continuation, all_of, text_of
from serving.engine import Engine, LearnwareUnavailable
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
from specification.errors import InvalidInput, NotFound

MAX_TRIAL_BYTES = 8 * 2**20

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
        shared = self._ask(self._parts.engine)
        choices = await self._tokenised(shared)
        return await all_of(
            [
                self._of_whole(model) if model in self._whole else self._answers(shared, model, choices)
                for model in self._asked.models
            ]
        )

    def _ask(self, engine: Engine) -> Asker:
        return Asker(engine, self._gate, self._asked.chat)

    async def _of_whole(self, model: str) -> CandidateAnswers:
        async with self._turn:
            try:
                engine = self._parts.engine_for(WHOLE_MODEL, model)
                assert engine is not None
                own = self._ask(engine)
                return await self._answers(own, model, await self._tokenised(own))
            except LearnwareUnavailable as error:
                return CandidateAnswers(model=model, error=str(error))

    async def _tokenised(self, ask: Asker) -> list[Continuation]:
        choices = self._asked.choices or ()
        return await ask.continuations([(prompt, one) for prompt in self._asked.prompts for one in choices])

    async def _answers(self, ask: Asker, model: str, choices: list[Continuation]) -> CandidateAnswers:
        if model in self._refused:
            return CandidateAnswers(model=model, error=self._refused[model])
        try:
            if not choices:
                answers = await ask.answers(model, self._asked.prompts, self._asked.max_tokens)
                return CandidateAnswers(model=model, texts=list(map(text_of, answers)), **_usage(answers))
            sums, answers = await ask.likelihoods(model, choices)
        except LearnwareUnavailable as error:
            return CandidateAnswers(model=model, error=str(error))
        width = len(self._asked.choices or ())
        rows = [sums[start : start + width] for start in range(0, len(sums), width)]
        return CandidateAnswers(model=model, likelihoods=rows, **_usage(answers))


def _usage(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: sum(one["usage"][name] for one in found) for name in ("prompt_tokens", "completion_tokens")}


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
