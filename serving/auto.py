"""``auto``: who answers by what the request says, and the base model whenever deciding fails."""

import asyncio
import logging
import traceback
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import TypeVar

from catalogue import EVERYTHING, Filter, Learnware, parse_filter
from retriever import Ranked, Ranking
from serving.choice import Choice, cause_of, fall_back, none_fits, of_learnware
from serving.conversation import Held, follow
from serving.decisions import TOP
from serving.engine import AdapterUnavailable
from serving.parts import GatewayParts
from serving.prompts import user_turns
from serving.route_wire import Cause
from specification.errors import DockError, InvalidInput, ModelNotFound

AUTO = "auto"
FILTER_PREFIX = "auto:"
MAX_FILTER_CHARACTERS = 2000
MAX_CONDITIONS = 20

Result = TypeVar("Result")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failed:
    """Deciding failed: the word for it and the words for people."""

    cause: Cause
    reason: str


def auto_filter(model: str) -> Filter | None:
    """Returns the filter of ``auto`` or ``auto:<filter>``, None if ``model`` is neither.

    Raises:
        InvalidInput: the filter is empty, too long, or no filter.
    """
    if model == AUTO:
        return EVERYTHING
    if not model.startswith(FILTER_PREFIX):
        return None
    text = model.removeprefix(FILTER_PREFIX)
    if len(text) > MAX_FILTER_CHARACTERS:
        raise InvalidInput(f"model 'auto:…': a filter of {len(text)} characters; {MAX_FILTER_CHARACTERS} at most")
    where = parse_filter(text)
    if not 1 <= len(where.conditions) <= MAX_CONDITIONS:
        raise InvalidInput(
            f"model {model[:80]!r}: {len(where.conditions)} conditions, 1 … {MAX_CONDITIONS} are allowed; write "
            "'auto:domain=finance', for instance"
        )
    return where


async def by_prompt(parts: GatewayParts, body: dict[str, object], where: Filter) -> Choice:
    """Decides by what the user said, and never fails; ``serving.conversation`` says who keeps a conversation."""
    turns = user_turns(body)
    if not turns:
        return fall_back(parts, _without_text(body), "no-text")
    allowed = parts.servable & where
    held = await attempt(
        parts,
        follow(
            turns,
            lambda text, beside: parts.decisions.rank(text, allowed, beside),
            lambda ranking: pick(parts, ranking),
        ),
    )
    if isinstance(held, Failed):
        return fall_back(parts, f"choosing failed: {held.reason}", held.cause)
    return _answered(parts, held, len(turns))


async def attempt(parts: GatewayParts, work: Awaitable[Result]) -> Result | Failed:
    """Returns the result of deciding, or why there is none in time. Nothing of the request is logged."""
    limit = parts.deciding.seconds
    try:
        return await asyncio.wait_for(work, limit)
    except TimeoutError:
        return Failed("deadline", f"it took longer than {limit:g} s")
    except DockError as error:
        return Failed(cause_of(error), str(error))
    except Exception as error:
        # The error's own words may quote the prompt, so the log gets its kind and its place.
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.error("deciding failed: %s at %s:%s", type(error).__name__, place.filename, place.lineno)
        return Failed("failure", f"{type(error).__name__}; the dock's log says where")


def pick(parts: GatewayParts, ranking: Ranking) -> Ranked | None:
    """Returns who answers by a ranking: who it decides for, or the next of the TOP that fits and can be loaded.

    None if nothing fits.
    """
    decision = ranking.decision
    if decision.learnware is None:
        return None
    first, *others = ranking.ranked[:TOP]
    fitting = [first, *(one for one in others if one.p_value >= decision.threshold)]
    return next((one for one in fitting if obstacle(parts, one.learnware) is None), None)


def obstacle(parts: GatewayParts, learnware: Learnware) -> DockError | None:
    """Returns why no engine here can answer with the learnware, None if one can."""
    if learnware.status != "published":
        return ModelNotFound(
            f"learnware {learnware.engine_name} is {learnware.status}, and only published ones answer; "
            f"'slmdock status {learnware.name}' shows all its versions"
        )
    if learnware.whole and parts.whole is not None:
        return parts.whole.obstacle(learnware)
    if learnware.whole:
        return ModelNotFound(
            f"learnware {learnware.engine_name} is a whole model, and this dock serves none; restart "
            "'slmdock serve' with --model-gib"
        )
    engine = parts.engine_of(learnware.base_model)
    if engine is None:
        served = ", ".join(repr(engine.base_model) for engine in parts.engines)
        return ModelNotFound(
            f"learnware {learnware.engine_name} needs base model {learnware.base_model!r}; "
            f"this dock serves {served}"
        )
    limit = engine.max_lora_rank
    if limit is not None and learnware.rank > limit:
        return AdapterUnavailable(
            f"learnware {learnware.engine_name} has rank {learnware.rank}, the engine was started for ranks up to "
            f"{limit}; restart 'slmdock serve', which sizes the engine by the catalogue"
        )
    return None


def _answered(parts: GatewayParts, held: Held, turns: int) -> Choice:
    decision, holder, candidates = held.decided.decision, held.holder, held.latest.ranked[:TOP]
    if holder is None:
        return _unanswered(parts, held.decided)
    first = held.decided.ranked[0]
    reason = decision.reason
    if holder.learnware.id != first.learnware.id:
        reason = (
            f"{holder.learnware.name} has fit {holder.fit:.3f} and is the best that can be loaded: "
            f"{obstacle(parts, first.learnware) or 'others fit less'}"
        )
    if held.since < turns:
        reason = f"the conversation stays with its learnware since user turn {held.since} of {turns}: {reason}"
    choice = of_learnware(holder.learnware, "auto", reason, holder.fit, holder.p_value)
    return replace(choice, candidates=candidates)


def _unanswered(parts: GatewayParts, ranking: Ranking) -> Choice:
    """The base model's turn: nothing fits, or nothing that fits can be loaded."""
    decision = ranking.decision
    if decision.learnware is None:
        choice = none_fits(parts, decision.reason, decision.fit, decision.p_value)
    else:
        choice = fall_back(parts, str(obstacle(parts, decision.learnware)), "adapter")
    return replace(choice, candidates=ranking.ranked[:TOP])


def _without_text(body: dict[str, object]) -> str:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], str):
        return "a prompt of token ids cannot be chosen by; send text, or name a model"
    return "the request holds no text to choose by"
