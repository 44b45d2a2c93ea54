"""What a request asks, as texts that can be routed by."""

# An encoder reads the first few hundred tokens of a prompt, so more text would only cost time.
ROUTED_CHARACTERS = 16_384
MAX_TURNS = 64


def user_turns(body: dict[str, object]) -> list[str]:
    """Returns what the user said, oldest first: the texts of user messages, or the prompt alone.

    A message's text is its content, or the text parts of its list joined by line breaks; messages without any
    are passed over, and of a long conversation the newest MAX_TURNS are read. A list of prompts speaks by its
    first text, since one request has one answerer. Token ids are no text. ``{"input": text}`` is read too.
    """
    messages = body.get("messages")
    if isinstance(messages, list):
        asked = [one.get("content") for one in messages if isinstance(one, dict) and one.get("role") == "user"]
        texts = [_clean(_joined(content)) for content in asked]
        return [text for text in texts if text][-MAX_TURNS:]
    for field in ("prompt", "input"):
        value = body.get(field)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and (text := _clean(one)):
                return [text]
    return []


def prompt_text(body: dict[str, object]) -> str:
    """Returns what a request asks last, empty if that is no text."""
    turns = user_turns(body)
    return turns[-1] if turns else ""


def _clean(text: str) -> str:
    return text[:ROUTED_CHARACTERS].encode("utf-8", "replace").decode("utf-8").strip()


def _joined(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part if isinstance(part, str) else part.get("text") for part in parts if isinstance(part, str | dict)]
    return "\n".join(text for text in texts if isinstance(text, str))
