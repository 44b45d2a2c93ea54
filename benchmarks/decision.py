"""What a decision costs on one core, with the exact and the fast encoder, and how often both decide alike.

A decision is all that ``auto`` does for a prompt: encoding, views, search, rerank, p-values; ``repeat`` is the
same prompt again. The encoders take turns, prompt by prompt, since other work on a machine changes with time: look
at the ratio first. Without ``--data`` the learnwares are the demo's and the prompts its users', in other wording.

    python -m benchmarks.decision [--data DIR] [--examples 24] [--prompts 600] [--rounds 40]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import arguments, finish, progress_bar, table
from benchmarks.routing_sets import Texts, by_source
from benchmarks.shelf import CachedEncoder, identify, shelve
from catalogue import PUBLISHED
from retriever import Ranked, Ranking, Retriever
from serving.conversation import follow
from serving.decisions import DecisionLimits, Decisions
from slmdock.demo.texts import LEARNWARE_TASKS, USER_TASKS, training_examples, user_examples
from specification import Encoder, Progress, SentenceEncoder, no_progress, specify
from specification.fast_encoder import FastEncoder

LENGTHS = (32, 128, 512)


@dataclass(frozen=True)
class Sets:
    """Example texts of each learnware, and prompts with the name of the learnware they belong to."""

    examples: Texts
    prompts: list[tuple[str, str]]


def main() -> None:
    parser = arguments(__doc__, data=False)
    parser.add_argument("--data", type=Path, help="folder with <domain>/train and <domain>/user; else the demo's")
    parser.add_argument("--examples", type=int, default=24, help="example prompts of a learnware")
    parser.add_argument("--prompts", type=int, default=600, help="prompts to compare the decisions on")
    parser.add_argument("--rounds", type=int, default=40, help="prompts of each length to time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = _real(options) if options.data else _demo(options)
    exact = SentenceEncoder()
    encoders: dict[str, Encoder] = {"exact": exact, "fast": FastEncoder.of(exact)}
    shelf = {name: specify(own, CachedEncoder(exact), options.size) for name, own in sets.examples.items()}
    with tempfile.TemporaryDirectory() as folder:
        first = shelve(Path(folder), exact, shelf)
        with first.catalogue:
            both = {name: _with(first, encoder) for name, encoder in encoders.items()}
            times = asyncio.run(_times(both, exact, [text for text, _ in sets.prompts], options.rounds))
            _encode_once(both, [text for text, _ in sets.prompts])
            alike = _alike(both, sets)
            talks = {name: asyncio.run(_conversations(one, sets)) for name, one in both.items()}
    _show(times, alike, talks, len(shelf))
    finish("decision", {"learnwares": len(shelf), "milliseconds": times, "alike": alike, "conversations": talks})


def _with(first: Retriever, encoder: Encoder) -> Retriever:
    made = Retriever(first.catalogue, first.encoder)
    made.prompt_encoder = encoder
    made.warm()
    return made


class Remembered:
    """An encoder that knows the vectors of some texts already, and encodes no others."""

    def __init__(self, encoder: Encoder, texts: list[str]) -> None:
        self.identity = encoder.identity
        with progress_bar("encoding") as progress:
            self._vectors = dict(zip(texts, encoder.encode(texts, progress), strict=True))

    def encode(self, texts: Sequence[str], progress: Progress = no_progress) -> NDArray[np.float32]:
        """See ``Encoder.encode``."""
        return np.stack([self._vectors[text] for text in texts])


def _encode_once(both: Mapping[str, Retriever], texts: list[str]) -> None:
    exact, fast = both["exact"], both["fast"]
    exact.prompt_encoder = Remembered(CachedEncoder(exact.prompt_encoder), texts)
    fast.prompt_encoder = Remembered(fast.prompt_encoder, texts)


def _real(options: argparse.Namespace) -> Sets:
    texts = by_source(options.data, options.examples + options.prompts // 20)
    examples = {name: own[: options.examples] for name, own in texts.items()}
    return Sets(examples, _drawn(texts, options))


def _demo(options: argparse.Namespace) -> Sets:
    examples = {
        name: [one.text for one in training_examples(name, options.examples, options.seed)]
        for name in LEARNWARE_TASKS
    }
    single = {task: user.sources[0] for task, user in USER_TASKS.items() if len(user.sources) == 1}
    count = options.prompts // len(single) + 1
    prompts = [
        (one.text, source) for task, source in single.items() for one in user_examples(task, count, options.seed)
    ]
    return Sets(examples, prompts)


def _drawn(texts: Mapping[str, list[str]], options: argparse.Namespace) -> list[tuple[str, str]]:
    rest = [(text, name) for name, own in texts.items() for text in own[options.examples :]]
    order = np.random.default_rng(options.seed).permutation(len(rest))
    return [rest[int(place)] for place in order[: options.prompts]]


async def _times(
    both: Mapping[str, Retriever], exact: SentenceEncoder, texts: list[str], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Returns p50 and p95 in milliseconds of decisions and repeats, by encoder and by tokens."""
    decisions = {name: Decisions(one, asyncio.Lock(), DecisionLimits(seconds=60)) for name, one in both.items()}
    found: dict[str, dict[str, list[float]]] = {}
    for length in LENGTHS:
        prompts = _of_length(exact, texts, length, rounds)
        taken: dict[str, list[float]] = {}
        for prompt in prompts:
            for name, kept in decisions.items():
                for label in (name, f"{name}, repeat"):
                    started = time.perf_counter()
                    await kept.rank(prompt, PUBLISHED)
                    taken.setdefault(label, []).append(1000 * (time.perf_counter() - started))
        for label, spent in taken.items():
            found.setdefault(label, {})[str(length)] = [float(np.quantile(spent, share)) for share in (0.5, 0.95)]
    return found


def _of_length(exact: SentenceEncoder, texts: list[str], tokens: int, count: int) -> list[str]:
    """Returns ``count`` different texts of about so many tokens, from the prompts put one behind the other."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(exact.folder / "tokenizer.json"))
    tokenizer.no_truncation()
    read = tokenizer.encode(" ".join(texts[: 40 * count]), add_special_tokens=False).ids
    inner = tokens - 2
    starts = np.linspace(0, max(len(read) - inner, 1), count, endpoint=False).astype(int)
    return [tokenizer.decode(read[start : start + inner]) for start in starts]


def _alike(both: Mapping[str, Retriever], sets: Sets) -> dict[str, float]:
    """Returns shares of prompts: same decision, same learnware first, and right ones of each encoder."""
    rows = []
    with progress_bar("deciding") as progress:
        for done, (text, own) in enumerate(sets.prompts, 1):
            exact, fast = (both[name].route(text) for name in ("exact", "fast"))
            first = [one.ranked[0].learnware.id for one in (exact, fast)]
            same = exact.decision.learnware == fast.decision.learnware
            five = {one.learnware.id for one in exact.ranked} == {one.learnware.id for one in fast.ranked}
            own_id = identify(own)
            rows.append([same, first[0] == first[1], five, first[0] == own_id, first[1] == own_id])
            progress(done, len(sets.prompts))
    names = ("same decision", "same first", "same five", "right: exact", "right: fast")
    shares = {name: float(share) for name, share in zip(names, np.mean(rows, axis=0), strict=True)}
    return {"prompts": float(len(rows)), **shares}


async def _conversations(retriever: Retriever, sets: Sets) -> dict[str, float]:
    """Two turns each. Of one learnware's prompts: the share that stays. Of two: that goes where the second would.

    Only conversations whose first turn finds a learnware count; of the second kind those whose second turn does,
    and another one.
    """
    kept = Decisions(retriever, asyncio.Lock(), DecisionLimits(seconds=60))

    async def rank(text: str, beside: str) -> Ranking:
        return await kept.rank(text, PUBLISHED, beside)

    stays: list[bool] = []
    moves: list[bool] = []
    ordered = sorted(sets.prompts, key=lambda pair: pair[1])
    for place, ((first, own), (second, next_own)) in enumerate(pairwise(ordered)):
        holder = _pick(await rank(first, ""))
        if holder is None or place % 2:
            continue
        if own == next_own:
            held = await follow([first, second], rank, _pick)
            stays.append(held.since == 1)
        far, far_own = ordered[(place + len(ordered) // 2) % len(ordered)]
        alone = _pick(await rank(far, ""))
        if far_own != own and alone is not None and alone.learnware.id != holder.learnware.id:
            held = await follow([first, far], rank, _pick)
            moves.append(held.holder is not None and held.holder.learnware.id == alone.learnware.id)
    return {
        "of one topic": float(len(stays)), "stay": sum(stays) / max(len(stays), 1),
        "of two topics": float(len(moves)), "move": sum(moves) / max(len(moves), 1),
    }  # fmt: skip


def _pick(ranking: Ranking) -> Ranked | None:
    return ranking.ranked[0] if ranking.decision.learnware is not None else None


def _show(
    times: dict[str, dict[str, list[float]]],
    alike: dict[str, float],
    talks: dict[str, dict[str, float]],
    learnwares: int,
) -> None:
    rows = [[name, *(value for length in LENGTHS for value in own[str(length)])] for name, own in times.items()]
    ratio = [
        times["exact"][str(length)][at] / times["fast"][str(length)][at] for length in LENGTHS for at in (0, 1)
    ]
    columns = [f"{length} tokens, {share}" for length in LENGTHS for share in ("p50", "p95")]
    title = f"milliseconds of a decision on one core, {learnwares} learnwares"
    table(title, ["encoder", *columns], [*rows, ["exact / fast", *ratio]])
    table(
        "exact against fast", list(alike), [[alike["prompts"], *(100 * one for one in list(alike.values())[1:])]]
    )
    rows = [[name, *own.values()] for name, own in talks.items()]
    table("conversations of two turns, shares", ["encoder", *talks["exact"]], rows)


if __name__ == "__main__":
    main()
