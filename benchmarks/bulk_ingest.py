"""Bulk ingest of ready learnwares from a Parquet manifest: checked in full and durable, then the index.

    python -m benchmarks.bulk_ingest [--size 100000] [--data DIR] [--folder DIR]

Learnwares are drawn as for ``benchmarks.catalogue``. The same manifest is taken in twice: the second time every
row is there already.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.catalogue import drawn_in
from benchmarks.catalogue_data import arguments, rows, source, tags_of
from benchmarks.drawn import Drawn
from benchmarks.manifests import write_parquet
from benchmarks.report import finish, progress_bar, resident, table
from catalogue import CatalogueSettings, EdgeCatalogue
from indexer import ReadyCheck, ReadyIngest
from specification import EncoderIdentity, SentenceEncoder

GIVEN = (
    "id", "name", "description", "domain", "task_type", "licence", "languages", "tags", "base_model", "rank",
    "adapter_bytes",
)  # fmt: skip
SPOILT = 1000
"""Of so many rows one has a specification that was altered."""


def main() -> None:
    options = arguments(__doc__, 100_000).parse_args()
    drawer, words = source(options.data, options.seed)
    encoder = SentenceEncoder().identity
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)) / f"{options.size}-{options.seed}"
        drawn = drawn_in(folder, options.size, drawer, options.seed)
        manifest = Path(temporary) / "rows.parquet"
        write_parquet(manifest, _rows(drawn, encoder, options.seed))
        lines: list[list[object]] = []
        with EdgeCatalogue.open(Path(temporary) / "catalogue", CatalogueSettings.of(encoder)) as catalogue:
            ingest = ReadyIngest(catalogue, ReadyCheck(encoder, frozenset(), None))
            for turn in ("first", "again"):
                with progress_bar(turn, "learnwares") as progress:
                    report = ingest.run(manifest, progress)
                rate = options.size / report.seconds
                counts = [report.added, report.changed, report.unchanged, report.refused]
                lines.append([turn, report.seconds, rate, *counts, resident()])
            started = time.perf_counter()
            catalogue.settle()
            index = time.perf_counter() - started
            found = catalogue.count()
    table(
        f"{options.size} rows of a manifest, one in {SPOILT} spoilt; index made in {index:.1f} s, {found} in it",
        ["turn", "seconds", "rows/s", "added", "changed", "unchanged", "refused", "resident GB"],
        lines,
    )
    finish("bulk_ingest", {"texts": words, "turns": lines, "index": index, "found": found})


def _rows(drawn: Drawn, encoder: EncoderIdentity, seed: int) -> Iterator[dict[str, Any]]:
    spoilt = np.random.default_rng(seed).random(len(drawn)) < 1 / SPOILT
    for place, row in enumerate(rows(drawn, encoder, tags_of(len(drawn), seed), seed)):
        file = row.file[:-1] + bytes([row.file[-1] ^ 1]) if spoilt[place] else row.file
        fields = row.learnware.model_dump(mode="json", include=set(GIVEN))
        yield {**fields, "specification": file}


if __name__ == "__main__":
    main()
