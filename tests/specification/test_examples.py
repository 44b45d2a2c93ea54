import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specification import Example, read_examples
from specification.errors import InvalidExamples, TooLarge


def write(folder: Path, data: bytes) -> Path:
    file = folder / "examples.jsonl"
    file.write_bytes(data)
    return file


def test_reads_text_or_prompt_and_answers(tmp_path: Path) -> None:
    file = write(tmp_path, b'{"text": "a", "answer": "b"}\n\n{"prompt": "c", "answer": 7}\n')
    assert read_examples(file) == [Example("a", "b"), Example("c", "7")]


def test_takes_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    file = write(tmp_path, b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}\r\n')
    assert read_examples(file) == [Example("a"), Example("b")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"text": "a"}\n{"text": "b", "answer": ' + b"9" * 5000 + b"}\n", "line 2: not JSON"),
        (b"", "no examples"),
        (b'{"text": "only one"}\n', "at least 2"),
        (b'{"text": "a", "answer": "b"}\n{"prompt": "a"}\n', "its 2 texts are all equal"),
        (b'{"text": "a"}\nnot json\n', "line 2: not JSON"),
        (b'{"text": "a"}\n{"body": "b"}\n', "line 2: no field 'text' or 'prompt' .fields found: body"),
        (b'{"text": "a"}\n{"text": ""}\n', "line 2: field 'text' must be a non-empty string"),
        (b'{"text": "a"}\n[1]\n', "line 2: a JSON list"),
        (b'{"text": "a"}\n{"text": "\xff\xfe"}\n', "line 2: not UTF-8 at byte"),
        (b'{"text": "a"}\n' + b"[" * 100_000 + b"\n", "line 2: not JSON"),
    ],
)
def test_refuses_and_names_the_line(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InvalidExamples, match=message):
        read_examples(write(tmp_path, data))


def test_refuses_a_text_of_ten_megabytes(tmp_path: Path) -> None:
    data = b'{"text": "a"}\n' + json.dumps({"text": "x" * 10_000_000}).encode()
    with pytest.raises(TooLarge, match="line 2: 10000012 bytes"):
        read_examples(write(tmp_path, data))


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidExamples, match="no such file"):
        read_examples(tmp_path / "none.jsonl")
    with pytest.raises(InvalidExamples, match="no such file"):
        read_examples(tmp_path)
    with pytest.raises(InvalidExamples, match="cannot be read"):
        read_examples("x" * 300)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = write(tmp_path_factory.mktemp("any"), data)
    with contextlib.suppress(InvalidExamples):
        assert len(read_examples(file)) >= 2
