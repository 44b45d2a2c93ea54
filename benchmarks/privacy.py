"""What an attacker learns from a specification: is this text among the n it was made of?

    python -m benchmarks.privacy --data DIR

Half of 2n texts of one source are members, half are not, SKETCHES times over with other halves. Attacks on a file:
``similarity``, the kernel similarity of the text to the reduced set; ``nearest``, its cosine with the nearest
point; ``lira``, the likelihood-ratio attack (Carlini et al., IEEE S&P 2022, online form, both scores jointly with
one covariance), whose attacker has texts of the same source, makes the other sketches himself and so knows what
either case looks like for this very text. The same on the prompt section and on the calibration. Beside it, how
often a task's sketch still finds its own learnware.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.data import Domain, read_domain
from benchmarks.report import arguments, finish, progress_bar, table
from benchmarks.shelf import CachedEncoder, shelve
from specification import (
    NO_PRIVACY,
    Privacy,
    PromptSketch,
    ReducedSet,
    Specification,
    calibrate,
    differential_privacy,
    evaluate,
    join_views,
    private_point,
    reduce,
    specify,
)
from specification.kernel import Floats
from specification.privacy import MAX_NOISE

SOURCES = (
    ("finance", "fpb"),
    ("medical", "meadow_health_advice"),
    ("medical", "meadow_wikidoc_patient_information"),
    ("math", "MATH_train"),
)
COUNTS = (20, 64, 256, 512)
SIZES = (4, 8, 32)
EPSILONS = (1.0, 4.0, 8.0)
DELTA = 1e-5
SKETCHES = 32
FALSE_ALARMS = 0.01
RIDGE = 1e-6
CALIBRATED = (64,)
TASK = 128
REPEATS = 3
TINY = 1e-12
FIGURES = (
    "similarity_auc", "similarity_tpr", "nearest_auc", "nearest_tpr", "lira_auc", "lira_tpr", "verbatim"
)  # fmt: skip
DOMAINS = ("finance", "medical", "math")
SAME_TEXT = 0.9999

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]
Row = dict[str, Any]
Kind = tuple[int | None, Privacy]
"""The points of a reduced set and its privacy."""
Texts = Mapping[str, list[str]]
Score = Callable[[Floats], Doubles]
"""Makes a sketch of a sample [n, d] and scores every text of the pool by it: [texts, scores]."""


@dataclass(frozen=True)
class Attacked:
    """Scores, float64 [sketches, texts, scores], and which texts were in which sketch: [sketches, texts]."""

    scores: Doubles
    inside: Mask

    def lira(self) -> Doubles:
        """Log likelihood ratios [sketches, texts]; each sketch is judged by all the others."""
        within, without = self.inside[..., None], ~self.inside[..., None]
        means = [self._others(mask) for mask in (within, without)]
        centred = self.scores - np.where(within, *means)
        flat = centred.reshape(-1, centred.shape[-1])
        flat = flat[np.isfinite(flat).all(axis=1)]
        inverse = np.linalg.inv(np.cov(flat.T).reshape(flat.shape[1], -1) + RIDGE * np.eye(flat.shape[1]))
        ratio: Doubles = np.einsum(
            "stc,cd,std->st", means[0] - means[1], inverse, self.scores - (means[0] + means[1]) / 2
        )
        # A text that was always in, or never, is one the attacker knows nothing of.
        return np.nan_to_num(ratio)

    def _others(self, mask: Mask) -> Doubles:
        total, count = (self.scores * mask).sum(axis=0), mask.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            means: Doubles = (total - self.scores * mask) / (count - mask)
        return means


def auc(scores: Doubles, inside: Mask) -> tuple[float, float]:
    """Returns the area under the ROC curve and the true positives at FALSE_ALARMS false ones, in percent."""
    from sklearn.metrics import roc_auc_score, roc_curve

    flat, truth = scores.ravel(), inside.ravel()
    false, true, _ = roc_curve(truth, flat)
    return 100 * float(roc_auc_score(truth, flat)), 100 * float(true[false <= FALSE_ALARMS].max())


def attack(pool: Floats, score: Score, seed: int) -> Attacked:
    """Makes SKETCHES sketches of half the pool each and scores the whole pool by each."""
    generator = np.random.default_rng(seed)
    inside = np.zeros((SKETCHES, len(pool)), dtype=bool)
    for row in inside:
        row[generator.permutation(len(pool))[: len(pool) // 2]] = True
    return Attacked(np.stack([score(pool[row]) for row in inside]), inside)


def by_points(pool: Floats, make: Callable[[Floats], ReducedSet]) -> Score:
    """Scores by kernel similarity to the reduced set and by the cosine with its nearest point."""

    def score(sample: Floats) -> Doubles:
        reduced = make(sample)
        return np.stack([evaluate(pool, [reduced])[:, 0], (pool @ reduced.points.T).max(axis=1)], axis=1)

    return score


def by_prompt_section(pool: Floats) -> Score:
    """Scores by the cosine of the joined views with the nearest prompt point, and with their mean."""
    lengths = np.linalg.norm(pool, axis=1, keepdims=True)

    def score(sample: Floats) -> Doubles:
        sketch = PromptSketch.of(sample)
        near = (pool - pool.mean(axis=0)) / lengths @ (sketch.points - pool.mean(axis=0)).T
        return np.stack([near.max(axis=1), near.mean(axis=1)], axis=1).astype(np.float64)

    return score


def by_calibration(pool: Floats) -> Score:
    """Scores by the quantiles of single texts, the same for every text: only who was in tells them apart."""

    def score(sample: Floats) -> Doubles:
        found = calibrate(sample)
        levels = np.log(np.maximum(found.quantiles[0], TINY))[[0, 6]] if found else np.zeros(2)
        return np.tile(levels, (len(pool), 1))

    return score


def attacked(name: str, pool: Floats, views: Floats, seed: int) -> Iterator[Row]:
    """Every attack on every kind of sketch of one source, a row each."""
    for count in COUNTS:
        few, joined = pool[: 2 * count], views[: 2 * count]
        for label, make in _makers(count, few.shape[1], seed):
            row = _row(name, label, count, attack(few, by_points(few, make), seed), ("similarity", "nearest"))
            yield row | {
                "verbatim": float(np.mean([_verbatim(few, make(few[rows])) for rows in _halves(few, seed)]))
            }
        yield _row(
            name, "prompt section", count, attack(joined, by_prompt_section(joined), seed), ("nearest", "mean")
        )
        if count in CALIBRATED:
            yield _row(name, "calibration", count, attack(few, by_calibration(few), seed), ())


def _makers(count: int, dimension: int, seed: int) -> Iterator[tuple[str, Callable[[Floats], ReducedSet]]]:
    for size in SIZES:
        if size <= count // 2:
            yield f"m={size}", partial(reduce, size=size)
    source = Random(seed)
    for epsilon in EPSILONS:
        privacy = differential_privacy(epsilon, DELTA)
        if privacy.noise(count) * dimension**0.5 <= MAX_NOISE:
            yield f"ε={epsilon:g}", partial(private_point, privacy=privacy, source=source)


def _halves(pool: Floats, seed: int) -> list[NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    return [generator.permutation(len(pool))[: len(pool) // 2] for _ in range(5)]


def _verbatim(pool: Floats, reduced: ReducedSet) -> float:
    """The share of points that are as good as the embedding of one text, in percent."""
    return 100 * float(((reduced.points @ pool.T).max(axis=1) > SAME_TEXT).mean())


def _row(source: str, sketch: str, count: int, found: Attacked, names: Sequence[str]) -> Row:
    figures: Row = {"source": source, "sketch": sketch, "n": count}
    values = {name: found.scores[..., place] for place, name in enumerate(names)} | {"lira": found.lira()}
    for name, scores in values.items():
        figures[f"{name}_auc"], figures[f"{name}_tpr"] = auc(scores, found.inside)
    return figures


def selected(domains: Sequence[Domain], encoder: CachedEncoder) -> Iterator[Row]:
    """How often a task finds its own training set first, and is not refused, by what is private, a row each."""
    learnwares = {
        f"{each.name}-{name}": _texts(each, path) for each in domains for name, path in each.train.items()
    }
    tasks = {
        f"{each.name}-{name}": _texts(each, path)
        for each in domains
        for name, path in each.user.items()
        if name in each.train
    }
    kinds: list[tuple[str, Kind]] = [(f"m={size}", (size, NO_PRIVACY)) for size in SIZES]
    kinds += [(f"ε={epsilon:g}", (None, differential_privacy(epsilon, DELTA))) for epsilon in EPSILONS]
    plain = (None, NO_PRIVACY)
    for label, kind in kinds:
        pairs = [("both", kind, kind)]
        if kind[1].promised:
            pairs += [("task", kind, plain), ("learnwares", plain, kind)]
        for who, of_task, of_learnware in pairs:
            found = _found(tasks, learnwares, of_task, of_learnware, encoder)
            yield {"sketch": label, "of": who, "first": found[0], "chosen": found[1], "tasks": len(tasks)}


def _found(
    tasks: Texts, learnwares: Texts, of_task: Kind, of_learnware: Kind, encoder: CachedEncoder
) -> tuple[float, float]:
    first, chosen = [], []
    for _ in range(REPEATS if of_task[1].promised or of_learnware[1].promised else 1):
        shelf = {name: _specified(texts, of_learnware, encoder) for name, texts in learnwares.items()}
        with tempfile.TemporaryDirectory() as folder:
            retriever = shelve(Path(folder), encoder, shelf)
            for name, texts in tasks.items():
                ranking = retriever.search(_specified(texts, of_task, encoder))
                first.append(ranking.ranked[0].learnware.name == name)
                chosen.append(ranking.decision.learnware is not None)
            retriever.catalogue.close()
    return 100 * float(np.mean(first)), 100 * float(np.mean(chosen))


def _texts(domain: Domain, path: Path) -> list[str]:
    return [example.text for example in domain.examples(path)]


def _specified(texts: list[str], kind: Kind, encoder: CachedEncoder) -> Specification:
    return specify(texts, encoder, kind[0], privacy=kind[1], calibrated=False)


def main() -> None:
    """Runs the benchmark."""
    parser = arguments(__doc__)
    parser.add_argument("--sources", type=int, default=len(SOURCES), help="how many sources are attacked")
    options = parser.parse_args()
    encoder = CachedEncoder()
    chosen = SOURCES[: options.sources]
    rows: list[Row] = []
    with progress_bar("attacking", "sources") as progress:
        for done, (domain, name) in enumerate(chosen):
            progress(done, len(chosen))
            opened = read_domain(options.data, domain, 2 * max(COUNTS), options.seed)
            if name not in opened.train:
                print(f"left out: {domain}/train/{name}.jsonl is missing", file=sys.stderr)
                continue
            texts = _texts(opened, opened.train[name])
            pool = encoder.encode(texts)
            rows += attacked(name, pool, join_views(texts, pool), options.seed)
    columns = ("source", "sketch", "n", *FIGURES)
    table(
        f"Membership inference: AUC and true positives at {FALSE_ALARMS:.0%} false ones, in percent",
        columns,
        [[row.get(column) for column in columns] for row in rows],
    )
    quality = list(selected([read_domain(options.data, each, TASK, options.seed) for each in DOMAINS], encoder))
    table(
        f"Tasks that find their own learnware, {TASK} texts on both sides, in percent",
        ("private or of m points", "what is", "own first", "any chosen", "tasks"),
        [list(row.values()) for row in quality],
    )
    finish("privacy", {"attacks": rows, "selection": quality, "sketches": SKETCHES, "delta": DELTA})


if __name__ == "__main__":
    main()
