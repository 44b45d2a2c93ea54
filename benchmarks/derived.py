"""Derived specifications: how far are they from real ones, and what do they do to selection?

    python -m benchmarks.derived --file derived.json

On the demo's twelve adapters, whose training counted answers alone. Each is asked by the transformers engine for
texts of its task; nobody tells it of the examples. Selection decides the seventeen users' tasks by catalogues of
specifications made of examples, derived, and of both, where one learnware after another is the only derived one.
"""

import asyncio
import json
import tempfile
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from benchmarks import report
from benchmarks.shelf import CachedEncoder, fill, shelve
from indexer import AdapterStore, BaseModels
from indexer.adapter import read_adapter
from retriever import Ranking, Retriever
from serving import TransformersConfig, TransformersEngine
from serving.derivation import Derivation, Derived, Sampling, prompt_bank
from serving.frame import Frame
from slmdock.demo.models import DEMO_BASE, FULL, DemoModels, build_models
from slmdock.demo.run import PROMPTS, SAMPLE
from slmdock.demo.texts import USER_TASKS
from slmdock.dock import cache_folder
from specification import Encoder, Specification, mark_derived, mmd, read_examples, specify

CATALOGUES = ("examples", "derived", "one derived, the task's own", "one derived, another's")
OUTCOMES = ("right", "another learnware", "wrongly none", "wrongly one")


def main() -> None:
    """Runs the benchmark and prints its tables; half an hour on two busy cores, nearly all of it sampling."""
    options = _options()
    models = build_models(cache_folder() / "demo" / FULL.name / "models", progress=True)
    encoder = CachedEncoder()
    texts = {name: _texts(path) for name, path in models.examples.items()}
    real = {name: specify(each, encoder) for name, each in texts.items()}
    derived = asyncio.run(_derive(models, options))
    sketches = {name: mark_derived(specify(each.texts, encoder)) for name, (each, _) in derived.items()}
    rows = []
    for name, each in texts.items():
        halves = [specify(half, encoder, calibrated=False) for half in (each[::2], each[1::2])]
        rows.append(_distances(name, sketches[name], real, halves))
        cost, seconds = derived[name]
        rows[-1] |= {"departure": cost.departure, "tokens": cost.tokens, "seconds": round(seconds, 1)}
    report.table("MMD between specifications", list(rows[0]), [list(row.values()) for row in rows])
    decided, wrong = _decide(encoder, real, sketches, _users(models, encoder))
    shown = [[name, *(counts[each] for each in OUTCOMES)] for name, counts in decided.items()]
    report.table("decisions on users' tasks, by where specifications come from", ("of", *OUTCOMES), shown)
    print("\n".join(wrong))
    nearest = sum(bool(row["own is nearest"]) for row in rows)
    settings = {"texts": options.keep, "rounds": options.rounds, "samples": options.samples, "bank": options.bank}
    found = {"nearest_is_own": nearest, "learnwares": rows, "decisions": decided, "wrong": wrong}
    report.finish("derived", settings | found)


def _options() -> Namespace:
    parser, defaults = report.arguments(__doc__, data=False), Sampling()
    for name in ("keep", "rounds", "samples"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name), help="see serving.derivation")
    parser.add_argument("--bank", action="store_true", help="let the prompt bank open texts, as the product does")
    parser.add_argument("--file", type=Path, help="where derived texts are kept; those that are there are taken")
    return parser.parse_args()


def _texts(path: Path) -> list[str]:
    return [example.text for example in read_examples(path)]


async def _derive(models: DemoModels, options: Namespace) -> dict[str, tuple[Derived, float]]:
    """Returns for each learnware what was derived, and the seconds it took."""
    kept = json.loads(options.file.read_text()) if options.file and options.file.exists() else {}
    found = {name: (Derived(**fields), seconds) for name, (fields, seconds) in kept.items()}
    if found.keys() >= models.adapters.keys():
        return found
    sampling = Sampling(options.keep, options.rounds, options.samples, seed=options.seed)
    openings = prompt_bank() if options.bank else []
    with tempfile.TemporaryDirectory() as place:
        bases, store = BaseModels(Path(place) / "bases.json"), AdapterStore(Path(place))
        bases.add(DEMO_BASE, models.base)
        engine = TransformersEngine(TransformersConfig(models.base, DEMO_BASE, store.root))
        await engine.start()
        try:
            for name, folder in models.adapters.items():
                if name in found:
                    continue
                adapter = read_adapter(folder, bases)
                store.put(adapter.id, adapter.files)
                derivation = Derivation(engine, f"{name}@{adapter.id[:16]}", Frame.of(models.base), sampling)
                started = time.perf_counter()
                with report.progress_bar(name, "rounds") as progress:
                    derived = await derivation.run(openings=openings, progress=progress)
                found[name] = derived, time.perf_counter() - started
                if options.file:
                    options.file.write_text(json.dumps({name: [asdict(a), b] for name, (a, b) in found.items()}))
        finally:
            await engine.stop()
    return found


def _distances(
    name: str, derived: Specification, real: Mapping[str, Specification], halves: Sequence[Specification]
) -> dict[str, object]:
    """How far the derived specification is from real ones, beside how far these are from each other."""
    to = {each: mmd(derived.reduced_set, known.reduced_set) for each, known in real.items()}
    others = {each: mmd(real[name].reduced_set, real[each].reduced_set) for each in real if each != name}
    nearest = min((each for each in to if each != name), key=to.__getitem__)
    return {
        "learnware": name,
        "texts": derived.sample_size,
        "derived, own": round(to[name], 3),
        "derived, nearest other": round(to[nearest], 3),
        "own is nearest": to[name] < to[nearest],
        "real halves": round(mmd(halves[0].reduced_set, halves[1].reduced_set), 3),
        "real, nearest other": round(min(others.values()), 3),
    }


def _users(models: DemoModels, encoder: Encoder) -> dict[str, Specification]:
    """The users' tasks as the demo sketches them."""
    samples = {name: _texts(path)[PROMPTS : PROMPTS + SAMPLE] for name, path in models.users.items()}
    return {name: specify(each, encoder, calibrated=False) for name, each in samples.items()}


def _decide(
    encoder: Encoder,
    real: Mapping[str, Specification],
    derived: Mapping[str, Specification],
    users: Mapping[str, Specification],
) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Counts outcomes, and lists the wrong ones. Where one is derived, its own tasks and the others are apart."""
    counts = {name: dict.fromkeys(OUTCOMES, 0) for name in CATALOGUES}
    wrong: list[str] = []

    def ask(retriever: Retriever, catalogue: str, task: str, note: str = "") -> None:
        ranking = retriever.search(users[task])
        outcome = _outcome(task, ranking)
        counts[catalogue][outcome] += 1
        if outcome != "right":
            chosen = ranking.decision.learnware
            wrong.append(f"{catalogue}{note}: {task} -> {chosen.name if chosen else 'none'}")

    with tempfile.TemporaryDirectory() as place:
        retriever = shelve(Path(place), encoder, real)
        with closing(retriever.catalogue):
            for task in users:
                ask(retriever, CATALOGUES[0], task)
            for name, sketch in derived.items():
                fill(retriever, {name: sketch}, {})
                for task in users:
                    ask(retriever, CATALOGUES[2 if name in USER_TASKS[task].sources else 3], task, f" ({name})")
                fill(retriever, {name: real[name]}, {})
            fill(retriever, derived, {})
            for task in users:
                ask(retriever, CATALOGUES[1], task)
    return counts, wrong


def _outcome(task: str, ranking: Ranking) -> str:
    """A mixture is right if all who share the task are its sources."""
    sources, chosen = USER_TASKS[task].sources, ranking.decision.learnware
    if chosen is None:
        return "wrongly none" if sources else "right"
    if not sources:
        return "wrongly one"
    mixture = ranking.mixture
    shares = mixture.shares if mixture is not None and mixture.planned else ()
    names = {share.learnware.name for share in shares} or {chosen.name}
    return "right" if names <= set(sources) else "another learnware"


if __name__ == "__main__":
    main()
