"""Manifests of ready learnwares, in Parquet or JSON Lines: records beside their specification files.

A row has the fields of a card, ``id``, ``base_model``, ``rank``, ``adapter_bytes``, perhaps ``version``, and
``specification``: a path inside the manifest's folder or, in Parquet, the file's bytes. Rows are read one after
another, so that a manifest of any size takes the memory of a batch. What a row says is judged in ``ready``.
"""

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from catalogue import Card
from indexer.bulk import MAX_MANIFEST_LINE
from specification import MAX_SPECIFICATION_BYTES
from specification.errors import InvalidInput, TooLarge

if TYPE_CHECKING:
    from pyarrow import Array, RecordBatch
    from pyarrow.parquet import ParquetFile

PARQUET_SUFFIX = ".parquet"
SPECIFICATION = "specification"
REQUIRED = frozenset({"id", "name", "base_model", "rank", "adapter_bytes"})
FIELDS = REQUIRED | {"version"} | Card.model_fields.keys()
"""What a row may say of a learnware; the rest of its record is the dock's to say."""
BATCH_ROWS = 1000
BATCH_BYTES = 2**25
PARQUET_BUFFER = 2**20
SHOWN = 200
NOT_TEXT = "\udcff"
"""Stands for a text that is no UTF-8, in which every field refuses it."""


class ReadyRow(NamedTuple):
    """A row as it was read: its number from 1, its fields without the empty ones, and its specification file."""

    number: int
    fields: dict[str, Any]
    file: bytes


class Refusal(NamedTuple):
    """A row that is not taken, and why."""

    number: int
    reason: str


Item = ReadyRow | Refusal


@dataclass(frozen=True)
class Manifest:
    """A manifest's rows, to be read once: ``batches`` of at most BATCH_ROWS rows and some BATCH_BYTES bytes.

    ``unit`` says what is counted, lines (the empty ones too) or rows; ``total`` how many there are.
    """

    name: str
    unit: str
    total: int
    batches: Iterator[Sequence[Item]]

    def label(self, number: int) -> str:
        """Returns what a row is called in reports."""
        return f"{self.name}, {self.unit} {number}"


def is_ready_manifest(source: Path) -> bool:
    """Tells whether a source of learnwares is a manifest of ready ones: Parquet, or lines with a field ``id``."""
    if source.suffix == PARQUET_SUFFIX or not source.is_file():
        return source.suffix == PARQUET_SUFFIX
    with source.open("rb") as opened:
        for line in iter(lambda: opened.readline(MAX_MANIFEST_LINE + 1), b""):
            fields = _parsed(line)
            if isinstance(fields, dict):
                return "id" in fields
    return False


def open_manifest(source: Path) -> Manifest:
    """Opens a manifest of ready learnwares.

    Rows that cannot be read come as refusals; where a Parquet file is damaged further on, the last one says so.

    Raises:
        InvalidInput: it cannot be read, is no Parquet file, has no rows, or columns that are missing or strange.
    """
    try:
        if source.suffix == PARQUET_SUFFIX:
            return _open_parquet(source)
        with source.open("rb") as opened:
            total = sum(part.count(b"\n") for part in iter(lambda: opened.read(2**20), b"")) + 1
    except OSError as error:
        raise InvalidInput(f"{source}: cannot be read ({error.strerror or error})") from None
    return Manifest(source.name, "line", total, _batches(_lines(source)))


def _batches(items: Iterable[Item]) -> Iterator[Sequence[Item]]:
    batch: list[Item] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item.file) if isinstance(item, ReadyRow) else 0
        if len(batch) == BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _lines(source: Path) -> Iterator[Item]:
    root = os.path.realpath(source.parent)
    with source.open("rb") as opened:
        for number, line in enumerate(iter(lambda: opened.readline(MAX_MANIFEST_LINE + 1), b""), 1):
            fields = _parsed(line)
            rest = line
            while len(rest) > MAX_MANIFEST_LINE and not rest.endswith(b"\n"):
                rest = opened.readline(MAX_MANIFEST_LINE + 1)
            if not line.isspace():
                yield _line(number, fields, root)


def _line(number: int, fields: object, root: str) -> Item:
    if not isinstance(fields, dict):
        said = 'not a JSON object of at most 1 MiB; write {"id": …, "name": …, "specification": …}'
        return Refusal(number, said)
    if "adapter" in fields and "id" not in fields:
        said = (
            "field 'adapter' in a manifest of ready learnwares, which have an 'id'; give adapters one of their own"
        )
        return Refusal(number, said)
    return _row(number, {name: value for name, value in fields.items() if value is not None}, root)


def _row(number: int, fields: dict[str, Any], root: str) -> Item:
    """Returns a row with its file, which lies in the column or in the manifest's folder ``root``."""
    file = fields.pop(SPECIFICATION, None)
    if isinstance(file, str):
        try:
            file = _read_inside(root, file)
        except InvalidInput as error:
            return Refusal(number, str(error))
    if not isinstance(file, bytes):
        return Refusal(number, f"field {SPECIFICATION!r} must be the path of a specification file")
    return ReadyRow(number, fields, file)


def _parsed(text: bytes) -> object:
    """The JSON value in ``text``; None, which is no learnware, for anything else."""
    try:
        return json.loads(text) if len(text) <= MAX_MANIFEST_LINE else None
    except (ValueError, RecursionError):
        return None


def _read_inside(root: str, path: str) -> bytes:
    """Reads a regular file inside the folder ``root``, which is free of links; it is no link itself."""
    label = f"field {SPECIFICATION!r}: {path[:SHOWN]!r}"
    folder, name = os.path.split(path)
    try:
        handle = os.open(f"{_inside(root, folder)}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise InvalidInput(f"{label} is not a regular file")
            if found.st_size > MAX_SPECIFICATION_BYTES:
                raise TooLarge(f"{label} has {found.st_size} bytes, the limit is {MAX_SPECIFICATION_BYTES}")
            return os.read(handle, found.st_size)
        finally:
            os.close(handle)
    except OSError as error:
        reason = "links are not followed" if error.errno == errno.ELOOP else error.strerror
        raise InvalidInput(f"{label} cannot be read ({reason})") from None
    except ValueError:
        raise InvalidInput(f"{label} is no path") from None


@lru_cache(maxsize=4096)
def _inside(root: str, folder: str) -> str:
    """Returns a folder under ``root`` without links; many files lie in one, and to resolve it takes a while."""
    found = os.path.realpath(os.path.join(root, folder))
    if os.path.commonpath([root, found]) != root:
        raise InvalidInput(f"field {SPECIFICATION!r}: {folder[:SHOWN]!r} is not inside the manifest's folder")
    return found


def _open_parquet(source: Path) -> Manifest:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        # So columns are read page by page; the default reads row groups ahead, in the end the whole file.
        opened = ParquetFile(source, buffer_size=PARQUET_BUFFER, pre_buffer=False)
    except pyarrow.ArrowException as error:
        raise InvalidInput(f"{source}: not a Parquet file ({error})") from None
    names = opened.schema_arrow.names
    strange = sorted(set(names) - FIELDS - {SPECIFICATION})
    missing = sorted((REQUIRED | {SPECIFICATION}) - set(names))
    if strange or missing or len(set(names)) < len(names):
        opened.close()
        raise InvalidInput(
            f"{source}: columns missing: {', '.join(missing) or 'none'}; not known or twice: "
            f"{', '.join(strange)[:SHOWN] or 'none'}; known are {', '.join(sorted(FIELDS))} and {SPECIFICATION}"
        )
    if not opened.metadata.num_rows:
        opened.close()
        raise InvalidInput(f"{source}: the manifest names no learnware; write one a row")
    return Manifest(
        source.name,
        "row",
        opened.metadata.num_rows,
        _batches(_parquet_rows(opened, os.path.realpath(source.parent))),
    )


def _parquet_rows(opened: "ParquetFile", root: str) -> Iterator[Item]:
    import pyarrow

    number = 0
    groups = [opened.metadata.row_group(place) for place in range(opened.num_row_groups)]
    largest = max(group.total_byte_size // max(group.num_rows, 1) for group in groups)
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(largest, 1)))
    with opened:
        try:
            for piece in opened.iter_batches(rows, use_threads=False):
                for fields in _fields(piece):
                    number += 1
                    yield _row(number, fields, root)
        except (pyarrow.ArrowException, OSError) as error:
            yield Refusal(number + 1, f"the file is damaged here, the rest was not read ({error})")


def _fields(piece: "RecordBatch") -> Iterator[dict[str, Any]]:
    names = piece.schema.names
    for values in zip(*map(_values, piece.columns), strict=True):
        yield {name: value for name, value in zip(names, values, strict=True) if value is not None}


def _values(column: "Array") -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except ValueError:
        return [_value(each) for each in column]
    return values


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except ValueError:
        return NOT_TEXT
