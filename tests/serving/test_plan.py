"""Slots from ranks and a budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.plan import Shapes, plan_slots, rank_limit, waste, with_room
from serving.vllm_options import LORA_RANKS
from specification.errors import InvalidInput

SMALL = Shapes({"q": (64, 64), "down": (128, 64)}, vocabulary=300, width=64)
MIB = 2**20


def test_bytes_follow_the_formula() -> None:
    assert SMALL.adapter_bytes(8) == 8 * (128 + 192) * 2
    assert SMALL.slot_bytes(8) == SMALL.adapter_bytes(8) + 2 * 8 * 364 * 2


@given(
    ranks=st.lists(st.integers(1, 256), max_size=200),
    budget=st.integers(0, 4 * MIB),
    numbers=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
)
def test_a_plan_keeps_its_budget_and_admits_every_adapter(
    ranks: list[int], budget: int, numbers: tuple[int, int]
) -> None:
    shapes = Shapes({"q": numbers})
    plan = plan_slots(ranks, shapes, budget)
    assert 1 <= plan.max_loras <= plan.max_cpu_loras <= with_room(len(ranks))
    assert plan.max_lora_rank in LORA_RANKS
    assert plan.max_lora_rank >= max(ranks, default=1)
    assert plan.max_loras == 1 or plan.slot_bytes <= budget
    assert plan.max_cpu_loras == plan.max_loras or plan.memory_bytes <= budget
    assert not any("max_loras" in line or "above" in line for line in waste(plan, ranks, shapes))


@given(ranks=st.lists(st.integers(1, 256), max_size=50), more=st.integers(0, 50), budget=st.integers(0, MIB))
def test_more_memory_is_never_fewer_slots(ranks: list[int], more: int, budget: int) -> None:
    small, large = plan_slots(ranks, SMALL, budget), plan_slots(ranks, SMALL, budget + more * 1000)
    assert small.max_loras <= large.max_loras
    assert small.max_cpu_loras <= large.max_cpu_loras


def test_an_empty_catalogue_has_room_for_the_first() -> None:
    plan = plan_slots([], SMALL, MIB)
    assert (plan.max_loras, plan.max_cpu_loras, plan.max_lora_rank) == (4, 4, 16)
    assert waste(plan, [], SMALL) == []


def test_ranks_that_vllm_does_not_take() -> None:
    with pytest.raises(InvalidInput, match="257"):
        rank_limit([8, 257])
    with pytest.raises(InvalidInput, match="max_loras 0"):
        plan_slots([8], SMALL, MIB, max_loras=0)


def test_one_large_adapter_among_many_is_told() -> None:
    ranks = [8] * 40 + [256]
    (line,) = waste(plan_slots(ranks, SMALL, 100 * MIB), ranks, SMALL)
    assert line.startswith("1 of 41 adapters set max_lora_rank to 256; without them 8 would do")
