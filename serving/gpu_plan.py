"""How many adapters fit beside a base model on a GPU, and what the KV cache keeps: arithmetic, no GPU is asked.

vLLM takes ``utilization`` of the GPU's memory. Weights, the slots of adapters (``serving/plan.py``), the largest
forward pass and a fixed reserve come first; all that is left is the KV cache (vllm/v1/worker/gpu_worker.py,
``determine_available_memory``). A token's keys and values take 2 * layers * KV heads * head width numbers.
"""

from dataclasses import dataclass

from serving.plan import MOST_IN_MEMORY, MOST_SLOTS, Shapes, rank_limit, with_room
from specification.errors import InvalidInput

GIB = 2**30
# vLLM hands out the KV cache in blocks of so many tokens.
BLOCK = 16
# The largest forward pass, vLLM's defaults on GPUs under 70 GiB; on larger ones they must be given, or a pass and
# so the memory set aside for it is four times as large (vllm/engine/arg_utils.py).
BATCHED_TOKENS = 2048
SEQUENCES = 256
# CUDA's context, libraries and captured graphs. Assumed, not measured by us.
RESERVE = int(1.5 * GIB)
# Logits as computed, as float32, and sorted for sampling.
LOGITS_BYTES = 2 + 4 + 4


@dataclass(frozen=True)
class BaseSize:
    """What of a base model decides on memory. ``kv_bytes_a_token`` is over all layers.

    ``intermediate`` is the width inside a feed-forward block, ``max_model_len`` the longest context in tokens.
    """

    shapes: Shapes
    weight_bytes: int
    kv_bytes_a_token: int
    intermediate: int
    max_model_len: int


@dataclass(frozen=True)
class GpuWishes:
    """What an operator gives and asks. ``request_tokens`` is the usual length of prompt and answer together.

    ``adapters`` None stands for more than can be kept; ``modules`` are those that adapters change, by the last
    part of their names, empty for every linear one.

    Raises:
        InvalidInput: a number is out of bounds.
    """

    rank: int
    gpu_bytes: int
    host_bytes: int
    utilization: float = 0.9
    max_model_len: int | None = None
    request_tokens: int = 2048
    adapters: int | None = None
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rank", "gpu_bytes", "host_bytes", "request_tokens"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}, at least 1 is needed")
        if not 0 < self.utilization <= 1:
            raise InvalidInput(f"GPU memory utilization {self.utilization}: above 0 and at most 1 is possible")
        if self.max_model_len is not None and self.max_model_len < 1:
            raise InvalidInput(f"max_model_len {self.max_model_len}: at least 1")


@dataclass(frozen=True)
class GpuPlan:
    """The plan. Bytes on the GPU unless a name says host.

    ``most_adapters`` slots fit if the KV cache keeps no more than one sequence of ``max_model_len``, below which
    vLLM does not start. ``max_loras`` is the most that leaves the KV cache a request of usual length for each
    slot. ``kv_tokens`` is what then remains, ``kv_sequences`` how many of ``max_model_len``, ``kv_requests`` how
    many of ``request_tokens``; ``kv_tokens_without`` is what the base model alone would leave. ``budget_bytes``
    are what ``plan_slots`` needs to keep ``max_cpu_loras`` adapters in memory: it charges each the largest it may
    be.
    """

    max_loras: int
    max_cpu_loras: int
    max_lora_rank: int
    most_adapters: int
    max_model_len: int
    request_tokens: int
    utilization: float
    usable_bytes: int
    weight_bytes: int
    activation_bytes: int
    reserve_bytes: int
    slot_bytes: int
    slots_bytes: int
    adapter_bytes: int
    host_bytes: int
    budget_bytes: int
    kv_bytes: int
    kv_bytes_a_token: int
    kv_tokens: int
    kv_tokens_without: int
    kv_sequences: int
    kv_requests: int


def plan_gpu(base: BaseSize, wishes: GpuWishes) -> GpuPlan:
    """Returns the plan for adapters of one rank beside a base model.

    Raises:
        InvalidInput: vLLM does not take the rank, no module has one of the names, or it does not all fit; the
            message says what would.
    """
    limit = rank_limit([wishes.rank])
    length = wishes.max_model_len or base.max_model_len
    if length > base.max_model_len:
        raise InvalidInput(f"max_model_len {length}: the model's own limit is {base.max_model_len}")
    usable = int(wishes.utilization * wishes.gpu_bytes)
    activations, slot = activation_bytes(base), base.shapes.slot_bytes(limit)
    free = usable - base.weight_bytes - activations - RESERVE
    least = _blocks(length) * BLOCK * base.kv_bytes_a_token
    if free < least + slot:
        raise InvalidInput(_refusal(base, wishes, free - slot, activations))
    most = (free - least) // slot
    adapter = _adapted(base.shapes, wishes.modules).adapter_bytes(wishes.rank)
    kept = wishes.host_bytes // adapter
    if kept < 1:
        raise InvalidInput(
            f"an adapter takes {_gib(adapter)} of the host's memory, and {_gib(wishes.host_bytes)} are given"
        )
    wanted = MOST_IN_MEMORY if wishes.adapters is None else with_room(wishes.adapters)
    usual = min(wishes.request_tokens, length)
    slots = _balanced(min(most, MOST_SLOTS, wanted, kept), free, slot, usual, base.kv_bytes_a_token)
    held = max(slots, min(kept, wanted, MOST_IN_MEMORY))
    tokens = _tokens(free - slots * slot, base.kv_bytes_a_token)
    return GpuPlan(
        max_loras=slots,
        max_cpu_loras=held,
        max_lora_rank=limit,
        most_adapters=most,
        max_model_len=length,
        request_tokens=usual,
        utilization=wishes.utilization,
        usable_bytes=usable,
        weight_bytes=base.weight_bytes,
        activation_bytes=activations,
        reserve_bytes=RESERVE,
        slot_bytes=slot,
        slots_bytes=slots * slot,
        adapter_bytes=adapter,
        host_bytes=held * adapter,
        budget_bytes=held * base.shapes.adapter_bytes(limit),
        kv_bytes=free - slots * slot,
        kv_bytes_a_token=base.kv_bytes_a_token,
        kv_tokens=tokens,
        kv_tokens_without=_tokens(free, base.kv_bytes_a_token),
        kv_sequences=_sequences(tokens, length),
        kv_requests=_sequences(tokens, usual),
    )


def activation_bytes(base: BaseSize) -> int:
    """Returns roughly what the largest forward pass takes.

    For each of its tokens the gate and up projections and four vectors of the model's width, for each sequence its
    logits over the vocabulary, see ``LOGITS_BYTES``.
    """
    numbers = BATCHED_TOKENS * (2 * base.intermediate + 4 * base.shapes.width)
    return numbers * base.shapes.bytes_a_number + SEQUENCES * base.shapes.vocabulary * LOGITS_BYTES


def _balanced(most: int, free: int, slot: int, request_tokens: int, kv_bytes_a_token: int) -> int:
    """Returns the most slots, at least one, that leave the KV cache a request of usual length for each of them."""
    request = _blocks(request_tokens) * BLOCK * kv_bytes_a_token
    return max(1, min(most, free // (slot + request)))


def _adapted(shapes: Shapes, names: tuple[str, ...]) -> Shapes:
    if not names:
        return shapes
    known = {name.rpartition(".")[2] for name in shapes.modules}
    strange = sorted(set(names) - known)
    if strange:
        raise InvalidInput(f"modules {', '.join(strange)}: the base model has {', '.join(sorted(known))}")
    chosen = {name: size for name, size in shapes.modules.items() if name.rpartition(".")[2] in names}
    return Shapes(chosen, bytes_a_number=shapes.bytes_a_number)


def _refusal(base: BaseSize, wishes: GpuWishes, left: int, activations: int) -> str:
    """Says what fills the memory, and what would help."""
    head = (
        f"{_gib(wishes.gpu_bytes)} of GPU memory, of which {wishes.utilization:.0%} may be used, do not hold the "
        f"base model's weights ({_gib(base.weight_bytes)}), a forward pass and reserve "
        f"({_gib(activations + RESERVE)}), one adapter's slot and the KV cache of one sequence"
    )
    tokens = _tokens(left, base.kv_bytes_a_token)
    if tokens >= BLOCK:
        return f"{head}; --max-model-len {tokens} would fit"
    return f"{head}; take a larger GPU, a smaller or quantised base model, or several GPUs"


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK)


def _tokens(size: int, kv_bytes_a_token: int) -> int:
    """Returns the tokens in whole blocks that the KV cache keeps in ``size`` bytes."""
    return max(0, size) // (BLOCK * kv_bytes_a_token) * BLOCK


def _sequences(tokens: int, length: int) -> int:
    return tokens // (_blocks(length) * BLOCK)


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
