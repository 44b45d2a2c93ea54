"""Trials simulated from the published score table: how good is what n labelled examples choose?

    python -m benchmarks.trial --data DIR --domain finance

Every model of ``paper/<domain>.csv`` is a learnware with its training set's specification in a real catalogue, and
takes part in trials on the tasks that have texts. An answer is right with the probability that the table gives, by
itself: independent binomial noise, harder than real trials, where all candidates answer the same examples. The
prior comes from the retriever's match, and, where that is said, from the other tasks' rows (leave one task out).
"""

import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import report
from benchmarks.data import Domain, Scores, read_domain, read_scores
from benchmarks.shelf import CachedEncoder, shelve
from retriever import Retriever, Trial, TrialPrior, match_prior, part_of, posterior, shortlist
from specification import Specification, specify

Doubles = NDArray[np.float64]
SIZES = (16, 32, 64, 128)


@dataclass(frozen=True)
class Task:
    """A task of the table: true scores [models] in [0, 1], and the priors without and with the other tasks' rows.

    ``nearest`` are the models in the order of their match.
    """

    name: str
    truth: Doubles
    sets: NDArray[np.int64]
    match: TrialPrior
    informed: TrialPrior
    nearest: list[int]


@dataclass
class Figures:
    """Scores in percent of what a rule chose, [tasks, simulations, sizes], and shares of the answers it took."""

    chosen: Doubles
    spent: Doubles


def main() -> None:
    options = _options()
    domain = read_domain(options.data, options.domain, options.sample, options.seed)
    scores = read_scores(options.data, options.domain)
    with tempfile.TemporaryDirectory() as folder:
        tasks = list(_tasks(domain, scores, Path(folder), options))
    rules = _rules(options.top)
    figures: dict[str, Figures] = {}
    with report.progress_bar("simulating", "rules of a task") as progress:
        for place, task in enumerate(tasks):
            for number, (name, rule) in enumerate(rules.items()):
                progress(place * len(rules) + number, len(rules) * len(tasks))
                shape = (len(tasks), options.simulations, len(SIZES))
                found = figures.setdefault(name, Figures(np.zeros(shape), np.zeros(shape)))
                for run in range(options.simulations):
                    answers = _answers(task, options.seed, place, run)
                    found.chosen[place, run], found.spent[place, run] = rule(task, answers)
    _report(tasks, figures, options)


def _options() -> Namespace:
    parser = report.arguments(__doc__)
    parser.add_argument("--domain", default="finance", help="a folder in --data, and paper/<domain>.csv")
    parser.add_argument("--simulations", type=int, default=200, help="trials of each task")
    parser.add_argument("--top", type=int, default=10, help="how many learnwares take part in a short trial")
    parser.add_argument("--sample", type=int, default=128, help="texts of a file")
    return parser.parse_args()


def _tasks(domain: Domain, scores: Scores, folder: Path, options: Namespace) -> Iterator[Task]:
    """Puts the models into a catalogue and asks the retriever about every task; missing files are named."""
    encoder = CachedEncoder()
    made: dict[str, Specification] = {}
    for name in dict.fromkeys(scores.sets):
        texts = [example.text for path in domain.training_set(name) for example in domain.examples(path)]
        if texts:
            made[name] = specify(texts, encoder, options.size)
        else:
            print(f"left out: training set {name} has no file in {domain.folder}")
    kept = [model for model, of in enumerate(scores.sets) if of in made]
    retriever = shelve(folder, encoder, {f"model-{model}": made[scores.sets[model]] for model in kept})
    values = scores.values[:, kept] / 100
    sets = np.array([list(made).index(scores.sets[model]) for model in kept])
    with closing(retriever.catalogue):
        for row, name in enumerate(scores.tasks):
            path = domain.task(name)
            if path is None or not np.isfinite(values[row]).all():
                print(f"left out: task {name} has no file in {domain.folder}, or no score in the table")
                continue
            task = specify([example.text for example in domain.examples(path)], encoder, options.size)
            match, nearest = _match(retriever, task, kept)
            informed = TrialPrior(match.fit, match.similarity, np.delete(values, row, axis=0))
            yield Task(name, values[row], sets, match, informed, nearest)


def _match(retriever: Retriever, task: Specification, models: list[int]) -> tuple[TrialPrior, list[int]]:
    """Returns the prior over all models in the table's order, and their places from best match to worst."""
    ranked = retriever.search_exactly(task, len(models)).ranked
    place = {f"model-{model}": place for place, model in enumerate(models)}
    nearest = [place[item.learnware.name] for item in ranked]
    reduced = retriever.catalogue.reduced_sets([item.learnware for item in ranked])
    gamma = retriever.catalogue.settings.feature_map.gamma
    prior = match_prior(list(ranked), [reduced[item.learnware.id] for item in ranked], gamma)
    return part_of(prior, [int(one) for one in np.argsort(nearest)]), nearest


def _answers(task: Task, seed: int, place: int, run: int) -> Doubles:
    """Independent right-or-wrong answers [examples, models]; the same for every rule."""
    generator = np.random.default_rng((seed, place, run))
    return (generator.random((SIZES[-1], len(task.truth))) < task.truth).astype(np.float64)


Outcome = tuple[Doubles, Doubles]


def _rules(top: int) -> dict[str, Callable[[Task, Doubles], Outcome]]:
    """The rules that are compared, by name."""

    def everyone(task: Task) -> list[int]:
        return list(range(len(task.truth)))

    def by_match(task: Task) -> list[int]:
        return task.nearest[:top]

    fields = {"all": everyone, f"top {top} by match": by_match}
    rules: dict[str, Callable[[Task, Doubles], Outcome]] = {
        "all, best mean": _best_mean,
        "all, mean halfway to the set's": _halfway,
        "all, sets' true means and spreads (cheats)": _cheat,
    }
    for name, field in fields.items():
        rules[f"{name}, match"] = _without_stopping(lambda task: task.match, field)
        rules[f"{name}, match and other tasks"] = _without_stopping(lambda task: task.informed, field)
    rules[f"top {top} shortlisted, match"] = _without_stopping(*_shortlisted(top, informed=False))
    rules[f"top {top} shortlisted, match, early stopping"] = _stopping(*_shortlisted(top, informed=False))
    rules[f"top {top} shortlisted, match and other tasks"] = _without_stopping(*_shortlisted(top, informed=True))
    rules[f"top {top} shortlisted, match and other tasks, early stopping"] = _stopping(
        *_shortlisted(top, informed=True)
    )
    return rules


def _shortlisted(top: int, informed: bool) -> tuple[Callable[[Task], TrialPrior], Callable[[Task], list[int]]]:
    chosen: dict[str, list[int]] = {}

    def prior(task: Task) -> TrialPrior:
        return task.informed if informed else task.match

    def field(task: Task) -> list[int]:
        if task.name not in chosen:
            chosen[task.name] = shortlist(prior(task), top)
        return chosen[task.name]

    return prior, field


def _without_stopping(
    prior: Callable[[Task], TrialPrior], field: Callable[[Task], list[int]]
) -> Callable[[Task, Doubles], Outcome]:
    """Everyone in the field answers all n examples."""
    parts: dict[str, TrialPrior] = {}

    def rule(task: Task, answers: Doubles) -> Outcome:
        part = parts.setdefault(task.name, part_of(prior(task), field(task)))
        best = [field(task)[posterior(part, answers[:size, field(task)]).winner] for size in SIZES]
        return 100 * task.truth[best], np.ones(len(SIZES))

    return rule


def _stopping(
    prior: Callable[[Task], TrialPrior], field: Callable[[Task], list[int]]
) -> Callable[[Task, Doubles], Outcome]:
    """The product's trial in rounds; a trial of fewer examples is the beginning of a longer one."""
    parts: dict[str, TrialPrior] = {}

    def rule(task: Task, answers: Doubles) -> Outcome:
        part = parts.setdefault(task.name, part_of(prior(task), field(task)))
        own = answers[:, field(task)]
        chosen, spent = np.zeros(len(SIZES)), np.zeros(len(SIZES))
        trial = Trial(part, SIZES[-1])
        while (asked := trial.next()) is not None:
            trial.add(own[asked.start : asked.stop][:, list(asked.candidates)])
            for place, size in enumerate(SIZES):
                if trial.asked <= size:
                    chosen[place] = 100 * task.truth[field(task)[trial.winner]]
                    spent[place] = trial.spent / (size * len(part))
        return chosen, spent

    return rule


def _best_mean(task: Task, answers: Doubles) -> Outcome:
    best = [int(answers[:size].mean(axis=0).argmax()) for size in SIZES]
    return 100 * task.truth[best], np.ones(len(SIZES))


def _halfway(task: Task, answers: Doubles) -> Outcome:
    """The issue's yardstick: each mean halfway to that of its training set, and a small match prior."""
    best = []
    for size in SIZES:
        mean = answers[:size].mean(axis=0)
        of_set = np.array([mean[task.sets == one].mean() for one in range(task.sets.max() + 1)])[task.sets]
        best.append(int((mean / 2 + of_set / 2 + 0.05 * task.match.fit).argmax()))
    return 100 * task.truth[best], np.ones(len(SIZES))


def _cheat(task: Task, answers: Doubles) -> Outcome:
    """What no rule can know: the true mean and variance of every training set's models, as a normal prior."""
    centre, spread = np.zeros(len(task.truth)), np.zeros(len(task.truth))
    for one in range(task.sets.max() + 1):
        inside = task.sets == one
        centre[inside], spread[inside] = task.truth[inside].mean(), task.truth[inside].var()
    noise = task.truth * (1 - task.truth)
    best = []
    for size in SIZES:
        pull = spread / np.maximum(spread + noise / size, 1e-12)
        best.append(int((centre + pull * (answers[:size].mean(axis=0) - centre)).argmax()))
    return 100 * task.truth[best], np.ones(len(SIZES))


SHOWN = ("all, best mean", "all, match", "all, match and other tasks")


def _report(tasks: list[Task], figures: dict[str, Figures], options: Namespace) -> None:
    oracle = 100 * float(np.mean([task.truth.max() for task in tasks]))
    of_sets = 100 * float(np.mean([_best_set(task) for task in tasks]))
    rows: list[list[object]] = []
    results = {}
    for name, found in figures.items():
        averages = found.chosen.mean(axis=0)
        means, errors = averages.mean(axis=0), averages.std(axis=0, ddof=1) / np.sqrt(options.simulations)
        cost = found.spent.mean(axis=(0, 1))
        cells = [f"{mean:.2f} ± {error:.2f}" for mean, error in zip(means, errors, strict=True)]
        rows.append([name, *cells, " ".join(f"{100 * each:.0f}" for each in cost)])
        shares = {"score": means, "error": errors, "spent": cost}
        results[name] = {label: numbers.round(3).tolist() for label, numbers in shares.items()}
    title = (
        f"{options.domain}: {len(tasks)} tasks, {len(tasks[0].truth)} models, {options.simulations} trials each; "
        f"oracle over training sets {of_sets:.2f}, over models {oracle:.2f}"
    )
    report.table(title, ("candidates, prior", *(f"n = {size}" for size in SIZES), "% of answers"), rows)
    columns = ("task", "best", *(f"{name}, n = {size}" for name in SHOWN for size in (16, 128)))
    report.table(
        "what was chosen, task by task", columns, [_row(tasks, figures, one) for one in range(len(tasks))]
    )
    yardsticks = {"oracle_sets": round(of_sets, 2), "oracle_models": round(oracle, 2)}
    run = {"domain": options.domain, "sizes": SIZES, "simulations": options.simulations}
    report.finish("trial", run | yardsticks | {"rules": results})


def _row(tasks: list[Task], figures: dict[str, Figures], place: int) -> list[object]:
    scores = (figures[name].chosen[place].mean(axis=0) for name in SHOWN)
    cells = [float(one[SIZES.index(size)]) for one in scores for size in (16, 128)]
    return [tasks[place].name, 100 * float(tasks[place].truth.max()), *cells]


def _best_set(task: Task) -> float:
    return max(float(task.truth[task.sets == one].mean()) for one in range(int(task.sets.max()) + 1))


if __name__ == "__main__":
    main()
