"""From a model card of the Hugging Face hub (README.md) to a learnware's card. Text only: no markup is kept."""

import re
from pathlib import Path

from huggingface_hub.repocard import REGEX_YAML_BLOCK

from catalogue import Card, parse_card
from catalogue.labels import MAX_LABEL, MAX_LABELS, UNPRINTABLE
from catalogue.learnware import MAX_DESCRIPTION
from indexer.plain_yaml import read_yaml
from specification.files import read_file

MODEL_CARD_FILE = "README.md"
MAX_MODEL_CARD_BYTES = 2**20
MAX_NAME = 96
MAX_PROMPTS = 100
MAX_PROMPT = 4000
MARKUP = re.compile("<[^<>]*>|[<>]")
PLACEHOLDER = "[More Information Needed]"
"""What the hub's template leaves where the author wrote nothing."""


def hub_card(model: str, commit: str, file: Path) -> Card:
    """Returns the card of ``model`` (owner/name) at a commit from its model card, which may be missing.

    The first tag says where it comes from: ``huggingface:<model>@<commit>``. Values that are no text are left out.

    Raises:
        InvalidInput: no readable front matter, or a name that learnwares cannot have. TooLarge: over 1 MiB.
    """
    said, body = _parts(file, model)
    tags = [f"base_model:{base}"[:MAX_LABEL] for base in _labels(said.get("base_model"))]
    licences = _labels(said.get("license"))
    if licences == ["other"]:
        licences = _labels(said.get("license_name")) or licences
    return parse_card(
        {
            "name": model.replace("/", "--").lstrip("._-")[:MAX_NAME],
            "description": _description(body),
            "task_type": next(iter(_labels(said.get("pipeline_tag"))), ""),
            "licence": ", ".join(licences)[:MAX_LABEL] or "unknown",
            "languages": _labels(said.get("language"))[:MAX_LABELS],
            "tags": [f"huggingface:{model}@{commit}", *tags, *_labels(said.get("tags"))][:MAX_LABELS],
            "owner": model.rpartition("/")[0] or "unknown",
        }
    )


def stated_bases(file: Path) -> list[str]:
    """Returns the base models that a model card names; none where there is no card.

    Raises:
        InvalidInput, TooLarge: see ``hub_card``.
    """
    said, _ = _parts(file, str(file.parent))
    return _labels(said.get("base_model"))


def card_prompts(file: Path) -> list[str]:
    """Returns the prompts that a model card shows as examples (``widget``), at most MAX_PROMPTS; none without one.

    Raises:
        InvalidInput: no readable front matter. TooLarge: over 1 MiB.
    """
    said, _ = _parts(file, str(file.parent))
    widgets = said.get("widget")
    texts = [_prompt(each) for each in widgets] if isinstance(widgets, list) else []
    return [text.strip()[:MAX_PROMPT] for text in texts if isinstance(text, str) and text.strip()][:MAX_PROMPTS]


def _prompt(widget: object) -> object:
    """What a widget asks: its text, or the first of its messages."""
    if not isinstance(widget, dict):
        return None
    messages = widget.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else {}
    return widget.get("text", first.get("content") if isinstance(first, dict) else None)


def _parts(file: Path, label: str) -> tuple[dict[object, object], str]:
    """The front matter of a model card, which may be missing, and what follows it."""
    text = read_file(file, MAX_MODEL_CARD_BYTES).decode("utf-8-sig", "replace") if file.exists() else ""
    found = REGEX_YAML_BLOCK.search(text)
    said = read_yaml(found[2], f"{label}: front matter of {MODEL_CARD_FILE}") if found else {}
    return said, text[found.end() :] if found else text


def _labels(value: object) -> list[str]:
    """The texts in a field that holds one or a list of them."""
    values = value if isinstance(value, list) else [value]
    # YAML reads the language code of Norwegian as a truth value.
    texts = [plain("no" if each is False else each) for each in values if isinstance(each, str) or each is False]
    return [text[:MAX_LABEL] for text in texts if text]


def _description(body: str) -> str:
    """The first paragraph of prose."""
    for paragraph in "\n".join(body.splitlines()).split("\n\n"):
        prose = plain(" ".join(line for line in paragraph.split("\n") if not line.startswith("#")))
        if any(map(str.isalpha, prose)) and PLACEHOLDER not in prose:
            return prose[:MAX_DESCRIPTION]
    return ""


def plain(text: str) -> str:
    """Returns the text in one line, without HTML tags and control characters."""
    return " ".join(UNPRINTABLE.sub("", MARKUP.sub(" ", text)).split())
