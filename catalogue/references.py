"""Finding a learnware by what people and programs call it."""

import re

from catalogue.contract import MAX_LIMIT, Catalogue
from catalogue.filters import Filter, Match
from catalogue.learnware import ENGINE_ID_LENGTH, NAME_PATTERN, Learnware, is_id


def find_learnware(catalogue: Catalogue, reference: str) -> Learnware | None:
    """Returns a learnware by id, name, ``name@version`` or engine name, None if there is none.

    A bare name means the newest published version, or the newest where none is published.
    """
    if is_id(reference):
        return next(iter(catalogue.get([reference])), None)
    name, mark, which = reference.partition("@")
    if not mark:
        return catalogue.named(name) or next(iter(versions_of(catalogue, name)), None)
    versions = versions_of(catalogue, name)
    return next((one for one in versions if which in (str(one.version), one.id[:ENGINE_ID_LENGTH])), None)


def versions_of(catalogue: Catalogue, name: str) -> list[Learnware]:
    """Returns all learnwares of a name, the published ones first, and of these the newest."""
    if re.fullmatch(NAME_PATTERN, name) is None:
        return []
    found = catalogue.scroll(Filter(conditions=(Match(field="name", values=(name,)),)), MAX_LIMIT).learnwares
    return sorted(found, key=lambda one: (one.status != "published", -one.version, one.id))
