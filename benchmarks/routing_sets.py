"""The learnwares of ``benchmarks/route.py``: files of real prompts, as they are and without near copies.

``files``: every file is a learnware, though the training and the user file of ten finance sets are one source in
one wording, so that no method can tell them apart. ``sources`` was fixed from the data's list of sources before
any result was seen: such pairs are one learnware; the two stand-in mixtures of ``train_sourceproxy`` are left out,
as the list asks, since they hold rows of other files; and ``headlines``, nine questions about a headline, is nine.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.data import Domain

PAIRS = {
    "finance": (
        "australian", "cra_lendingclub", "fiqasa", "fpb", "german", "headlines", "ner", "sm_acl", "sm_bigdata",
        "sm_cikm",
    )
}  # fmt: skip
STAND_INS = {"math": ("MathInstruct", "MetaMathQA")}
QUESTIONS = ("finance", "headlines", "..")
"""Domain and file that hold several questions, and what ends the question in a text."""
MANY = 600

Texts = dict[str, list[str]]


def by_file(data: Path, sample: int) -> Texts:
    """Returns up to ``sample`` texts of every file, by ``<domain>/<train or user>/<file>``."""
    return {name: _texts(domain, path) for domain, name, path in _files(data, sample)}


def by_source(data: Path, sample: int) -> Texts:
    """Returns up to ``sample`` texts of every source, as the module says."""
    found: Texts = {}
    for domain, name, path in _files(data, sample):
        stem = path.stem
        if (domain.name, stem) == QUESTIONS[:2]:
            continue
        if stem in PAIRS.get(domain.name, ()):
            found.setdefault(f"{domain.name}/{stem}", []).extend(_texts(domain, path)[: sample // 2])
        elif stem not in STAND_INS.get(domain.name, ()):
            found[name] = _texts(domain, path)
    return {**found, **_questions(data, sample)}


def _questions(data: Path, sample: int) -> Mapping[str, list[str]]:
    found: Texts = {}
    for domain, _, path in _files(data, MANY):
        if (domain.name, path.stem) == QUESTIONS[:2]:
            for text in _texts(domain, path):
                found.setdefault(f"{path.stem}/{text.partition(QUESTIONS[2])[0]}", []).append(text)
    return {name: texts[:sample] for name, texts in found.items()}


def _files(data: Path, sample: int) -> Iterator[tuple[Domain, str, Path]]:
    folders = sorted(path.parent for path in data.glob("*/user"))
    if not folders:
        sys.exit(f"error: no folder <domain>/user in {data}")
    for folder in folders:
        domain = Domain(folder, sample)
        for kind, files in (("train", domain.train), ("user", domain.user)):
            yield from ((domain, f"{domain.name}/{kind}/{stem}", path) for stem, path in files.items())


def _texts(domain: Domain, path: Path) -> list[str]:
    return [example.text for example in domain.examples(path)]
