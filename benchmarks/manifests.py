"""Writes manifests of ready learnwares, for benchmarks and tests; ``indexer.manifest`` says what a row holds."""

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

ROWS = 10_000
NUMBERS = ("rank", "adapter_bytes", "version")
LISTS = ("languages", "tags")


def write_parquet(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows with equal fields, in groups of ROWS; ``specification`` is bytes, or a path.

    Uncompressed: nearly all of it is float16 numbers, which only cost time to decompress.
    """
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    source = iter(rows)
    group = list(islice(source, ROWS))
    kinds = dict.fromkeys(NUMBERS, pyarrow.int64()) | dict.fromkeys(LISTS, pyarrow.list_(pyarrow.string()))
    if isinstance(group[0]["specification"], bytes):
        kinds["specification"] = pyarrow.binary()
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in group[0]])
    with ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
        while group:
            writer.write_table(pyarrow.Table.from_pylist(group, schema))
            group = list(islice(source, ROWS))


def write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as JSON Lines; ``specification`` is a path."""
    with file.open("w") as opened:
        opened.writelines(json.dumps(row) + "\n" for row in rows)
