"""A request to generate, checked, and the text that comes of its tokens. Knows no model and no HTTP.

This is the door of engines that have no server of their own. What they cannot honour is refused by name,
since an option dropped in silence would change an answer without anyone noticing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalogue.learnware import describe
from serving.engine import Route
from specification.errors import InvalidInput

DEFAULT_COMPLETION_TOKENS = 16
REPLACEMENT = "\ufffd"

Finish = Literal["stop", "length"]
One = Annotated[float, Field(ge=1, le=1)]
Zero = Annotated[float, Field(ge=0, le=0)]
Stops = Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=16)]


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    include_usage: bool = False


class GenerationRequest(BaseModel):
    """A completion (``prompt``) or chat (``messages``) request. Times and randomness are OpenAI's.

    Fields typed ``One``, ``Zero`` or None are understood only at the value that changes nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    prompt: str | list[int] | Annotated[list[str], Field(min_length=1, max_length=1)] | None = None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    seed: int | None = None
    stop: str | Stops | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    ignore_eos: bool = False
    return_token_ids: bool = False
    n: One | None = None
    best_of: One | None = None
    top_p: One | None = None
    presence_penalty: Zero | None = None
    frequency_penalty: Zero | None = None
    echo: Literal[False] | None = None
    logprobs: Annotated[int, Field(strict=True, ge=0, le=0)] | Literal[False] | None = None
    allowed_token_ids: Annotated[list[int], Field(min_length=1, max_length=1)] | None = None

    @model_validator(mode="after")
    def _one_input(self) -> "GenerationRequest":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either 'prompt' (completions) or 'messages' (chat)")
        if self.wants_logprob and (self.forced is None or self.token_limit != 1 or self.stream):
            raise ValueError("'logprobs' needs 'allowed_token_ids' of one token, 'max_tokens' 1, and no stream")
        return self

    @property
    def forced(self) -> int | None:
        """The only token that may be generated."""
        return self.allowed_token_ids[0] if self.allowed_token_ids else None

    @property
    def wants_logprob(self) -> bool:
        """Whether the log-probability of the forced token is asked for, which is what ``logprobs=0`` means."""
        return self.logprobs is not None and self.logprobs is not False

    @property
    def token_limit(self) -> int | None:
        """Most tokens to generate; None leaves it to the context's length."""
        asked = self.max_completion_tokens or self.max_tokens
        return asked if asked or self.messages is not None else DEFAULT_COMPLETION_TOKENS

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts at which generation ends."""
        return (self.stop,) if isinstance(self.stop, str) and self.stop else tuple(self.stop or ())


def parse_request(route: Route, body: dict[str, object]) -> GenerationRequest:
    """Returns the checked request.

    Raises:
        InvalidInput: a field is missing, malformed, or asks for something this engine cannot do.
    """
    try:
        request = GenerationRequest.model_validate(body)
    except ValidationError as error:
        raise InvalidInput(f"the transformers engine cannot do this: {describe(error)}") from None
    if (route == "completions") != (request.prompt is not None):
        raise InvalidInput(f"/v1/{route} needs {'prompt' if route == 'completions' else 'messages'!r}")
    return request


@dataclass(frozen=True)
class PromptRead:
    """The prompt, read: its tokens and, if asked for, the log-probability in nats of the forced one."""

    tokens: tuple[int, ...]
    logprob: float | None = None


@dataclass(frozen=True)
class Piece:
    """One generated token, the text that became certain with it, and why it was the last, if it was."""

    token: int
    text: str
    finish: Finish | None = None


def pieces(
    tokens: Iterable[int],
    decode: Callable[[Sequence[int]], str],
    request: GenerationRequest,
    end_tokens: frozenset[int],
    limit: int,
) -> Iterator[Piece]:
    """Turns tokens into pieces of text until a stop text, an end token, or ``limit`` tokens.

    Text is held back while it could still change: an unfinished character, or the beginning of a stop text.
    """
    seen: list[int] = []
    sent = 0
    held = max((len(stop) for stop in request.stops), default=1) - 1
    for token in tokens:
        seen.append(token)
        text = decode(seen)
        cut = _first_stop(text, request.stops, sent)
        ended = token in end_tokens and not request.ignore_eos
        finish: Finish | None = "stop" if ended or cut is not None else "length" if len(seen) >= limit else None
        certain = len(text) if cut is None else cut
        if finish is None:
            certain = max(sent, len(text.rstrip(REPLACEMENT)) - held)
        yield Piece(token, text[sent:certain], finish)
        if finish is not None:
            return
        sent = certain


def _first_stop(text: str, stops: tuple[str, ...], start: int) -> int | None:
    found = [position for stop in stops if (position := text.find(stop, start)) >= 0]
    return min(found, default=None)
