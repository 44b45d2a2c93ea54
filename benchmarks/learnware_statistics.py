"""Whether a reduced set of the PyPI package learnware could stand for a specification, if its encoder were ours.

For each of the demo's tasks: texts of a learnware, sketched by us and as ``RKMETextSpecification`` does by default
(100 points, gamma .1), and other texts of the same task, as a user's. The peer gets our encoder's vectors as they
are, and once more without their scaling to length 1, as its own encoder leaves them. Its points are compared under
our kernel as they are and scaled to length 1.

    python -m benchmarks.learnware_statistics [--texts 150]
"""

from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from benchmarks.learnware_package import ask_peer
from benchmarks.report import arguments, finish, progress_bar, table
from slmdock.demo.texts import LEARNWARE_TASKS, training_examples
from specification import ReducedSet, SentenceEncoder, compare, mmd, reduce
from specification.kernel import Floats
from specification.reduced_set import SAME_TEXT

FORMS = ("ours", "theirs", "theirs, scaled", "theirs of raw vectors, scaled")


def main() -> None:
    parser = arguments(__doc__, data=False)
    parser.add_argument("--texts", type=int, default=150, help="texts of each learnware and each user")
    options = parser.parse_args()
    encoder = SentenceEncoder()
    raw = SentenceTransformer(modules=list(SentenceTransformer(str(encoder.folder)))[:2])
    given: dict[str, Floats] = {}
    samples, users = {}, {}
    with progress_bar("encoding", "tasks") as progress:
        for done, name in enumerate(LEARNWARE_TASKS):
            progress(done, len(LEARNWARE_TASKS))
            texts = [example.text for example in training_examples(name, options.texts, options.seed)]
            others = [example.text for example in training_examples(name, options.texts, options.seed + 1)]
            samples[name] = encoder.encode(texts)
            users[name] = reduce(encoder.encode(others))
            given[f"unit {name}"] = samples[name]
            given[f"raw {name}"] = np.asarray(raw.encode(texts, show_progress_bar=False))
    answer, found = ask_peer("sketch", given)
    shelves = {
        FORMS[0]: {name: reduce(samples[name]) for name in samples},
        FORMS[1]: {name: _peer(found, f"unit {name}", scaled=False) for name in samples},
        FORMS[2]: {name: _peer(found, f"unit {name}", scaled=True) for name in samples},
        FORMS[3]: {name: _peer(found, f"raw {name}", scaled=True) for name in samples},
    }
    rows = [_row(form, shelves[form], shelves[FORMS[0]], samples, users) for form in FORMS]
    lengths = {
        form: float(np.mean([np.linalg.norm(given[f"{form} {name}"], axis=1).mean() for name in samples]))
        for form in ("unit", "raw")
    }
    table(
        f"{len(samples)} tasks, {options.texts} texts each, MMD under γ = 2",
        list(rows[0]),
        [[_cell(value) for value in row.values()] for row in rows],
    )
    finish(
        "learnware_statistics",
        {"texts": options.texts, "peer_gamma": answer["gamma"], "lengths": lengths, "rows": rows},
    )


def _peer(found: dict[str, Any], name: str, scaled: bool) -> ReducedSet:
    points = found[f"{name} points"].astype(np.float32)
    if scaled:
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    return ReducedSet(points, found[f"{name} weights"].astype(np.float32))


def _row(
    form: str,
    shelf: dict[str, ReducedSet],
    ours: dict[str, ReducedSet],
    samples: dict[str, Floats],
    users: dict[str, ReducedSet],
) -> dict[str, Any]:
    """What one form of sketch does: means over the tasks, and how many users find their own learnware."""
    names = list(shelf)
    distances = np.array([compare(users[name], [shelf[each] for each in names]).mmd for name in names])
    own = distances.diagonal()
    others = np.where(np.eye(len(names), dtype=bool), np.inf, distances).min(axis=1)
    single = [
        float((_cosines(samples[name], shelf[name].points).max(axis=0) >= SAME_TEXT).mean()) for name in names
    ]
    return {
        "sketch": form,
        "points": float(np.mean([len(each) for each in shelf.values()])),
        "to its texts": float(np.mean([mmd(_whole(samples[name]), shelf[name]) for name in names])),
        "to ours": float(np.mean([mmd(ours[name], shelf[name]) for name in names])),
        "user to own": float(own.mean()),
        "to the next": float(others.mean()),
        "found": int((own < others).sum()),
        "points that are one text": float(np.mean(single)),
    }


def _cosines(sample: Floats, points: Floats) -> Floats:
    cosines: Floats = sample @ (points / np.linalg.norm(points, axis=1, keepdims=True)).T
    return cosines


def _whole(sample: Floats) -> ReducedSet:
    return ReducedSet(sample, np.full(len(sample), 1 / len(sample), dtype=np.float32))


def _cell(value: object) -> object:
    return f"{value:.3f}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
