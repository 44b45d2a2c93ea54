"""From the ``model`` of a request to who answers it, and why."""

import time
from dataclasses import replace

from starlette.concurrency import run_in_threadpool

from catalogue import Learnware, find_learnware
from retriever import Decision
from serving.auto import AUTO, Failed, attempt, auto_filter, by_prompt, obstacle
from serving.choice import Choice, fall_back, none_fits, of_learnware
from serving.engine import LearnwareUnavailable
from serving.parts import GatewayParts, Registered
from serving.prompts import prompt_text
from serving.route_wire import Cause, Kind
from serving.wire import encodable
from specification.errors import DockError, InvalidInput, ModelNotFound

__all__ = ["AUTO", "Cause", "Choice", "Kind", "choose", "fall_back", "requested_model"]

TASK_PREFIX = "task:"


async def choose(parts: GatewayParts, model: str, body: dict[str, object]) -> Choice:
    """Decides who answers a request. Where the dock is to choose, failing to choose is no error.

    Raises:
        ModelNotFound: ``model`` is none of: base model, learnware, ``auto``, registered task.
        InvalidInput: it is ``auto:`` with a bad filter.
        LearnwareUnavailable: it names a learnware whose rank, or size, is beyond the engine's limit.
        CatalogueError: it names a learnware, and the catalogue cannot be read.
    """
    started = time.perf_counter()
    choice = await _choose(parts, model, body)
    return replace(choice, seconds=time.perf_counter() - started)


async def _choose(parts: GatewayParts, model: str, body: dict[str, object]) -> Choice:
    if parts.engine_of(model) is not None:
        return Choice(model, "base", "the base model was asked for", model)
    where = auto_filter(model)
    if where is not None:
        return await by_prompt(parts, body, where)
    if model.startswith(TASK_PREFIX):
        return await _by_registered(parts, model.removeprefix(TASK_PREFIX), body)
    return await _by_name(parts, model)


async def _by_registered(parts: GatewayParts, id: str, body: dict[str, object]) -> Choice:
    state = parts.state
    found: Registered | Choice | Failed | None = parts.registered.get(id, state)
    if found is None:
        found = await attempt(parts, run_in_threadpool(_look_up, parts, id))
        if isinstance(found, Registered):
            parts.registered.put(id, state, found)
    if isinstance(found, Failed):
        return fall_back(parts, f"task {id}: {found.reason}", found.cause)
    if found is None:
        raise ModelNotFound(f"task {id[:80]!r} is not registered; send its specification to POST /v1/tasks")
    if isinstance(found, Choice):
        return found
    return await _by_mixture(parts, found, prompt_text(body)) if found.task.mixture else _by_task(parts, found)


def _look_up(parts: GatewayParts, id: str) -> Registered | Choice | None:
    try:
        task = parts.tasks.get(id)
    except InvalidInput as error:
        return fall_back(parts, str(error), "task")
    if task is None:
        return None
    return Registered(task, tuple(parts.catalogue.get(task.learnwares)))


def _by_task(parts: GatewayParts, registered: Registered) -> Choice:
    task = registered.task
    if task.learnware is None:
        return none_fits(parts, task.reason, task.fit, task.p_value)
    if not registered.learnwares:
        return fall_back(parts, f"task {task.id}: its learnware {task.learnware[:16]} is gone", "task")
    (learnware,) = registered.learnwares
    trouble = obstacle(parts, learnware)
    if trouble:
        return fall_back(parts, f"task {task.id}: {trouble}", _cause_of_obstacle(trouble))
    return of_learnware(learnware, "task", task.reason, task.fit, task.p_value)


async def _by_mixture(parts: GatewayParts, registered: Registered, text: str) -> Choice:
    """Chooses one of the task's learnwares for this prompt; the heaviest if the prompt cannot be read."""
    task = registered.task
    weights = {part.learnware: part.weight for part in task.mixture}
    members = [(one, weights[one.id]) for one in registered.learnwares if obstacle(parts, one) is None]
    if not members:
        return fall_back(parts, f"task {task.id}: no learnware of its mixture can answer", "task")
    decision = await attempt(parts, _assign(parts, text, members, task.unknown))
    if isinstance(decision, Failed):
        heaviest = members[0][0]
        reason = (
            f"choosing by prompt failed: {decision.reason}; {heaviest.name}, the heaviest of the task's mixture, "
            "answers"
        )
        return of_learnware(heaviest, "mixture", reason)
    if decision.learnware is None:
        return none_fits(parts, decision.reason, decision.fit)
    return of_learnware(decision.learnware, "mixture", decision.reason, decision.fit)


async def _assign(
    parts: GatewayParts, text: str, members: list[tuple[Learnware, float]], unknown: float
) -> Decision:
    async with parts.encoding:
        return await run_in_threadpool(parts.retriever.assign, text, members, unknown)


async def _by_name(parts: GatewayParts, name: str) -> Choice:
    state = parts.state
    learnware = parts.named.get(name, state)
    if learnware is None:
        learnware = await run_in_threadpool(find_learnware, parts.catalogue, name)
        if learnware is None:
            raise ModelNotFound(
                f"model {name[:200]!r} does not exist; send {AUTO!r}, {parts.engine.base_model!r}, 'task:<id>', "
                "or the name, name@version or id of a learnware (GET /v1/models lists them)"
            )
        parts.named.put(name, state, learnware)
    trouble = obstacle(parts, learnware)
    if trouble:
        raise trouble
    return of_learnware(learnware, "named", f"{learnware.name} was asked for")


def _cause_of_obstacle(trouble: DockError) -> Cause:
    return "adapter" if isinstance(trouble, LearnwareUnavailable) else "task"


def requested_model(body: dict[str, object]) -> str:
    """Returns the request's ``model``.

    Raises:
        InvalidInput: it is missing, no text, or text that UTF-8 cannot carry.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidInput(f"the request needs a field 'model' with a text; {AUTO!r} lets the dock choose")
    return encodable("model", model)
