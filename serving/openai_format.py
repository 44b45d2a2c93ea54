"""OpenAI's answers, whole or as server-sent events, for completions and chat."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from serving.engine import Route
from serving.generation import GenerationRequest, Piece, PromptRead

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class AnswerFormat:
    """The shape of one request's answer; ``prompt`` is what reading the prompt gave."""

    route: Route
    request: GenerationRequest
    prompt: PromptRead
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, parts: Sequence[Piece]) -> bytes:
        """Returns the JSON of an answer that is not streamed."""
        text = "".join(part.text for part in parts)
        choice: dict[str, object] = {"text": text}
        if self._chat:
            choice = {"message": {"role": "assistant", "content": text}}
        if self.request.return_token_ids:
            choice["token_ids"] = [part.token for part in parts]
            choice["prompt_token_ids"] = list(self.prompt.tokens)
        logprob = self.prompt.logprob
        logprobs = None if logprob is None else {"tokens": [text], "token_logprobs": [logprob]}
        choice |= {"index": 0, "logprobs": logprobs, "finish_reason": parts[-1].finish}
        kind = "chat.completion" if self._chat else "text_completion"
        return json.dumps(self._head(kind) | {"choices": [choice], "usage": self._usage(len(parts))}).encode()

    def opening(self) -> bytes:
        """Returns the event before the first token: chat names the role, completions say nothing."""
        return self._event({"role": "assistant", "content": ""}, None) if self._chat else b""

    def part(self, piece: Piece) -> bytes:
        """Returns the event of one piece."""
        content: dict[str, object] = {"content": piece.text} if self._chat else {"text": piece.text}
        return self._event(content, piece.finish)

    def closing(self, completion_tokens: int) -> bytes:
        """Returns the events after the last token."""
        options = self.request.stream_options
        if options is None or not options.include_usage:
            return DONE
        usage = {"choices": [], "usage": self._usage(completion_tokens)}
        return _data(self._head(self._chunk) | usage) + DONE

    @property
    def _chat(self) -> bool:
        return self.route == "chat/completions"

    @property
    def _chunk(self) -> str:
        return "chat.completion.chunk" if self._chat else "text_completion"

    def _event(self, content: dict[str, object], finish: str | None) -> bytes:
        choice: dict[str, object] = {"delta": content} if self._chat else dict(content)
        choice |= {"index": 0, "logprobs": None, "finish_reason": finish}
        return _data(self._head(self._chunk) | {"choices": [choice]})

    def _head(self, kind: str) -> dict[str, object]:
        name = "chatcmpl" if self._chat else "cmpl"
        return {
            "id": f"{name}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.request.model,
        }

    def _usage(self, completion_tokens: int) -> dict[str, int]:
        return {
            "prompt_tokens": len(self.prompt.tokens),
            "completion_tokens": completion_tokens,
            "total_tokens": len(self.prompt.tokens) + completion_tokens,
        }


def _data(event: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"
