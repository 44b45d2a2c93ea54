"""Mixtures of users' files: are the parts and their weights found, and who gets which prompt?

python -m benchmarks.mixtures --data DIR

The catalogue holds one learnware a user file: of the training file of its name where there is one (``medqa_train``
goes with ``medqa_4options``), of the first half of the user file where there is none. Mixtures are drawn from the
other half, or from the user file: two to four files of any domain in random proportions of at least a tenth,
64 to 256 texts. Many files are neighbours; a prompt that reaches a near copy of its own source counts as wrong.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks import report
from benchmarks.data import Domain
from benchmarks.shelf import CachedEncoder, shelve
from catalogue import EVERYTHING, Filter, Learnware, Match
from retriever import Mixture, Retriever
from specification import Specification, specify

TEXTS = (64, 256)
LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Source:
    """A user's file: the texts its learnware is specified from, and the texts tasks are drawn from."""

    name: str
    domain: str
    learnware: tuple[str, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Drawn:
    """A task: its texts, the source of each, and each source's share."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def shares(self) -> dict[str, float]:
        return {name: self.labels.count(name) / len(self.labels) for name in dict.fromkeys(self.labels)}


@dataclass(frozen=True)
class Outcome:
    """What was found for one task: shares, and for each way of choosing how many prompts got their own source."""

    sources: int
    error: float
    found: int
    right: int
    reached: dict[str, float]


class Bench:
    """The catalogue under test and the specifications of tasks."""

    def __init__(self, sources: Sequence[Source], folder: Path, size: int | None) -> None:
        self.encoder, self.size = CachedEncoder(), size
        shelf: dict[str, Specification] = {}
        with report.progress_bar("specifying", "learnwares") as progress:
            for done, source in enumerate(sources, 1):
                shelf[source.name] = self.specify(source.learnware)
                progress(done, len(sources))
        self.retriever: Retriever = shelve(folder, self.encoder, shelf)
        every = self.retriever.catalogue.everything()
        self.learnwares: dict[str, Learnware] = {item.name: item for item in every}
        self._routed: dict[str, str] = {}

    def specify(self, texts: Sequence[str]) -> Specification:
        size = self.size and min(self.size, len(texts) // 2)
        return specify(texts, self.encoder, size)

    def mixture(self, task: Drawn, where: Filter = EVERYTHING) -> tuple[Mixture, str]:
        """The task's mixture and the name of the learnware that would answer all of it."""
        ranking = self.retriever.search(self.specify(task.texts), 1, where)
        assert ranking.mixture is not None
        return ranking.mixture, ranking.ranked[0].learnware.name

    def assign(self, text: str, shares: Mapping[str, float], unknown: float) -> str | None:
        """The part that answers a prompt, None for the base model."""
        members = [(self.learnwares[name], weight) for name, weight in shares.items()]
        chosen = self.retriever.assign(text, members, unknown).learnware
        return chosen.name if chosen else None

    def route(self, text: str) -> str:
        """The learnware a prompt gets that is asked about alone."""
        if text not in self._routed:
            self._routed[text] = self.retriever.route(text, 1).ranked[0].learnware.name
        return self._routed[text]


def read_sources(data: Path, sample: int) -> list[Source]:
    """Every user file of every domain."""
    folders = sorted(path for path in data.glob("*") if (path / "user").is_dir())
    if not folders:
        sys.exit(f"error: no <domain>/user in {data}")
    sources = []
    for folder in folders:
        domain = Domain(folder, sample)
        for name, path in domain.user.items():
            texts = tuple(example.text for example in domain.examples(path))
            matching = [stem for stem in domain.train if _same(stem.lower(), name.lower())]
            if matching:
                train = tuple(example.text for example in domain.examples(domain.train[matching[0]]))
                sources.append(Source(_label(domain, name), domain.name, train, texts))
            else:
                half = len(texts) // 2
                sources.append(Source(_label(domain, name), domain.name, texts[:half], texts[half:]))
    return sources


def _same(train: str, user: str) -> bool:
    stem = train.removesuffix("_train")
    return stem == user or (stem != train and user.startswith(f"{stem}_"))


def _label(domain: Domain, name: str) -> str:
    return f"{domain.name}.{name}"


def draw(sources: Sequence[Source], parts: int, generator: np.random.Generator) -> Drawn:
    """Draws a task of so many sources in random proportions."""
    chosen = [sources[int(place)] for place in generator.choice(len(sources), parts, replace=False)]
    proportions = generator.dirichlet(np.ones(parts))
    while proportions.min() < LEAST_SHARE:
        proportions = generator.dirichlet(np.ones(parts))
    counts = generator.multinomial(generator.integers(TEXTS[0], TEXTS[1], endpoint=True), proportions)
    texts: list[str] = []
    labels: list[str] = []
    for source, count in zip(chosen, counts, strict=True):
        order = generator.permutation(len(source.tasks))[: max(1, int(count))]
        texts += [source.tasks[int(place)] for place in order]
        labels += [source.name] * len(order)
    return Drawn(tuple(texts), tuple(labels))


def judge(bench: Bench, task: Drawn) -> Outcome:
    """Finds a task's mixture and hands out its prompts, beside the simpler ways."""
    mixture, single = bench.mixture(task)
    found = {share.learnware.name: share.weight for share in mixture.shares}
    plan, unknown = (found, mixture.unknown) if mixture.planned else ({single: 1.0}, 0.0)
    shares = task.shares
    ways: dict[str, Callable[[str], str | None]] = {
        "single best learnware": lambda text: single,
        "each prompt alone": bench.route,
        "mixture": lambda text: bench.assign(text, plan, unknown),
        "true weights": lambda text: bench.assign(text, shares, 0.0),
    }
    return Outcome(
        sources=len(shares),
        error=sum(abs(shares.get(name, 0) - found.get(name, 0)) for name in {*shares, *found}),
        found=len(found),
        right=len(found.keys() & shares.keys()),
        reached={way: _share(choose, task, task.labels) for way, choose in ways.items()},
    )


def _share(choose: Callable[[str], str | None], task: Drawn, wanted: Sequence[str | None]) -> float:
    rows = zip(task.texts, wanted, strict=True)
    return float(np.mean([choose(text) == label for text, label in rows]))


def judge_unknown(bench: Bench, task: Drawn, sources: Sequence[Source]) -> dict[str, float]:
    """A task whose first source's whole domain is missing from the catalogue: is that share seen?"""
    domains = {source.name: source.domain for source in sources}
    foreign = domains[task.labels[0]]
    names = tuple(source.name for source in sources if source.domain != foreign)
    mixture, _ = bench.mixture(task, Filter(conditions=(Match(field="name", values=names),)))
    shares = {share.learnware.name: share.weight for share in mixture.shares}
    strange = [domains[label] == foreign for label in task.labels]
    result = {"true": float(np.mean(strange)), "found": mixture.unknown, "planned": float(mixture.planned)}
    if mixture.planned:
        answered = [bench.assign(text, shares, mixture.unknown) is None for text in task.texts]
        for label, kind in (("foreign refused", True), ("known refused", False)):
            asked = [no for no, odd in zip(answered, strange, strict=True) if odd is kind]
            result[label] = float(np.mean(asked))
    return result


def main() -> None:
    parser = report.arguments(__doc__)
    parser.add_argument("--mixtures", type=int, default=100, help="how many mixtures are drawn")
    parser.add_argument("--sample", type=int, default=128, help="texts read of a file")
    options = parser.parse_args()
    sources = read_sources(options.data, options.sample)
    generator = np.random.default_rng(options.seed)
    tasks = [draw(sources, 2 + number % 3, generator) for number in range(options.mixtures)]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(sources, Path(folder), options.size)
        with report.progress_bar("mixtures", "tasks") as progress:
            outcomes: list[Outcome] = []
            for task in tasks:
                outcomes.append(judge(bench, task))
                progress(len(outcomes), len(tasks))
        pure = [
            (source, bench.mixture(Drawn(source.tasks, (source.name,) * len(source.tasks)))[0])
            for source in sources
        ]
        unknown = [judge_unknown(bench, task, sources) for task in tasks]
    results = {**_weights(outcomes), **_reached(outcomes), **_pure(pure), **_unknown(unknown)}
    report.finish("mixtures", {"learnwares": len(sources), "mixtures": len(tasks), **results})


def _weights(outcomes: Sequence[Outcome]) -> dict[str, object]:
    rows: list[list[object]] = []
    for label, chosen in _groups(outcomes):
        found, right = sum(one.found for one in chosen), sum(one.right for one in chosen)
        errors = [one.error for one in chosen]
        wanted = sum(one.sources for one in chosen)
        rows.append(
            [label, len(chosen), float(np.mean(errors)), float(np.median(errors)), right / found, right / wanted]
        )
    columns = ("sources", "tasks", "L1 error", "median", "precision", "recall")
    report.table("Weights: L1 distance between true and found shares, parts found", columns, rows)
    return {"weights": [dict(zip(columns, row, strict=True)) for row in rows]}


def _reached(outcomes: Sequence[Outcome]) -> dict[str, object]:
    ways = list(outcomes[0].reached)
    rows = [
        [label, *(100 * float(np.mean([one.reached[way] for one in chosen])) for way in ways)]
        for label, chosen in _groups(outcomes)
    ]
    report.table("Prompts that reach the learnware of their own source, percent", ("sources", *ways), rows)
    return {"reached": [dict(zip(("sources", *ways), row, strict=True)) for row in rows]}


def _groups(outcomes: Sequence[Outcome]) -> list[tuple[str, list[Outcome]]]:
    counts = sorted({one.sources for one in outcomes})
    groups = [(str(count), [one for one in outcomes if one.sources == count]) for count in counts]
    return [*groups, ("all", list(outcomes))]


def _pure(pure: Sequence[tuple[Source, Mixture]]) -> dict[str, object]:
    rows = [[source.name, mixture.planned, mixture.reason] for source, mixture in pure if len(mixture.shares) != 1]
    split = sum(mixture.planned for _, mixture in pure)
    own = sum(source.name in [share.learnware.name for share in mixture.shares] for source, mixture in pure)
    title = f"Pure tasks: {split} of {len(pure)} split by mistake, {own} hold their own learnware; those not pure"
    report.table(title, ("task", "planned", "mixture"), rows)
    return {"pure": {"tasks": len(pure), "split": split, "own": own}}


def _unknown(outcomes: Sequence[Mapping[str, float]]) -> dict[str, object]:
    rows: list[list[object]] = []
    for low, high in ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.01)):
        chosen = [one for one in outcomes if low <= one["true"] < high]
        if chosen:
            means = [_mean([one[key] for one in chosen if key in one]) for key in UNKNOWN]
            rows.append([f"{low:.2f} … {min(high, 1):.2f}", len(chosen), *means])
    columns = ("foreign share", "tasks", *UNKNOWN)
    report.table("One source's domain taken out of the catalogue: what fits nothing", columns, rows)
    return {"unknown": [dict(zip(columns, row, strict=True)) for row in rows]}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


UNKNOWN = ("true", "found", "planned", "foreign refused", "known refused")


if __name__ == "__main__":
    main()
