"""The data that benchmarks are run on: a folder ``<domain>/train``, ``<domain>/user``, ``paper/<domain>.csv``.

Every ``.jsonl`` file has one example a line, ``text`` and ``answer``. A score table has a row a task; its first
column names the task, six columns of reference models follow, and every other column ``<training set>-<n>`` is a
learnware. A training set ``a&b`` is the union of the files a and b.
"""

import csv
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from specification import Example, read_examples

REFERENCE_MODELS = 6
LEARNWARE = re.compile(r"(.+)-(\d+)")
UNIONS = {
    "medalpaca_cleaned": ("meadow_*", "pubmed_causal"),
    "alpacare&chatdoctor": ("AlpaCare", "ChatDoctor", "chatdoctor_5k"),
}
"""Training sets whose name does not say which files they are made of."""


@dataclass(frozen=True)
class Domain:
    """The files of one domain, read when they are asked for. ``sample`` texts a file, drawn by ``seed``."""

    folder: Path
    sample: int = 128
    seed: int = 0

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def train(self) -> dict[str, Path]:
        """Training files by name; those of ``train_sourceproxy`` stand in for missing ones."""
        return {**_files(self.folder / "train_sourceproxy"), **_files(self.folder / "train")}

    @cached_property
    def user(self) -> dict[str, Path]:
        """User files by name."""
        return _files(self.folder / "user")

    def examples(self, path: Path) -> list[Example]:
        """Returns up to ``sample`` examples; a smaller sample is the beginning of a larger one."""
        every = read_examples(path)
        order = np.random.default_rng(self.seed).permutation(len(every))
        return [every[int(index)] for index in order[: self.sample]]

    def training_set(self, name: str) -> list[Path]:
        """Returns the files a training set is made of, none if one of them is missing."""
        found: list[Path] = []
        for pattern in UNIONS.get(name.lower(), tuple(name.split("&"))):
            expression = re.compile(re.escape(pattern).replace(r"\*", ".*"), re.IGNORECASE)
            matching = [path for stem, path in self.train.items() if expression.fullmatch(stem)]
            if not matching:
                return []
            found += matching
        return found

    def task(self, name: str) -> Path | None:
        """Returns the user file of a task, None if it is missing."""
        return {stem.lower(): path for stem, path in self.user.items()}.get(name.lower())


@dataclass(frozen=True)
class Scores:
    """A score table: ``values`` is float64 [tasks, models] in percent, NaN where a cell is empty.

    ``sets`` names each model's training set; ``reference`` holds the columns that are no learnwares.
    """

    tasks: tuple[str, ...]
    models: tuple[str, ...]
    sets: tuple[str, ...]
    values: NDArray[np.float64]
    reference: dict[str, NDArray[np.float64]]


def read_domain(data: Path, name: str, sample: int = 128, seed: int = 0) -> Domain:
    """Opens a domain's folder; ends the program with a message if there is none."""
    folder = data / name
    if not folder.is_dir():
        known = sorted(path.name for path in data.glob("*") if (path / "user").is_dir())
        sys.exit(f"error: no folder {name!r} in {data}; domains there: {', '.join(known) or 'none'}")
    return Domain(folder, sample, seed)


def read_scores(data: Path, domain: str) -> Scores:
    """Reads ``paper/<domain>.csv``; ends the program with a message if it is missing or has no learnwares."""
    path = data / "paper" / f"{domain}.csv"
    if not path.is_file():
        sys.exit(f"error: no score table {path}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(row)]
    matches = {place: LEARNWARE.fullmatch(title) for place, title in enumerate(header)}
    places = [place for place, match in matches.items() if match and place > REFERENCE_MODELS]
    if not places:
        sys.exit(f"error: {path} has no column <training set>-<n> after the first {REFERENCE_MODELS + 1}")
    table = np.array([[_number(row, place) for place in range(len(header))] for row in rows])
    return Scores(
        tasks=tuple(row[0] for row in rows),
        models=tuple(header[place] for place in places),
        sets=tuple(header[place].rpartition("-")[0] for place in places),
        values=table[:, places],
        reference={header[place]: table[:, place] for place in range(1, REFERENCE_MODELS + 1)},
    )


def _files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.jsonl"))}


def _number(row: list[str], place: int) -> float:
    try:
        return float(row[place])
    except (ValueError, IndexError):
        return float("nan")
