"""Short texts and numbers in records: what they may hold."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

ID_PATTERN = r"^[0-9a-f]{64}$"
MAX_NUMBER = 2**53


def printable(text: str) -> str:
    """Returns ``text``; raises ValueError if it holds control characters or lone surrogates."""
    if any(unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t" for character in text):
        raise ValueError("control characters are not allowed")
    return text


Label = Annotated[str, Field(max_length=200), AfterValidator(printable)]
Labels = Annotated[tuple[Label, ...], Field(max_length=50)]
