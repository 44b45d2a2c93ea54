"""Kept decisions: one computation for equal prompts, void after a write, bounded, without the prompts."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from catalogue import EVERYTHING, Entry, parse_filter
from catalogue.edge import EdgeCatalogue
from retriever import Ranking, Retriever
from serving.decisions import DecisionLimits, Decisions
from specification import SentenceEncoder
from specification.errors import EncoderError


class Counting:
    """A retriever that counts what is computed, and computes only while ``gate`` is open."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever = retriever
        self.asked: list[tuple[Any, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    @property
    def state(self) -> tuple[int, int]:
        return self.retriever.state

    def route(self, *arguments: Any) -> Ranking:
        self.gate.wait(10)
        self.asked.append(arguments)
        if self.error:
            raise self.error
        return self.retriever.route(*arguments)


@pytest.fixture
def counting(dock: Any) -> Counting:
    dock.retriever.warm()
    return Counting(dock.retriever)


def decisions(counting: Counting, **limits: Any) -> Decisions:
    return Decisions(counting, asyncio.Lock(), DecisionLimits(**limits))  # type: ignore[arg-type]


async def test_a_repeated_prompt_is_computed_once(counting: Counting) -> None:
    kept = decisions(counting)
    first = await kept.rank("how do I cook soup", EVERYTHING)
    assert await kept.rank("how do I cook soup", EVERYTHING) is first
    await kept.rank("how do I cook soup", parse_filter("domain=law"))
    await kept.rank("how do I cook soup", EVERYTHING, first.ranked[0].learnware.id)
    await kept.rank("how do I cook soup?", EVERYTHING)
    assert len(counting.asked) == 4


async def test_equal_prompts_at_once_share_one_computation(counting: Counting) -> None:
    kept = decisions(counting)
    counting.gate.clear()
    waiting = [asyncio.create_task(kept.rank(text, EVERYTHING)) for text in ["a", "b"] * 5]
    await asyncio.sleep(0)
    counting.gate.set()
    found = await asyncio.gather(*waiting)
    assert sorted(one[0] for one in counting.asked) == ["a", "b"]
    assert len({id(one) for one in found}) == 2


async def test_no_text_is_kept_and_entries_are_bounded(counting: Counting) -> None:
    kept = decisions(counting, entries=2)
    for text in ("one secret", "two secret", "one secret", "three secret", "one secret"):
        await kept.rank(text, EVERYTHING)
    assert [one[0] for one in counting.asked] == ["one secret", "two secret", "three secret"]
    assert len(kept._kept) == 2
    assert "secret" not in repr(list(kept._kept))


async def test_a_decision_lives_for_its_time(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = decisions(counting, keep_seconds=0.0)
    for _ in range(2):
        await kept.rank("a", EVERYTHING)
    assert len(counting.asked) == 2


async def test_errors_are_not_kept(counting: Counting) -> None:
    kept = decisions(counting)
    counting.error = EncoderError("down")
    with pytest.raises(EncoderError):
        await kept.rank("a", EVERYTHING)
    counting.error = None
    assert (await kept.rank("a", EVERYTHING)).ranked


async def test_what_nobody_waits_for_is_not_begun(counting: Counting) -> None:
    kept = decisions(counting)
    counting.gate.clear()
    begun = asyncio.create_task(kept.rank("begun", EVERYTHING))
    left = asyncio.create_task(kept.rank("left", EVERYTHING))
    await asyncio.sleep(0.05)
    left.cancel()
    begun.cancel()
    await asyncio.gather(begun, left, return_exceptions=True)
    counting.gate.set()
    # What had begun goes on, and its result is kept.
    await kept.rank("begun", EVERYTHING)
    assert [one[0] for one in counting.asked] == ["begun"]


async def test_writes_make_decisions_void(
    encoder: SentenceEncoder, empty_dock: Any, adapters: Any, sketch: Callable[[str], Any]
) -> None:
    from catalogue import Card

    dock, text = empty_dock, "How long do I keep the rest so that the sauce thickens and the soup stays warm?"
    for topic in ("cooking", "law"):
        dock.indexer.submit(adapters[topic], sketch(topic), Card(name=topic))
    catalogue: EdgeCatalogue = dock.indexer.catalogue
    kept = Decisions(dock.retriever, asyncio.Lock(), DecisionLimits())
    where = parse_filter("status=published")
    best = (await kept.rank(text, where)).ranked[0].learnware
    assert best.name == "cooking"
    specification = sketch("cooking")
    retired = best.model_copy(update={"status": "retired"})
    catalogue.upsert([Entry(retired, specification, encoder.encode(["cooking"])[0])])
    assert [one.learnware.name for one in (await kept.rank(text, where)).ranked] == ["law"]
    dock.indexer.submit(adapters["space"], sketch("space"), Card(name="space"))
    assert len((await kept.rank(text, where)).ranked) == 2
    catalogue.delete([best.id])
    assert len((await kept.rank(text, where)).ranked) == 2
