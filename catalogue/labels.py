"""Short texts and numbers in records: what they may hold."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

ID_PATTERN = r"^[0-9a-f]{64}$"
MAX_NUMBER = 2**53
MAX_LABEL = 200
MAX_LABELS = 50
# Unicode's categories Cc, without line breaks and tabs, and Cs.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """Returns ``text``; raises ValueError if it holds control characters or lone surrogates."""
    if not text.isprintable() and UNPRINTABLE.search(text):
        raise ValueError("control characters are not allowed")
    return text


Label = Annotated[str, Field(max_length=MAX_LABEL), AfterValidator(printable)]
Labels = Annotated[tuple[Label, ...], Field(max_length=MAX_LABELS)]
