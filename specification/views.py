"""What tells prompts apart, one vector a prompt: its meaning, its layout and its words, side by side.

Meaning is the sentence encoder's unit vector, the only part that costs encoding. Layout is how long a text is,
how many lines, options, digits or quotes it has and how it ends. Words are hashed words and pairs of words,
1 + log(count), folded with random signs into WORDS numbers of length 1 ("count sketch", Charikar et al., ICALP
2002; feature hashing, Weinberger et al., ICML 2009): instructions are worded alike within a task, and that is
what meaning alone does not see. Only the first MAX_CHARACTERS are read, and of these, for layout and words, both
ends.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specification.kernel import Floats

VIEWS = "meaning-layout-words-1"
"""Changes when the same text and encoder would give another vector; only equal ones are compared."""

LAYOUT = 19
WORDS = 256
MAX_CHARACTERS = 16_384
END = 2000
HASHES = 2**18
SCALE = 0.2
OPTION = re.compile(r"^\s*\(?[A-Ea-e1-5][\).:]", re.MULTILINE)


def views_dimension(encoder_dimension: int) -> int:
    """Returns the length of the vectors that ``join_views`` makes."""
    return encoder_dimension + LAYOUT + WORDS


def join_views(texts: Sequence[str], meaning: Floats) -> Floats:
    """Joins the views of each text; ``meaning`` is float32 [n, d], the encoder's vectors of the texts.

    Returns float32 [n, d + LAYOUT + WORDS].
    """
    read = [text[:MAX_CHARACTERS].strip() for text in texts]
    short = [text if len(text) <= 2 * END else f"{text[:END]}\n{text[-END:]}" for text in read]
    layout = np.array([_layout(text, len(whole)) for text, whole in zip(short, read, strict=True)])
    joined: Floats = np.concatenate([meaning, layout.reshape(-1, LAYOUT), _words(short)], axis=1, dtype=np.float32)
    return joined


def _layout(text: str, length: int) -> NDArray[np.float64]:
    lines = text.split("\n")
    counts = [
        length, len(lines), max(map(len, lines)), len(lines[-1]), len(text.split()), text.count("?"),
        len(OPTION.findall(text)), text.count(":"), sum(map(text.count, "\"'“”")), text.count(","),
        text.count("("), text.count("$") + text.count("\\"),
    ]  # fmt: skip
    kinds = (str.isdigit, str.isupper, lambda sign: sign > "\x7f", lambda sign: sign in ".!;")
    shares = [sum(map(kind, text)) / max(len(text), 1) for kind in kinds]
    ends = [text.endswith(sign) for sign in "?:."]
    # A share of a tenth and half an ending weigh as much as a count that grows by the factor e.
    parts = [np.log1p(counts), 10 * np.array(shares), 2.0 * np.array(ends)]
    layout: NDArray[np.float64] = SCALE * np.concatenate(parts)
    return layout


def _words(texts: Sequence[str]) -> NDArray[np.float64]:
    counts = _hashing().transform(texts)
    signs = 1 - 2 * (counts.indices // WORDS % 2)
    values = (1 + np.log(counts.data)) * signs
    rows = np.repeat(np.arange(len(texts)), np.diff(counts.indptr))
    places = WORDS * rows + counts.indices % WORDS
    folded = np.bincount(places, weights=values, minlength=WORDS * len(texts)).reshape(len(texts), WORDS)
    lengths = np.linalg.norm(folded, axis=1, keepdims=True)
    result: NDArray[np.float64] = folded / np.where(lengths > 0, lengths, 1)
    return result


@cache
def _hashing() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        ngram_range=(1, 2), n_features=HASHES, alternate_sign=False, norm=None, lowercase=False,
        token_pattern=r"\w+|[^\w\s]|\n",
    )  # fmt: skip
