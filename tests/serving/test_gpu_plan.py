"""Adapters beside Llama-3.1-8B on a GPU, worked out by hand; the boundaries; and what holds for every plan."""

import re
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serving.gpu_plan import GIB, RESERVE, BaseSize, GpuWishes, activation_bytes, plan_gpu
from serving.plan import Shapes, plan_slots
from specification.errors import InvalidInput

# Published: 32 layers of width 4096 and 14336, 32 heads of which 8 have keys and values, 128 256 words, bfloat16.
PROJECTIONS = {
    "q_proj": (4096, 4096),
    "k_proj": (4096, 1024),
    "v_proj": (4096, 1024),
    "o_proj": (4096, 4096),
    "gate_proj": (4096, 14336),
    "up_proj": (4096, 14336),
    "down_proj": (14336, 4096),
}
LLAMA = BaseSize(
    shapes=Shapes(
        {f"{layer}.{name}": size for layer in range(32) for name, size in PROJECTIONS.items()}, 128_256, 4096
    ),
    weight_bytes=2 * 8_030_261_248,
    kv_bytes_a_token=2 * 32 * 8 * 128 * 2,
    intermediate=14_336,
    max_model_len=131_072,
)
WISHES = GpuWishes(rank=16, gpu_bytes=24 * GIB, host_bytes=16 * GIB, max_model_len=8192)


def test_llama_on_24_gib() -> None:
    plan = plan_gpu(LLAMA, WISHES)
    # 81 920 inputs and outputs a layer, 32 layers, rank 16: 41 943 040 numbers of two bytes.
    assert plan.adapter_bytes == 83_886_080
    # Besides, rank 16 on embedding and head: 2 * 16 * (128 256 + 4096) numbers.
    assert plan.slot_bytes == 83_886_080 + 8_470_528
    # 2048 tokens of 2 * 14 336 + 4 * 4096 numbers, and 256 rows of logits of ten bytes.
    assert plan.activation_bytes == 184_549_376 + 328_335_360
    assert plan.usable_bytes == 23_192_823_398
    # 5 008 803 430 bytes are left. One sequence of 8192 takes 2^30, the rest 42.6 slots.
    assert plan.most_adapters == 42
    # A slot and a request of 2048 take 360 792 064: 13.9 of them.
    assert plan.max_loras == 13
    assert plan.kv_bytes == 5_008_803_430 - 13 * 92_356_608
    assert plan.kv_tokens == 1815 * 16
    assert plan.kv_tokens_without == 2388 * 16
    assert (plan.kv_sequences, plan.kv_requests) == (3, 14)
    # 16 GiB hold 204.8 adapters of 80 MiB.
    assert plan.max_cpu_loras == 204
    assert plan.host_bytes == 204 * 83_886_080


def test_modules_make_the_adapter_smaller_and_not_the_slot() -> None:
    plan = plan_gpu(LLAMA, replace(WISHES, modules=("q_proj", "v_proj")))
    # (8192 + 5120) * 32 layers * rank 16 * two bytes.
    assert plan.adapter_bytes == 13_631_488
    assert plan.slot_bytes == 92_356_608
    assert plan.max_cpu_loras == 1260
    with pytest.raises(InvalidInput, match=r"modules W_pack: the base model has down_proj, .*, v_proj"):
        plan_gpu(LLAMA, replace(WISHES, modules=("W_pack", "q_proj")))


def test_a_rank_between_the_limits_has_a_slot_of_the_next() -> None:
    plan = plan_gpu(LLAMA, replace(WISHES, rank=20))
    assert plan.max_lora_rank == 32
    assert plan.slot_bytes == 2 * 92_356_608
    assert plan.adapter_bytes == 20 * 2_621_440 * 2
    with pytest.raises(InvalidInput, match="rank 300: vLLM takes ranks up to 256"):
        plan_gpu(LLAMA, replace(WISHES, rank=300))


def test_no_more_slots_than_there_are_adapters_or_the_host_holds() -> None:
    few = plan_gpu(LLAMA, replace(WISHES, adapters=3))
    assert (few.max_loras, few.max_cpu_loras) == (7, 7)
    narrow = plan_gpu(LLAMA, replace(WISHES, host_bytes=5 * 83_886_080))
    assert (narrow.max_loras, narrow.max_cpu_loras) == (5, 5)
    with pytest.raises(
        InvalidInput, match=r"an adapter takes 0.08 GiB of the host's memory, and 0.05 GiB are given"
    ):
        plan_gpu(LLAMA, replace(WISHES, host_bytes=50 * 2**20))


def test_one_byte_decides_whether_it_fits() -> None:
    least = LLAMA.weight_bytes + activation_bytes(LLAMA) + RESERVE + 92_356_608 + 8192 * 131_072
    plan = plan_gpu(LLAMA, replace(WISHES, gpu_bytes=least, utilization=1))
    assert (plan.max_loras, plan.most_adapters, plan.kv_tokens, plan.kv_sequences) == (1, 1, 8192, 1)
    with pytest.raises(InvalidInput) as caught:
        plan_gpu(LLAMA, replace(WISHES, gpu_bytes=least - 1, utilization=1))
    shorter = re.search(r"--max-model-len (\d+) would fit", str(caught.value))
    assert shorter is not None
    assert int(shorter[1]) == 8192 - 16
    assert plan_gpu(LLAMA, replace(WISHES, gpu_bytes=least - 1, utilization=1, max_model_len=8176)).max_loras == 1


def test_a_base_model_that_does_not_fit() -> None:
    with pytest.raises(InvalidInput, match=r"16\.00 GiB .* 90% .* weights \(14\.96 GiB\).*take a larger GPU"):
        plan_gpu(LLAMA, replace(WISHES, gpu_bytes=16 * GIB))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"utilization": 1.2}, r"utilization 1.2"),
        ({"max_model_len": 0}, "max_model_len 0"),
        ({"max_model_len": 200_000}, "the model's own limit is 131072"),
        ({"gpu_bytes": 0}, "gpu_bytes is 0"),
    ],
)
def test_wishes_are_checked(fields: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        plan_gpu(LLAMA, replace(WISHES, **fields))  # type: ignore[arg-type]


wishes = st.builds(
    GpuWishes,
    rank=st.integers(1, 256),
    gpu_bytes=st.integers(18 * GIB, 300 * GIB),
    host_bytes=st.integers(GIB, 512 * GIB),
    utilization=st.floats(0.5, 1),
    max_model_len=st.integers(1, 131_072),
    request_tokens=st.integers(1, 10_000),
    adapters=st.none() | st.integers(1, 10_000),
)


@given(wishes=wishes)
def test_every_plan_keeps_to_the_memory(wishes: GpuWishes) -> None:
    try:
        plan = plan_gpu(LLAMA, wishes)
    except InvalidInput:
        assume(False)
    parts = plan.weight_bytes + plan.activation_bytes + plan.reserve_bytes + plan.slots_bytes
    assert parts + plan.kv_tokens * plan.kv_bytes_a_token <= plan.usable_bytes
    assert plan.kv_sequences >= 1
    assert plan.max_loras == 1 or plan.kv_requests >= plan.max_loras
    assert 1 <= plan.max_loras <= min(plan.most_adapters, plan.max_cpu_loras)
    assert plan.host_bytes <= wishes.host_bytes
    assert plan.kv_tokens <= plan.kv_tokens_without


@given(wishes=wishes, more=st.integers(0, 50 * GIB), host=st.integers(0, 50 * GIB))
def test_more_memory_is_never_fewer_adapters(wishes: GpuWishes, more: int, host: int) -> None:
    larger = replace(wishes, gpu_bytes=wishes.gpu_bytes + more, host_bytes=wishes.host_bytes + host)
    try:
        small = plan_gpu(LLAMA, wishes)
    except InvalidInput:
        assume(False)
    large = plan_gpu(LLAMA, larger)
    assert small.max_loras <= large.max_loras
    assert small.max_cpu_loras <= large.max_cpu_loras
    assert small.most_adapters <= large.most_adapters
    assert small.kv_tokens_without <= large.kv_tokens_without


@given(wishes=wishes)
def test_slmdock_serve_comes_to_the_same_from_the_budget(wishes: GpuWishes) -> None:
    try:
        plan = plan_gpu(LLAMA, replace(wishes, adapters=500))
    except InvalidInput:
        assume(False)
    served = plan_slots([wishes.rank] * 500, LLAMA.shapes, plan.budget_bytes, plan.max_loras, plan.max_lora_rank)
    assert (served.max_loras, served.max_cpu_loras) == (plan.max_loras, plan.max_cpu_loras)
    assert served.slot_bytes == plan.slots_bytes
