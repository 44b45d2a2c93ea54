"""Hostile submissions and what becomes of each, through the real indexer: every one must be refused, by its name.

The corpus is the tests' (``tests/indexer/hostile.py``): adapters, whole models, cards, specifications, manifests.

    python -m benchmarks.hostile
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.markup import escape

from benchmarks.report import arguments, finish, progress_bar, table
from catalogue import Card
from indexer import BaseModels, Indexer
from slmdock.output import safe
from specification import SentenceEncoder, specify
from specification.errors import DockError
from tests.indexer.hostile import HOSTILE
from tests.indexer.parcels import Good, Outcome, attempt, open_indexer
from tests.serving import tiny

SHOWN = 100


def main() -> None:
    arguments(__doc__, data=False).parse_args()
    encoder = SentenceEncoder()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = tiny.build_base(folder / "base")
        bases = BaseModels(folder / "bases.json")
        bases.add(tiny.BASE_NAME, base)
        texts = [f"How high is hill number {number}?" for number in range(20)]
        good = Good(
            tiny.build_adapter(base, folder / "adapter", 0),
            tiny.build_base(folder / "model", seed=1),
            specify(texts, encoder),
        )
        with open_indexer(folder, encoder, bases) as indexer:
            outcomes = _attempts(good, indexer, folder)
            left = indexer.catalogue.count() + len(list(indexer.store.ids()))
            indexer.submit(good.adapter, good.specification, Card(name="honest"))
    refused = Counter(type(each.error).__name__ for each in outcomes if isinstance(each.error, DockError))
    print("after them a good adapter was taken in")
    finish(
        "hostile",
        {
            "submissions": len(HOSTILE),
            "refused": refused,
            "not_refused": len(HOSTILE) - refused.total(),
            "strays": sum(len(each.strays) for each in outcomes),
            "left_in_the_dock": left,
            "most_megabytes_taken": max(each.grown for each in outcomes) / 1e6,
        },
    )
    sys.exit(1 if left or refused.total() < len(HOSTILE) else 0)


def _attempts(good: Good, indexer: Indexer, folder: Path) -> list[Outcome]:
    outcomes, rows = [], []
    with progress_bar("hostile submissions") as progress:
        for done, hostile in enumerate(HOSTILE):
            progress(done, len(HOSTILE))
            outcome = attempt(hostile, good, indexer, folder / "place")
            outcomes.append(outcome)
            message = safe(str(outcome.error)).replace(str(folder / "place" / "submitted"), "…")
            cut = message if len(message) <= SHOWN else message[: SHOWN - 1] + "…"
            rows.append((hostile.name, type(outcome.error).__name__, escape(cut)))
    table("hostile submissions", ("submission", "outcome", "message"), rows)
    return outcomes


if __name__ == "__main__":
    main()
