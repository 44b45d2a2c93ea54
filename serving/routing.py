"""From the ``model`` of a request to who answers it, and why."""

from dataclasses import dataclass
from typing import Literal

from starlette.concurrency import run_in_threadpool

from catalogue import Catalogue, Filter, Learnware, Match, is_id
from catalogue.contract import MAX_LIMIT
from serving.engine import AdapterUnavailable, adapter_prefix
from serving.parts import GatewayParts
from serving.tasks import Task
from serving.wire import encodable, header_safe
from specification.errors import DockError, InvalidInput, NotFound

AUTO = "auto"
TASK_PREFIX = "task:"
# An encoder reads the first few hundred tokens of a prompt, so more text would only cost time.
ROUTED_CHARACTERS = 16_384

Kind = Literal["base", "named", "auto", "task", "mixture", "none-fits", "fallback"]


class ModelNotFound(NotFound):
    """A request's ``model`` names nothing that can answer."""


@dataclass(frozen=True)
class Choice:
    """Who answers: ``model`` is the engine's name of it, ``learnware`` the id, empty for the base model."""

    model: str
    kind: Kind
    reason: str
    learnware: str = ""
    fit: float | None = None

    def headers(self) -> dict[str, str]:
        """Returns the decision as response headers."""
        return {
            "x-slmdock-model": header_safe(self.model),
            "x-slmdock-learnware": self.learnware,
            "x-slmdock-fit": "" if self.fit is None else f"{self.fit:.4f}",
            "x-slmdock-decision": self.kind,
            "x-slmdock-reason": header_safe(self.reason),
        }


async def choose(parts: GatewayParts, model: str, body: dict[str, object]) -> Choice:
    """Decides who answers a request.

    Raises:
        ModelNotFound: ``model`` is none of: base model, learnware, ``auto``, registered task.
        AdapterUnavailable: it names a learnware whose rank is beyond the engine's limit.
    """
    if model == parts.engine.base_model:
        return Choice(model, "base", "the base model was asked for")
    if model == AUTO:
        return await _by_prompt(parts, body)
    if model.startswith(TASK_PREFIX):
        task = await run_in_threadpool(_registered, parts, model.removeprefix(TASK_PREFIX))
        if task.mixture:
            return await _by_mixture(parts, task, prompt_text(body))
        return await run_in_threadpool(_by_task, parts, task)
    return await run_in_threadpool(_by_name, parts, model)


def find_learnware(catalogue: Catalogue, reference: str) -> Learnware | None:
    """Returns a learnware by id, by engine name, or the newest published one by name."""
    if is_id(reference):
        return next(iter(catalogue.get([reference])), None)
    if adapter_prefix(reference) is None:
        return catalogue.named(reference)
    name = Match(field="name", values=(reference.partition("@")[0],))
    versions = catalogue.scroll(Filter(conditions=(name,)), limit=MAX_LIMIT).learnwares
    return next((one for one in versions if one.engine_name == reference), None)


def prompt_text(body: dict[str, object]) -> str:
    """Returns what a request asks: its prompt, or its last user message. Empty if that is no text."""
    prompt, messages = body.get("prompt"), body.get("messages")
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(messages, list):
        asked = [one.get("content") for one in messages if isinstance(one, dict) and one.get("role") == "user"]
        prompt = _joined(asked[-1]) if asked else ""
    text = prompt if isinstance(prompt, str) else ""
    return text[:ROUTED_CHARACTERS].encode("utf-8", "replace").decode("utf-8").strip()


def _joined(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


async def _by_prompt(parts: GatewayParts, body: dict[str, object]) -> Choice:
    text = prompt_text(body)
    if not text:
        return fall_back(parts, "the request holds no text to choose by")
    try:
        async with parts.encoding:
            ranking = await run_in_threadpool(parts.retriever.route, text, 1, parts.servable)
    except DockError as error:
        return fall_back(parts, f"choosing failed: {error}")
    decision = ranking.decision
    if decision.learnware is None:
        return Choice(parts.engine.base_model, "none-fits", decision.reason, fit=decision.fit)
    return _learnware(decision.learnware, "auto", decision.reason, decision.fit)


def _registered(parts: GatewayParts, id: str) -> Task:
    task = parts.tasks.get(id)
    if task is None:
        raise ModelNotFound(f"task {id[:80]!r} is not registered; send its specification to POST /v1/tasks")
    return task


def _by_task(parts: GatewayParts, task: Task) -> Choice:
    if task.learnware is None:
        return Choice(parts.engine.base_model, "none-fits", task.reason, fit=task.fit)
    try:
        return _of_task(parts, task, task.learnware)
    except DockError as error:
        return fall_back(parts, f"task {task.id}: {error}")


async def _by_mixture(parts: GatewayParts, task: Task, text: str) -> Choice:
    """Chooses one of the task's learnwares for this prompt; the heaviest if the prompt cannot be read."""
    try:
        members = await run_in_threadpool(_members, parts, task)
    except DockError as error:
        return fall_back(parts, f"task {task.id}: {error}")
    if not members:
        return fall_back(parts, f"task {task.id}: no learnware of its mixture can answer")
    try:
        async with parts.encoding:
            decision = await run_in_threadpool(parts.retriever.assign, text, members, task.unknown)
    except DockError as error:
        heaviest = members[0][0]
        reason = (
            f"choosing by prompt failed: {error}; {heaviest.name}, the heaviest of the task's mixture, answers"
        )
        return _learnware(heaviest, "mixture", reason)
    if decision.learnware is None:
        return Choice(parts.engine.base_model, "none-fits", decision.reason, fit=decision.fit)
    return _learnware(decision.learnware, "mixture", decision.reason, decision.fit)


def _members(parts: GatewayParts, task: Task) -> list[tuple[Learnware, float]]:
    """The parts of a task's mixture that this engine can answer with, heaviest first."""
    weights = {part.learnware: part.weight for part in task.mixture}
    found = parts.catalogue.get(list(weights))
    return [(learnware, weights[learnware.id]) for learnware in found if _obstacle(parts, learnware) is None]


def _of_task(parts: GatewayParts, task: Task, id: str) -> Choice:
    learnware = next(iter(parts.catalogue.get([id])), None)
    if learnware is None:
        return fall_back(parts, f"task {task.id}: its learnware {id[:16]} is gone")
    obstacle = _obstacle(parts, learnware)
    if obstacle:
        return fall_back(parts, f"task {task.id}: {obstacle}")
    return _learnware(learnware, "task", task.reason, task.fit)


def _by_name(parts: GatewayParts, name: str) -> Choice:
    learnware = find_learnware(parts.catalogue, name)
    if learnware is None:
        raise ModelNotFound(
            f"model {name[:200]!r} does not exist; send {AUTO!r}, {parts.engine.base_model!r}, 'task:<id>', or "
            "the name or id of a learnware (GET /v1/models lists them)"
        )
    obstacle = _obstacle(parts, learnware)
    if obstacle:
        raise obstacle
    return _learnware(learnware, "named", f"{learnware.name} was asked for")


def _obstacle(parts: GatewayParts, learnware: Learnware) -> DockError | None:
    """Returns why this engine cannot answer with the learnware, None if it can."""
    if learnware.status != "published":
        return ModelNotFound(f"learnware {learnware.engine_name} is {learnware.status}")
    if learnware.base_model != parts.engine.base_model:
        return ModelNotFound(
            f"learnware {learnware.engine_name} needs base model {learnware.base_model!r}; "
            f"this dock serves {parts.engine.base_model!r}"
        )
    limit = parts.engine.max_lora_rank
    if limit is not None and learnware.rank > limit:
        return AdapterUnavailable(
            f"learnware {learnware.engine_name} has rank {learnware.rank}, the engine was started for ranks up to "
            f"{limit}; restart 'slmdock serve', which sizes the engine by the catalogue"
        )
    return None


def _learnware(learnware: Learnware, kind: Kind, reason: str, fit: float | None = None) -> Choice:
    return Choice(learnware.engine_name, kind, reason, learnware.id, fit)


def fall_back(parts: GatewayParts, reason: str) -> Choice:
    """Returns the base model as the one who answers since something went wrong."""
    return Choice(parts.engine.base_model, "fallback", f"{reason}; the base model answers")


def requested_model(body: dict[str, object]) -> str:
    """Returns the request's ``model``.

    Raises:
        InvalidInput: it is missing, no text, or text that UTF-8 cannot carry.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidInput(f"the request needs a field 'model' with a text; {AUTO!r} lets the dock choose")
    return encodable("model", model)
