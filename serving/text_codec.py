"""Between text and tokens: prompts and conversations in, generated tokens out."""

from collections.abc import Sequence
from typing import Any

from serving.generation import GenerationRequest
from specification.errors import InvalidInput

# Tokens of the prompt that are decoded along, since some tokenizers drop a space at the very beginning.
DECODE_CONTEXT = 6


class TextCodec:
    """A tokenizer with the base model's name and the size of its vocabulary, for checks and messages."""

    def __init__(self, tokenizer: Any, base_model: str, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._base_model = base_model
        self._vocabulary = vocabulary

    def encode(self, request: GenerationRequest) -> list[int]:
        """Returns the tokens of a request's prompt, or of its messages after the chat template.

        Raises:
            InvalidInput: a token id out of range, no chat template, or messages that it refuses.
        """
        if request.messages is not None:
            return self._encode_chat(request.messages)
        prompt = request.prompt
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], str):
            prompt = prompt[0]
        if isinstance(prompt, str):
            return list(self._tokenizer(prompt).input_ids)
        ids = [token for token in prompt or [] if isinstance(token, int)]
        self.check(ids, "prompt")
        return ids

    def check(self, ids: Sequence[int], field: str) -> None:
        """Raises InvalidInput if a token id is not in the vocabulary."""
        if any(not 0 <= token < self._vocabulary for token in ids):
            raise InvalidInput(f"{field}: a token id lies outside 0..{self._vocabulary - 1}")

    def _encode_chat(self, messages: list[dict[str, Any]]) -> list[int]:
        from jinja2 import TemplateError

        if not self._tokenizer.chat_template:
            raise InvalidInput(f"base model {self._base_model} has no chat template; use /v1/completions")
        plain = [message | {"content": _plain_text(message.get("content"))} for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
        except TemplateError as error:
            raise InvalidInput(f"messages: the chat template refuses them: {error}") from None
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def decoder(self, prompt: list[int]) -> "Decoder":
        """Returns what decodes the tokens generated after ``prompt``."""
        return Decoder(self._tokenizer, prompt[-DECODE_CONTEXT:])


class Decoder:
    """Decodes generated tokens as the continuation of the prompt's last ones."""

    def __init__(self, tokenizer: Any, context: list[int]) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._offset = len(self._text(context))

    def __call__(self, tokens: Sequence[int]) -> str:
        return self._text([*self._context, *tokens])[self._offset :]

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


def _plain_text(content: object) -> str:
    """Returns a message's content as text, parts joined by line breaks.

    Raises:
        InvalidInput: a part is not text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    parts: list[Any] = content if isinstance(content, list) else [None]
    if all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        return "\n".join(str(part.get("text", "")) for part in parts)
    raise InvalidInput("messages: only text content can be read by this engine")
