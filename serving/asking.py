"""Asking an engine without chance: what its models answer, and how likely they hold given continuations."""

import asyncio
import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from serving.engine import Engine, Route
from specification.errors import EngineError, InvalidInput

IN_FLIGHT = 128

Result = TypeVar("Result")


@dataclass(frozen=True)
class Continuation:
    """A prompt with a text behind it, in tokens, of which the first ``prefix`` are the prompt's."""

    tokens: tuple[int, ...]
    prefix: int

    @property
    def length(self) -> int:
        """The continuation's own tokens."""
        return len(self.tokens) - self.prefix

    @property
    def steps(self) -> list[tuple[int, ...]]:
        """The beginnings that end with a token of the continuation."""
        return [self.tokens[: end + 1] for end in range(self.prefix, len(self.tokens))]


class Asker:
    """Asks one engine, at most ``gate`` questions at once. ``chat`` sends prompts through its template.

    Whatever is asked raises InvalidInput if the engine refuses a prompt, LearnwareUnavailable if it cannot load
    the adapter, EngineError if it fails.
    """

    def __init__(self, engine: Engine, gate: asyncio.Semaphore | None = None, chat: bool = False) -> None:
        self.engine = engine
        self.gate = gate or asyncio.Semaphore(IN_FLIGHT)
        self.chat = chat

    async def answers(self, model: str, prompts: Sequence[str], max_tokens: int) -> list[dict[str, Any]]:
        """Returns an answer a prompt, each as the engine's wire format has it; see ``text_of``."""
        return await all_of([self.ask(model, prompt, max_tokens) for prompt in prompts])

    async def continuations(self, pairs: Sequence[tuple[str, str]]) -> list[Continuation]:
        """Returns prompts with texts behind them in tokens, by the tokenizer that the engine's models share."""
        base = self.engine.base_model
        prompts = list(dict.fromkeys(prompt for prompt, _ in pairs))
        bare = await all_of([self.ask(base, prompt.rstrip(), 1) for prompt in prompts])
        lengths = {prompt: one["usage"]["prompt_tokens"] for prompt, one in zip(prompts, bare, strict=True)}
        whole = await all_of([self.ask(base, _continued(*pair), 1, return_token_ids=True) for pair in pairs])
        return [
            Continuation(tuple(answer["choices"][0]["prompt_token_ids"]), lengths[prompt])
            for (prompt, _), answer in zip(pairs, whole, strict=True)
        ]

    async def likelihoods(
        self, model: str, continuations: Sequence[Continuation]
    ) -> tuple[list[float], list[dict[str, Any]]]:
        """Returns the log-probability of each continuation given its prompt, in nats, and the engine's answers.

        Asks for each token as the only one allowed to come next. vLLM's ``prompt_logprobs`` would need one request
        a continuation, but with LoRA on a CPU it kills the engine.
        """
        steps = list(dict.fromkeys(step for one in continuations for step in one.steps))
        found = await all_of([self.ask(model, list(step[:-1]), 1, **_forced(step[-1])) for step in steps])
        logprobs = [answer["choices"][0]["logprobs"]["token_logprobs"][0] for answer in found]
        known = dict(zip(steps, logprobs, strict=True))
        return [float(sum(known[step] for step in one.steps)) for one in continuations], found

    async def ask(
        self, model: str, prompt: str | list[int] | list[list[int]], max_tokens: int, **fields: object
    ) -> dict[str, Any]:
        """Sends one prompt, as text or in tokens, or several in tokens; returns the engine's answer."""
        asked = {"messages": [{"role": "user", "content": prompt}]} if self.chat else {"prompt": prompt}
        route: Route = "chat/completions" if self.chat else "completions"
        async with self.gate:
            body = {"model": model, "max_tokens": max_tokens, "temperature": 0, **asked, **fields}
            answer = await self.engine.post(route, body)
            data = await answer.read()
        if 400 <= answer.status < 500:
            raise InvalidInput(f"the engine refuses a prompt: {_words(data)}")
        if answer.status != 200:
            raise EngineError(f"the engine answered with status {answer.status}: {_words(data)}")
        found: dict[str, Any] = json.loads(data)
        return found


def text_of(answer: dict[str, Any]) -> str:
    """Returns the text of an answer."""
    choice = answer["choices"][0]
    return str((choice["message"]["content"] if "message" in choice else choice["text"]) or "")


async def all_of(work: Sequence[Awaitable[Result]]) -> list[Result]:
    """Returns all results; if one fails, the others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _continued(prompt: str, text: str) -> str:
    """The prompt and the text; blanks at the prompt's end go to the text, as in lm-evaluation-harness."""
    bare = prompt.rstrip()
    return bare + (prompt[len(bare) :] or " ") + text


def _forced(token: int) -> dict[str, object]:
    return {"allowed_token_ids": [token], "logprobs": 0}


def _words(data: bytes) -> str:
    try:
        return str(json.loads(data)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return data[:200].decode("utf-8", "replace")
