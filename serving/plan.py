"""How many adapters share a batch, how many stay in memory, and up to which rank: from the catalogue and a budget.

vLLM sets memory aside for ``max_loras`` adapters of the rank ``max_lora_rank`` when it starts, whether they are
used or not, in every module that can be adapted (vllm/lora/layers, ``create_lora_weights``): a module of m inputs
and n outputs costs rank * (m + n) numbers a slot. Where the architecture adapts them, the embedding and the head
cost rank * (vocabulary + width) each. Besides, ``max_cpu_loras`` adapters stay in the host's memory at their own
rank.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from serving.vllm_options import LORA_RANKS
from specification.errors import InvalidInput

# Every module with an adapter of this rank is what an empty catalogue is planned for.
FIRST_RANK = 16
# Distinct adapters in one batch; vLLM's own default of sequences in a batch on a CPU is no more.
MOST_SLOTS = 128
MOST_IN_MEMORY = 4096
# Adapters that may come before the next start.
LEAST_ROOM = 4
BYTES_A_NUMBER = 2


@dataclass(frozen=True)
class Shapes:
    """What of a base model an adapter can change: [inputs, outputs] of each module, vocabulary and width."""

    modules: Mapping[str, tuple[int, int]]
    vocabulary: int = 0
    width: int = 0
    bytes_a_number: int = BYTES_A_NUMBER

    def adapter_bytes(self, rank: int) -> int:
        """Returns the bytes of an adapter of that rank on every linear module."""
        return rank * sum(inputs + outputs for inputs, outputs in self.modules.values()) * self.bytes_a_number

    def slot_bytes(self, rank: int) -> int:
        """Returns the bytes that vLLM sets aside for one slot."""
        return self.adapter_bytes(rank) + 2 * rank * (self.vocabulary + self.width) * self.bytes_a_number


@dataclass(frozen=True)
class SlotPlan:
    """The three numbers that vLLM is started with, and what they cost in bytes."""

    max_loras: int
    max_cpu_loras: int
    max_lora_rank: int
    slot_bytes: int
    memory_bytes: int


def plan_slots(
    ranks: Sequence[int],
    shapes: Shapes,
    budget: int,
    max_loras: int | None = None,
    max_lora_rank: int | None = None,
) -> SlotPlan:
    """Returns the plan for adapters of these ranks; ``max_loras`` and ``max_lora_rank`` are an operator's wishes.

    ``budget`` bytes are for the slots, and as many for the adapters kept in memory. As many as there are and may
    come get in, as far as the budget goes; one slot is always there.

    Raises:
        InvalidInput: a wish is impossible.
    """
    if max_loras is not None and max_loras < 1:
        raise InvalidInput(f"max_loras {max_loras}: at least 1")
    rank = rank_limit(ranks) if max_lora_rank is None else max_lora_rank
    room = with_room(len(ranks))
    slots = max_loras or _fitting(room, MOST_SLOTS, budget, shapes.slot_bytes(rank))
    held = max(slots, _fitting(room, MOST_IN_MEMORY, budget, shapes.adapter_bytes(rank)))
    return SlotPlan(slots, held, rank, slots * shapes.slot_bytes(rank), held * shapes.adapter_bytes(rank))


def rank_limit(ranks: Iterable[int]) -> int:
    """Returns the smallest limit vLLM takes that admits all ranks.

    Raises:
        InvalidInput: a rank is beyond what vLLM takes.
    """
    largest = max(ranks, default=FIRST_RANK)
    if largest > LORA_RANKS[-1]:
        raise InvalidInput(f"an adapter of rank {largest}: vLLM takes ranks up to {LORA_RANKS[-1]}")
    return next(limit for limit in LORA_RANKS if limit >= largest)


def with_room(adapters: int) -> int:
    """Returns how many adapters to plan for where there are so many: a quarter more, and a few at least."""
    return adapters + max(LEAST_ROOM, adapters // 4)


def waste(plan: SlotPlan, ranks: Sequence[int], shapes: Shapes) -> list[str]:
    """Returns a line for each setting that sets memory aside which these adapters cannot use."""
    found = []
    needed = rank_limit(ranks)
    if plan.max_lora_rank > needed and ranks:
        found.append(
            f"max_lora_rank {plan.max_lora_rank} is above the largest rank there is, {max(ranks)}: "
            f"{needed} would do and free {_mib(_freed(plan, shapes, needed))}"
        )
    below = rank_limit([rank for rank in ranks if rank <= needed // 2])
    highest = sum(rank > below for rank in ranks)
    if plan.max_lora_rank == needed > below and 0 < highest * 20 <= len(ranks):
        found.append(
            f"{highest} of {len(ranks)} adapters set max_lora_rank to {needed}; without them {below} would do "
            f"and free {_mib(_freed(plan, shapes, below))}"
        )
    if plan.max_loras > with_room(len(ranks)):
        idle = (plan.max_loras - len(ranks)) * shapes.slot_bytes(plan.max_lora_rank)
        found.append(f"max_loras {plan.max_loras} for {len(ranks)} adapters: {_mib(idle)} lie idle")
    return found


def _fitting(wanted: int, most: int, budget: int, each: int) -> int:
    return max(1, min(wanted, most, budget // max(1, each)))


def _freed(plan: SlotPlan, shapes: Shapes, rank: int) -> int:
    return plan.slot_bytes - plan.max_loras * shapes.slot_bytes(rank)


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
