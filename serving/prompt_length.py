"""Prompts that cannot fit into a context, refused before they reach the engine. The engine counts the others."""

from collections.abc import Iterator

from specification.errors import ContextLengthExceeded

# The longest token in use has 128 bytes (Llama 3, Qwen 2.5); twice that leaves room for others.
MOST_BYTES_A_TOKEN = 256


def check_length(body: dict[str, object], max_model_len: int | None) -> None:
    """Passes every prompt that might fit, and all where ``max_model_len``, the context in tokens, is not known.

    Raises:
        ContextLengthExceeded: more tokens, or more text than that many tokens can hold.
    """
    if max_model_len is None:
        return
    for size, unit in _sizes(body):
        most = max_model_len * (MOST_BYTES_A_TOKEN if unit == "bytes" else 1)
        if size > most:
            raise ContextLengthExceeded(
                f"the prompt has {size} {unit}; this model's context holds {max_model_len} tokens, which is never "
                f"more than {most} {unit}"
            )


def _sizes(body: dict[str, object]) -> Iterator[tuple[int, str]]:
    """Yields the size of each prompt in bytes of text or in tokens; a conversation is one prompt."""
    prompt, messages = body.get("prompt"), body.get("messages")
    several = isinstance(prompt, list) and not any(isinstance(each, int) for each in prompt)
    for one in prompt if isinstance(prompt, list) and several else [prompt]:
        if isinstance(one, list):
            yield len(one), "tokens"
        elif isinstance(one, str):
            yield _bytes_in(one), "bytes"
    if isinstance(messages, list):
        contents = (message.get("content") for message in messages if isinstance(message, dict))
        yield sum(map(_bytes_in, contents)), "bytes"


def _bytes_in(content: object) -> int:
    """Returns the bytes of a text, or of the texts among a message's parts."""
    if isinstance(content, str):
        return len(content.encode("utf-8", "replace"))
    parts = content if isinstance(content, list) else []
    return sum(_bytes_in(part.get("text")) for part in parts if isinstance(part, dict))
