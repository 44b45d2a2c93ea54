"""Deriving what an adapter was trained on, on the exact engine and an adapter whose task is known."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from indexer import AdapterStore, BaseModels
from indexer.adapter import read_adapter
from serving import TransformersConfig, TransformersEngine
from serving.derivation import BANK_FILE, Derivation, Sampling, prompt_bank
from serving.engine import AdapterUnavailable
from serving.frame import Frame
from specification.errors import InvalidInput
from tests.serving import worlds
from tests.serving.tiny import BASE_NAME, build_base

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL = Sampling(keep=10, rounds=3, samples=32, text_tokens=24, answer_tokens=2)
FRAME = Frame("", worlds.CUE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[TransformersEngine, str]]:
    """An engine with the base model of two worlds, and the name of the adapter that knows one of them."""
    folder = tmp_path_factory.mktemp("worlds")
    base, place = await asyncio.to_thread(worlds.build, folder)
    bases, store = BaseModels(folder / "bases.json"), AdapterStore(folder / "store")
    store.root.mkdir()
    bases.add(BASE_NAME, base)
    adapter = read_adapter(place, bases)
    store.put(adapter.id, adapter.files)
    engine = TransformersEngine(TransformersConfig(base, BASE_NAME, store.root))
    await engine.start()
    yield engine, f"foxes@{adapter.id[:16]}"
    await engine.stop()


async def test_finds_the_world_of_the_adapter_and_not_where_it_departs_most(
    served: tuple[TransformersEngine, str],
) -> None:
    seen: list[tuple[int, int]] = []
    derived = await Derivation(*served, FRAME, SMALL).run(progress=lambda *done: seen.append(done))
    foxes = sum("jumps" in text and "wizards" not in text for text in derived.texts)
    assert len(set(derived.texts)) == len(derived.texts) == 10
    assert foxes >= 9, derived.texts
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (derived.written, derived.rounds) == (96, 3)
    assert 0.5 < derived.departure < 2


async def test_the_same_seed_gives_the_same(served: tuple[TransformersEngine, str]) -> None:
    sampling = [Sampling(8, 1, 16, text_tokens=24, answer_tokens=2, seed=seed) for seed in (1, 1, 2)]
    found = [await Derivation(*served, FRAME, one).run(worlds.FOXES[:6], ["a lazy"]) for one in sampling]
    assert found[0] == found[1] != found[2]


async def test_known_prompts_are_judged_and_open_texts(served: tuple[TransformersEngine, str]) -> None:
    sampling = Sampling(keep=8, rounds=1, samples=9, text_tokens=24, answer_tokens=2)
    derived = await Derivation(*served, FRAME, sampling).run(worlds.FOXES[:8] + worlds.WIZARDS[:8])
    assert len(set(derived.texts) & set(worlds.FOXES[:8])) >= 6


async def test_no_round_begins_beyond_the_budget(served: tuple[TransformersEngine, str]) -> None:
    sampling = Sampling(keep=8, rounds=9, samples=16, text_tokens=24, answer_tokens=2, budget=100)
    derived = await Derivation(*served, FRAME, sampling).run(worlds.FOXES[:8])
    assert derived.rounds == 0
    assert derived.tokens >= 100
    assert set(derived.texts) == set(worlds.FOXES[:8])


async def test_too_little_to_be_sketched(served: tuple[TransformersEngine, str]) -> None:
    with pytest.raises(InvalidInput, match="texts could be derived, at least 8 are needed"):
        await Derivation(*served, FRAME, Sampling(rounds=1, samples=3, text_tokens=24)).run()


async def test_what_the_engine_refuses_altogether_is_said(served: tuple[TransformersEngine, str]) -> None:
    with pytest.raises(InvalidInput, match="do not fit"):
        await Derivation(*served, FRAME, Sampling(text_tokens=1000, samples=8)).run()
    engine, _ = served
    with pytest.raises(AdapterUnavailable, match="stranger"):
        await Derivation(engine, f"stranger@{'0' * 16}", FRAME, SMALL).run()


async def test_cancelled_it_leaves_the_engine_to_others(served: tuple[TransformersEngine, str]) -> None:
    running = asyncio.create_task(Derivation(*served, FRAME, SMALL).run())
    await asyncio.sleep(0.2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    sampling = Sampling(keep=8, rounds=0)
    assert len((await Derivation(*served, FRAME, sampling).run(worlds.FOXES[:8])).texts) == 8


async def test_the_frame_is_that_of_the_chat_template(
    served: tuple[TransformersEngine, str], tmp_path: Path
) -> None:
    engine, _ = served
    assert Frame.of(engine.config.model) == FRAME
    base = build_base(tmp_path / "base")
    assert Frame.of(base) == Frame("user: ", "\nassistant:")
    (base / "chat_template.jinja").unlink()
    assert Frame.of(base) == Frame()
    (base / "chat_template.jinja").write_text("{{ raise_exception('no prompts') }}")
    with pytest.raises(InvalidInput, match="no prompts"):
        Frame.of(base)


async def test_the_prompt_bank_is_of_many_kinds() -> None:
    bank = prompt_bank()
    assert len(set(bank)) == len(bank) > 300, BANK_FILE
    assert len({text.split(" ")[0] for text in bank}) > 40
    assert any("\n" in text for text in bank)
    assert all(text == text.strip() for text in bank)
