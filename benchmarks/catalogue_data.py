"""What ``benchmarks.catalogue`` fills catalogues with: rows ready to be loaded, and tasks to be searched for."""

import argparse
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import read_domain
from benchmarks.drawn import TEXTS, Drawn, Source
from benchmarks.report import progress_bar
from benchmarks.shelf import CachedEncoder
from catalogue import Learnware, Row
from slmdock.demo.texts import LEARNWARE_TASKS, USER_TASKS, training_examples, user_examples
from slmdock.dock import cache_folder
from specification import (
    DEFAULT_GAMMA,
    Calibration,
    EncoderIdentity,
    Section,
    SentenceEncoder,
    Specification,
)
from specification.calibration import GENERAL
from specification.fast_encoder import FastEncoder
from specification.kernel import Floats, gaussian

TEXTS_A_FILE = 250
BATCH = 2000
DOMAINS = ("finance", "law", "medicine", "mathematics")
SHARES = {"half": 0.5, "twentieth": 0.05, "thousandth": 0.001}
"""Tags that filters ask for, and how many learnwares have them."""


def arguments(description: str | None, *sizes: int) -> argparse.ArgumentParser:
    """A parser with the options of the catalogue's benchmarks; ``--size`` is a list where several are given."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    if len(sizes) > 1:
        parser.add_argument("--size", type=int, nargs="+", default=list(sizes), help="learnwares")
    else:
        parser.add_argument("--size", type=int, default=sizes[0], help="learnwares at the start")
    parser.add_argument("--data", type=Path, default=None, help="folder of real texts; without it the demo's")
    parser.add_argument("--folder", type=Path, default=None, help="where what is made is kept and found again")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def source(data: Path | None, seed: int) -> tuple[Source, str]:
    """Returns what learnwares are drawn from, and in words what that is."""
    texts, labels, words = _texts(data, seed)
    encoder = CachedEncoder(
        FastEncoder.of(SentenceEncoder(), threads=2), cache_folder() / "benchmarks" / "fast-embeddings.sqlite"
    )
    vectors = []
    with progress_bar("encoding", "texts") as progress:
        for start in range(0, len(texts), BATCH):
            vectors.append(encoder.encode(texts[start : start + BATCH]))
            progress(start, len(texts))
    return Source(np.concatenate(vectors), np.array(labels), seed), words


def _texts(data: Path | None, seed: int) -> tuple[list[str], list[int], str]:
    if data is None:
        made = [training_examples(task, TEXTS_A_FILE, seed) for task in LEARNWARE_TASKS]
        made += [user_examples(task, TEXTS_A_FILE, seed) for task in USER_TASKS]
        groups = [[one.text for one in group] for group in made]
        words = f"{len(groups)} tasks of the demo's generators"
    else:
        domains = [
            read_domain(data, path.name, TEXTS_A_FILE, seed)
            for path in sorted(data.iterdir())
            if (path / "user").is_dir()
        ]
        paths = [(domain, path) for domain in domains for path in (*domain.train.values(), *domain.user.values())]
        groups = [[one.text for one in domain.examples(path)] for domain, path in paths]
        words = f"{len(groups)} files of real texts"
    texts = [text for group in groups for text in group]
    labels = [place for place, group in enumerate(groups) for _ in group]
    return texts, labels, f"{len(texts)} texts, {words}"


Masks = Mapping[str, NDArray[np.bool_]]


def tags_of(count: int, seed: int) -> Masks:
    """Draws which of ``count`` learnwares have which tag, bool [count] each."""
    generator = np.random.default_rng(seed)
    return {tag: generator.random(count) < share for tag, share in SHARES.items()}


def rows(drawn: Drawn, encoder: EncoderIdentity, tags: Masks, seed: int) -> Iterator[Row]:
    """Yields drawn learnwares as rows of a catalogue; calibrations are the general one, lightly shaken."""
    generator = np.random.default_rng(seed)
    for place in range(len(drawn)):
        specification = specify(drawn, place, encoder, _calibration(generator))
        name = f"drawn-{place:07}"
        yield Row(
            Learnware(
                name=name,
                description=f"Learnware number {place}, drawn for a benchmark.",
                domain=DOMAINS[int(generator.integers(len(DOMAINS)))],
                task_type="classification",
                licence="apache-2.0",
                languages=("en",),
                tags=("drawn", *(tag for tag, mask in tags.items() if mask[place])),
                id=hashlib.sha256(f"{seed} {name}".encode()).hexdigest(),
                version=1,
                base_model="benchmark-base",
                rank=int(2 ** generator.integers(2, 7)),
                adapter_bytes=int(generator.integers(10**6, 10**8)),
                sample_size=TEXTS,
                created=1_700_000_000,
                specification_digest=specification.digest,
            ),
            specification.to_bytes(),
        )


def specify(
    drawn: Drawn, place: int, encoder: EncoderIdentity, calibration: Calibration | None = None
) -> Specification:
    """Returns a drawn learnware's or task's specification."""
    section = Section(
        encoder=encoder, sample_size=TEXTS, compression_error=0.15, gamma=DEFAULT_GAMMA, calibration=calibration
    )
    return Specification(drawn.reduced(place), section)


def _calibration(generator: np.random.Generator) -> Calibration:
    shaken = np.sort(np.array(GENERAL.quantiles) * generator.uniform(0.9, 1.0, (7, 1)), axis=1)
    return Calibration(quantiles=tuple(tuple(float(f"{value:.4g}") for value in row) for row in shaken))


def distances(drawn: Drawn, tasks: Drawn, gamma: float = DEFAULT_GAMMA, batch: int = 4000) -> Floats:
    """Returns ‖μ_Q‖² - 2⟨μ_P,μ_Q⟩ of tasks and learnwares, float32 [tasks, c]: MMD² but for the task's own term.

    The judge: every kernel value of every pair of points, in float32.
    """
    asked = tasks.points.astype(np.float32).reshape(-1, tasks.points.shape[2])
    size = drawn.points.shape[1]
    result = np.empty((len(tasks), len(drawn)), dtype=np.float32)
    with progress_bar("exact", "learnwares") as progress:
        for start in range(0, len(drawn), batch):
            points = drawn.points[start : start + batch].astype(np.float32)
            weights = drawn.weights[start : start + batch]
            norms = np.einsum("ci,cij,cj->c", weights, gaussian(points, points, gamma), weights)
            flat = points.reshape(-1, points.shape[2])
            cross = gaussian(flat, asked, gamma)
            by_task = (cross.reshape(len(flat), len(tasks), -1) * tasks.weights).sum(axis=2)
            products = (by_task.reshape(-1, size, len(tasks)) * weights[:, :, None]).sum(axis=1)
            result[:, start : start + batch] = (norms[:, None] - 2 * products).T
            progress(start, len(drawn))
    return result
