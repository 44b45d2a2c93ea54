"""One prompt at a time: which of sixty learnwares got it, from 20 example prompts each.

The last row goes through the real catalogue and ``Retriever.route``; the others take the same steps in part, with
the views they do without set to zero. See ``routing_sets`` for the two collections.

    python -m benchmarks.route --data DIR [--examples 20] [--prompts 40] [--splits 3]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import arguments, finish, progress_bar, table
from benchmarks.routing_sets import Texts, by_file, by_source
from benchmarks.shelf import CachedEncoder, identify, shelve
from retriever import Retriever
from specification import (
    PromptSketch,
    ReducedSet,
    SentenceEncoder,
    Whitening,
    compare,
    join_views,
    reduce,
    specify,
)
from specification.kernel import Floats
from specification.views import LAYOUT, WORDS

Ranks = NDArray[np.int64]
Scores = Callable[["Split"], NDArray[np.float64]]
TOPS = (1, 3, 5)
TIMED = 40


@dataclass(frozen=True)
class Split:
    """Examples and held-out prompts of each learnware, as texts and as joined views, float32 [n, d] each."""

    examples: Texts
    prompts: Texts
    shown: list[Floats]
    asked: list[Floats]
    encoder: CachedEncoder

    @property
    def own(self) -> Ranks:
        """The learnware of each prompt."""
        return np.repeat(np.arange(len(self.asked)), [len(one) for one in self.asked])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--examples", type=int, default=20, help="example prompts of a learnware")
    parser.add_argument("--prompts", type=int, default=40, help="held-out prompts of a learnware")
    parser.add_argument("--splits", type=int, default=3, help="random splits into examples and prompts")
    options = parser.parse_args()
    encoder = CachedEncoder()
    sample = options.examples + options.prompts
    results: dict[str, object] = {}
    for title, texts in (("files", by_file(options.data, sample)), ("sources", by_source(options.data, sample))):
        splits = _splits(texts, encoder, options)
        rows = [_row(name, [_hits(split, score(split)) for split in splits]) for name, score in METHODS.items()]
        hits, milliseconds = zip(*(_product(split, options.size) for split in splits), strict=True)
        rows.append(_row("product: through the catalogue", list(hits)))
        table(f"{title}: {len(texts)} learnwares, percent of prompts", ["method", "top-1", "±", *COLUMNS], rows)
        results[title] = {"learnwares": len(texts), "rows": rows, "decision_ms": float(np.median(milliseconds))}
    results["encoding"] = _encoding_time(next(iter(splits[0].prompts.values())))
    print(f"time: {results['encoding']}; search and rerank {results['sources']['decision_ms']:.1f} ms")  # type: ignore[index]
    finish("route", results)


def _splits(texts: Texts, encoder: CachedEncoder, options: argparse.Namespace) -> list[Split]:
    """Draws splits; the texts are encoded once."""
    every = [text for own in texts.values() for text in own]
    with progress_bar("encoding") as progress:
        encoder.encode(every, progress)
    found = []
    for seed in range(options.seed, options.seed + options.splits):
        generator = np.random.default_rng(seed)
        mixed = {name: [own[int(i)] for i in generator.permutation(len(own))] for name, own in texts.items()}
        examples = {name: own[: options.examples] for name, own in mixed.items()}
        prompts = {name: own[options.examples :][: options.prompts] for name, own in mixed.items()}
        parts = [[join_views(own, encoder.encode(own)) for own in part.values()] for part in (examples, prompts)]
        found.append(Split(examples, prompts, parts[0], parts[1], encoder))
    return found


def _nearest_mean(split: Split) -> NDArray[np.float64]:
    width = split.encoder.identity.dimension
    means = np.stack([own[:, :width].mean(axis=0) for own in split.shown])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    scores: NDArray[np.float64] = (np.concatenate(split.asked)[:, :width] @ means.T).astype(np.float64)
    return scores


def _rkhs_cosine(split: Split) -> NDArray[np.float64]:
    width = split.encoder.identity.dimension
    sets = [reduce(own[:, :width]) for own in split.shown]
    one = np.ones(1, dtype=np.float32)
    return np.stack(
        [compare(ReducedSet(asked[None, :width], one), sets).cosine for asked in np.concatenate(split.asked)]
    )


def _whitened(layout: bool, words: bool, points: int = 4, plain: bool = False) -> Scores:
    """The discriminant on some views; ``plain`` leaves the whitening out."""

    def score(split: Split) -> NDArray[np.float64]:
        identity = split.encoder.identity
        kept = np.ones(identity.dimension + LAYOUT + WORDS, dtype=np.float32)
        kept[identity.dimension : identity.dimension + LAYOUT] = layout
        kept[identity.dimension + LAYOUT :] = words
        sketches = [PromptSketch.of(own * kept, points) for own in split.shown]
        whitening = Whitening.estimate([] if plain else sketches, identity, len(sketches))
        means = np.stack([sketch.mean for sketch in sketches])
        sizes = np.array([float(len(own)) for own in split.shown])
        return whitening.log_likelihoods(np.concatenate(split.asked) * kept, means, sizes)

    return score


METHODS: dict[str, Scores] = {
    "nearest mean": _nearest_mean,
    "RKHS cosine": _rkhs_cosine,
    "whitened: meaning": _whitened(False, False),
    "whitened: meaning, layout": _whitened(True, False),
    "whitened: meaning, words": _whitened(False, True),
    "not whitened: meaning, layout, words": _whitened(True, True, plain=True),
    "whitened: all, 2 points": _whitened(True, True, 2),
    "whitened: all, 4 points": _whitened(True, True),
    "whitened: all, 10 points": _whitened(True, True, 10),
}
COLUMNS = [f"top-{top}" for top in TOPS[1:]]


def _hits(split: Split, scores: NDArray[np.float64]) -> list[float]:
    """Returns the shares of prompts whose learnware is among the best 1, 3, 5; ties count against it."""
    own = scores[np.arange(len(scores)), split.own][:, None]
    ranks = (scores >= own).sum(axis=1)
    return [float(np.mean(ranks <= top)) for top in TOPS]


def _product(split: Split, size: int | None) -> tuple[list[float], float]:
    """Routes every prompt; returns the shares and the median milliseconds of a decision without its encoding."""
    shelf = {name: specify(own, split.encoder, size) for name, own in split.examples.items()}
    with tempfile.TemporaryDirectory() as folder:
        retriever = shelve(Path(folder), split.encoder, shelf)
        with retriever.catalogue, progress_bar("routing") as progress:
            return _routed(retriever, split, progress)


def _routed(retriever: Retriever, split: Split, progress: Callable[[int, int], None]) -> tuple[list[float], float]:
    ranks, seconds = [], []
    for done, (name, prompts) in enumerate(split.prompts.items(), 1):
        for prompt in prompts:
            ranking = retriever.route(prompt, max(TOPS))
            ids = [item.learnware.id for item in ranking.ranked]
            ranks.append(ids.index(identify(name)) if identify(name) in ids else len(ids))
            seconds.append(ranking.seconds)
        progress(done, len(split.prompts))
    return [float(np.mean(np.array(ranks) < top)) for top in TOPS], 1000 * float(np.median(seconds))


def _encoding_time(prompts: list[str]) -> dict[str, float]:
    """Milliseconds to encode a whole prompt, and to join its views to that."""
    encoder = SentenceEncoder()
    encoder.encode(prompts[:1])
    encode, join = [], []
    for prompt in prompts[:TIMED]:
        started = time.perf_counter()
        meaning = encoder.encode([prompt])
        encoded = time.perf_counter()
        join_views([prompt], meaning)
        encode.append(encoded - started)
        join.append(time.perf_counter() - encoded)
    return {"encode_ms": 1000 * float(np.median(encode)), "join_ms": 1000 * float(np.median(join))}


def _row(name: str, hits: list[list[float]]) -> list[object]:
    """A row of the table: mean percentages, and the standard deviation of top-1 over splits."""
    mean, spread = 100 * np.mean(hits, axis=0), 100 * np.std(hits, axis=0)
    return [name, float(mean[0]), float(spread[0]), *map(float, mean[1:])]


if __name__ == "__main__":
    main()
