"""Task examples: a JSON Lines file of prompts, each with an optional answer.

Everything a user hands in is checked here, once, with the line named; nothing below checks again.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from specification.errors import InvalidExamples, TooLarge

MAX_FILE_BYTES = 512 * 2**20
MAX_TEXT_BYTES = 2**20
MAX_EXAMPLES = 1_000_000
MIN_EXAMPLES = 2
TEXT_FIELDS = ("text", "prompt")
WANTED = "a field 'text' (or 'prompt')"


@dataclass(frozen=True)
class Example:
    """One example of a task: the prompt as a model sees it and its gold answer, which may be empty."""

    text: str
    answer: str = ""


def read_examples(path: str | os.PathLike[str]) -> list[Example]:
    """Reads a JSON Lines file with a field ``text`` (or ``prompt``) and an optional ``answer`` per line.

    Returns at least ``MIN_EXAMPLES`` examples, in file order. Blank lines are passed over.

    Raises:
        InvalidExamples: no such file, not UTF-8, not JSON, a missing field, or too few examples; the
            message names the line.
        TooLarge: the file, one text, or the number of examples exceeds its limit.
    """
    source = Path(path)
    try:
        if not source.is_file():
            raise InvalidExamples(f"{source}: no such file; give a JSON Lines file with {WANTED} per line")
        size = source.stat().st_size
        if size > MAX_FILE_BYTES:
            raise TooLarge(f"{source}: {size} bytes, the limit is {MAX_FILE_BYTES}; send a sample of the examples")
        with source.open("rb") as lines:
            examples = parse_examples(lines, str(source))
    except OSError as error:
        raise InvalidExamples(f"{source}: cannot be read ({error.strerror})") from None
    return check_examples(examples, str(source))


def parse_examples(lines: BinaryIO, source: str) -> list[Example]:
    """Reads examples as ``read_examples`` does, from the lines of what messages call ``source``; maybe too few."""
    examples: list[Example] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            examples.append(_parse(line, f"{source}, line {number}"))
        if len(examples) > MAX_EXAMPLES:
            raise TooLarge(f"{source}: more than {MAX_EXAMPLES} examples; send a sample of them")
    return examples


def check_examples(examples: list[Example], source: str) -> list[Example]:
    """Returns ``examples`` if there are enough of them.

    Raises:
        InvalidExamples: fewer than ``MIN_EXAMPLES``, or all of the same text.
    """
    if not examples:
        raise InvalidExamples(f"{source}: no examples; at least {MIN_EXAMPLES} are needed to describe a task")
    if len(examples) < MIN_EXAMPLES:
        raise InvalidExamples(
            f"{source}: {len(examples)} example, at least {MIN_EXAMPLES} are needed: a sketch of one text "
            "would be the text itself"
        )
    if all(example.text == examples[0].text for example in examples):
        raise InvalidExamples(
            f"{source}: its {len(examples)} texts are all equal, and a sketch of them would be the text itself; "
            "is it the right file?"
        )
    return examples


def _parse(line: bytes, where: str) -> Example:
    if len(line) > 2 * MAX_TEXT_BYTES:
        raise TooLarge(f"{where}: {len(line)} bytes, the limit for a text is {MAX_TEXT_BYTES}; shorten it")
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidExamples(f"{where}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InvalidExamples(f"{where}: not JSON ({error}); each line must be one JSON object") from None
    return _example(row, where)


def _example(row: object, where: str) -> Example:
    if not isinstance(row, dict):
        raise InvalidExamples(f"{where}: a JSON {type(row).__name__}, expected an object with {WANTED}")
    field = next((name for name in TEXT_FIELDS if name in row), None)
    if field is None:
        found = ", ".join(sorted(map(str, row)))[:200] or "none"
        raise InvalidExamples(f"{where}: no field 'text' or 'prompt' (fields found: {found})")
    text, answer = row[field], row.get("answer", "")
    if not isinstance(text, str) or not text.strip():
        raise InvalidExamples(f"{where}: field '{field}' must be a non-empty string")
    if not isinstance(answer, str):
        try:
            answer = json.dumps(answer, ensure_ascii=False)
        except RecursionError:
            raise InvalidExamples(f"{where}: field 'answer' is nested too deep") from None
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise TooLarge(f"{where}: the text has {len(text)} characters, over {MAX_TEXT_BYTES} bytes; shorten it")
    # A lone surrogate is in JSON, but in no text that can be encoded.
    return Example(*(each.encode("utf-8", "replace").decode() for each in (text, answer)))
