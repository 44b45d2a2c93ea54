"""Model cards (README.md, as on the Hugging Face hub), and what of them goes into a learnware's card.

Text only: no markup is kept.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
BASE_MODEL_TAG = "base_model:"
PLACEHOLDER = "[More Information Needed]"
"""What the hub's template leaves where the author wrote nothing."""


class ModelCard(NamedTuple):
    """What a model card says: the fields of its front matter, and its text."""

    fields: dict[object, object]
    text: str


def read_model_card(file: Path, label: str) -> ModelCard:
    """Returns the model card in a file; without front matter it has no fields. ``label`` names it in errors.

    Raises:
        InvalidInput: no such file, or no readable front matter. TooLarge: over 1 MiB.
    """
    text = read_file(file, MAX_MODEL_CARD_BYTES).decode("utf-8-sig", "replace")
    found = REGEX_YAML_BLOCK.search(text)
    if found is None:
        return ModelCard({}, text)
    return ModelCard(read_yaml(found[2], f"{label}: front matter of the model card"), text[found.end() :])


def hub_card(model: str, commit: str, file: Path) -> Card:
    """Returns the card of ``model`` (owner/name) at a commit from its model card, which may be missing.

    The first tag says where it comes from: ``huggingface:<model>@<commit>``. Values that are no text are left out.

    Raises:
        InvalidInput: no readable front matter, or a name that learnwares cannot have. TooLarge: over 1 MiB.
    """
    said = _card_in(file, f"{model}: {MODEL_CARD_FILE}")
    facts = _facts(said.fields)
    bases = [f"{BASE_MODEL_TAG}{base}"[:MAX_LABEL] for base in _labels(said.fields.get("base_model"))]
    return parse_card(
        {
            "name": model.replace("/", "--").lstrip("._-")[:MAX_NAME],
            "description": _description(said.text),
            **facts,
            "tags": [f"huggingface:{model}@{commit}", *bases, *facts["tags"]][:MAX_LABELS],
            "owner": model.rpartition("/")[0] or "unknown",
        }
    )


def stated_bases(file: Path) -> list[str]:
    """Returns the base models that a model card names; none where there is no card.

    Raises:
        InvalidInput, TooLarge: see ``read_model_card``.
    """
    return _labels(_card_in(file, str(file)).fields.get("base_model"))


def card_prompts(file: Path) -> list[str]:
    """Returns the prompts that a model card shows as examples (``widget``), at most MAX_PROMPTS; none without one.

    Raises:
        InvalidInput, TooLarge: see ``read_model_card``.
    """
    widgets = _card_in(file, str(file)).fields.get("widget")
    texts = [_prompt(each) for each in widgets] if isinstance(widgets, list) else []
    return [text.strip()[:MAX_PROMPT] for text in texts if isinstance(text, str) and text.strip()][:MAX_PROMPTS]


def completed(fields: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Returns the fields of a card, those that say nothing filled from the model card in a submitted folder.

    The front matter alone is heeded: licence, languages, tags and task; names of datasets and metrics become tags.
    Its base model is not: that is what the adapter's configuration says.

    Raises:
        InvalidInput: no readable front matter. TooLarge: over 1 MiB.
    """
    file = folder / MODEL_CARD_FILE
    # Unlike Path.exists this is also False for a name that no file can have; whoever reads the folder says so.
    if not os.path.exists(file):
        return dict(fields)
    facts = _facts(read_model_card(file, str(file)).fields)
    facts["tags"] = [tag for tag in facts["tags"] if not tag.startswith(BASE_MODEL_TAG)]
    return {**fields, **{name: value for name, value in facts.items() if fields.get(name, "") in ("", [])}}


def _card_in(file: Path, label: str) -> ModelCard:
    """The model card in a file, empty where there is none."""
    return read_model_card(file, label) if file.exists() else ModelCard({}, "")


def _prompt(widget: object) -> object:
    """What a widget asks: its text, or the first of its messages."""
    if not isinstance(widget, dict):
        return None
    messages = widget.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else {}
    return widget.get("text", first.get("content") if isinstance(first, dict) else None)


def _facts(said: Mapping[object, object]) -> dict[str, Any]:
    """Returns what front matter says, by the fields of our card."""
    licences = _labels(said.get("license"))
    if licences == ["other"]:
        licences = _labels(said.get("license_name")) or licences
    named = [
        f"{kind}:{each}"[:MAX_LABEL] for kind in ("dataset", "metric") for each in _labels(said.get(f"{kind}s"))
    ]
    return {
        "licence": ", ".join(licences)[:MAX_LABEL] or "unknown",
        "task_type": next(iter(_labels(said.get("pipeline_tag"))), ""),
        "languages": _labels(said.get("language"))[:MAX_LABELS],
        "tags": [*_labels(said.get("tags")), *named][:MAX_LABELS],
    }


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
