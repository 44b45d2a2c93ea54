"""YAML that strangers wrote, read as plain data."""

from typing import Any

import yaml

from specification.errors import InvalidInput, TooLarge

MAX_LENGTH = 2**17
MAX_DEPTH = 32


class PlainLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain data alone, and tuples, which Python programs write under a tag of their own, as lists."""


def _tuple(loader: PlainLoader, node: Any) -> object:
    return loader.construct_sequence(node, deep=True)


PlainLoader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def read_yaml(text: str, label: str) -> dict[object, object]:
    """Returns the mapping in ``text``; nothing but an empty text is an empty one. ``label`` names it in errors.

    Raises:
        InvalidInput: not YAML, not a mapping, nested deeper than MAX_DEPTH, or with aliases, by which a few lines
            can stand for any amount of data. TooLarge: more than MAX_LENGTH characters.
    """
    if len(text) > MAX_LENGTH:
        raise TooLarge(f"{label}: {len(text)} characters of YAML, the limit is {MAX_LENGTH}")
    try:
        _check(text, label)
        found = yaml.load(text, PlainLoader)
    except InvalidInput:
        raise
    except Exception as error:
        # Dates, numbers and keys that make no sense raise whatever Python does.
        raise InvalidInput(f"{label}: not YAML that can be read ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(found, dict | None):
        raise InvalidInput(f"{label}: a YAML {type(found).__name__}, expected a mapping of names to values")
    return found or {}


def _check(text: str, label: str) -> None:
    depth = 0
    for event in yaml.parse(text, PlainLoader):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidInput(f"{label}: YAML with an alias (*{event.anchor[:40]}); write the value out instead")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InvalidInput(f"{label}: YAML nested deeper than {MAX_DEPTH}; flatten it")
