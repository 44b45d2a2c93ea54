"""None fits: are tasks refused whose learnware is missing, and those accepted whose learnware is there?

python -m benchmarks.none_fits --data DIR

Every training file is a learnware. A user file is genuine where OWN or its name gives it a learnware: it is
searched with the whole catalogue. The same file, with the learnwares of other domains only, is foreign. Files
without a learnware of their own are related: searched with the whole catalogue, reported by themselves. Tasks are
random subsets of several sizes; a size of 1 is a prompt that is routed.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks import report
from benchmarks.data import Domain
from benchmarks.shelf import CachedEncoder, shelve
from catalogue import EVERYTHING, Filter, Match
from retriever import Decision, Retriever
from specification import Specification, specify

OWN = {
    "medmcqa": "medmcqa_train",
    "medqa_4options": "medqa_train",
    "gsm8k": "MetaMath-GSM240K",
    "minerva_math": "MATH_train",
    "agieval_math": "MATH_train",
    "mgsm_native_cot_zh": "GSM8K_zh",
}
"""Learnwares of tasks by another name, from SOURCES.md of the data, fixed before any result was seen."""

SIZES = (1, 2, 4, 16, 64)
LEVELS = (0.01, 0.05, 0.10)


@dataclass(frozen=True)
class Asked:
    """One question and its answer. ``size`` None is the whole file."""

    kind: str
    task: str
    size: int | None
    p_value: float
    nearest: str


class Bench:
    """The catalogue under test."""

    def __init__(self, domains: Sequence[Domain], folder: Path, size: int | None) -> None:
        self.encoder, self.size = CachedEncoder(), size
        self.learnwares = {domain.name: [f"{domain.name}.{name}" for name in domain.train] for domain in domains}
        shelf: dict[str, Specification] = {}
        total = sum(map(len, self.learnwares.values()))
        with report.progress_bar("specifying", "learnwares") as progress:
            for domain in domains:
                for name, path in domain.train.items():
                    texts = [example.text for example in domain.examples(path)]
                    shelf[f"{domain.name}.{name}"] = self._specify(texts, True)
                    progress(len(shelf), total)
        self.retriever: Retriever = shelve(folder, self.encoder, shelf)

    def ask(self, texts: Sequence[str], where: Filter) -> tuple[Decision, str]:
        """The decision about a task, or about a prompt where there is one text, and what came first."""
        if len(texts) == 1:
            ranking = self.retriever.route(texts[0], 1, where)
        else:
            ranking = self.retriever.search(self._specify(texts, False), 1, where)
        return ranking.decision, ranking.ranked[0].learnware.name

    def others(self, domain: str) -> Filter:
        """The learnwares of all domains but one."""
        names = [name for other, names in self.learnwares.items() if other != domain for name in names]
        return Filter(conditions=(Match(field="name", values=tuple(names)),))

    def _specify(self, texts: Sequence[str], calibrated: bool) -> Specification:
        size = self.size and min(self.size, len(texts) // 2)
        return specify(texts, self.encoder, size, calibrated=calibrated)


def main() -> None:
    """Runs the benchmark and prints its tables."""
    parser = report.arguments(__doc__)
    parser.add_argument("--texts", type=int, default=128, help="texts a file, at most")
    parser.add_argument("--draws", type=int, default=6, help="subsets of a size and file")
    parser.add_argument("--prompts", type=int, default=40, help="prompts a file")
    given = parser.parse_args()
    folders = sorted(path.parent for path in given.data.glob("*/user") if (path.parent / "train").is_dir())
    if len(folders) < 2:
        sys.exit(f"error: {given.data}: at least two domains <domain>/train, <domain>/user are needed")
    domains = [Domain(folder, given.texts, given.seed) for folder in folders]
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(domains, Path(place), given.size)
        found = list(_questions(bench, domains, given.draws, given.prompts, given.seed))
    rows = [_summary(found, size) for size in (*SIZES, None)]
    report.table(
        "Refused, by the allowed share of false refusals", list(rows[0]), [list(row.values()) for row in rows]
    )
    related = _related(found)
    columns = list(related[0]) if related else []
    report.table("Tasks without a learnware of their own", columns, [list(row.values()) for row in related])
    report.finish("none_fits", {"size": given.size, "texts": given.texts, "refused": rows, "related": related})


def _questions(bench: Bench, domains: Sequence[Domain], draws: int, prompts: int, seed: int) -> Iterator[Asked]:
    generator = np.random.default_rng(seed)
    tasks = [(domain, name, path) for domain in domains for name, path in domain.user.items()]
    with report.progress_bar("asking", "tasks") as progress:
        for done, (domain, name, path) in enumerate(tasks, 1):
            texts = [example.text for example in domain.examples(path)]
            kind = "genuine" if OWN.get(name, name) in domain.train else "related"
            for size in (*SIZES, None):
                for _ in range(1 if size is None else prompts if size == 1 else draws):
                    chosen = generator.permutation(len(texts))[: size or len(texts)]
                    drawn = [texts[int(place)] for place in chosen]
                    for label, where in ((kind, EVERYTHING), ("foreign", bench.others(domain.name))):
                        decision, first = bench.ask(drawn, where)
                        yield Asked(label, name, size, decision.p_value, first)
            progress(done, len(tasks))


def _summary(found: Sequence[Asked], size: int | None) -> dict[str, object]:
    from sklearn.metrics import roc_auc_score

    genuine, foreign = (
        np.array([one.p_value for one in found if one.kind == kind and one.size == size])
        for kind in ("genuine", "foreign")
    )
    truth = np.repeat([1, 0], [len(genuine), len(foreign)])
    row: dict[str, object] = {"texts": "whole" if size is None else size, "genuine": len(genuine)}
    row |= {f"refused at {level:.0%}": _percent(genuine, level) for level in LEVELS}
    row |= {"foreign": len(foreign)}
    row |= {f"foreign at {level:.0%}": _percent(foreign, level) for level in LEVELS}
    row["AUC"] = round(float(roc_auc_score(truth, np.concatenate([genuine, foreign]))), 4)
    # A point of the ROC: the threshold that refuses exactly a twentieth of the genuine ones.
    row["foreign at true 5%"] = _percent(foreign, float(np.quantile(genuine, 0.05)))
    return row


def _related(found: Sequence[Asked]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for task in dict.fromkeys(one.task for one in found if one.kind == "related"):
        mine = [one for one in found if one.kind == "related" and one.task == task]
        whole = next(one for one in mine if one.size is None)
        row: dict[str, object] = {"task": task, "nearest": whole.nearest, "p, whole": whole.p_value}
        for size in (1, 16):
            row[f"refused at 5%, {size} texts"] = _percent(
                np.array([one.p_value for one in mine if one.size == size]), 0.05
            )
        rows.append(row)
    return rows


def _percent(p_values: np.ndarray, level: float) -> float:
    return round(100 * float((p_values < level).mean()), 2)


if __name__ == "__main__":
    main()
