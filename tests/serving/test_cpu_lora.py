"""LoRA on a CPU against the exact answer, row by row; all numbers are small integers, so none is rounded."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from serving.cpu_lora import GroupedLora, expand, groups_of, shrink

# What each place holds, by vLLM's number of the adapter.
SLOTS = [30, 10, 20]
INPUT, RANK, OUTPUT, SCALE = 8, 4, 6, 2.0
# Of adapters one after another, mixed with the base model, scattered with every place taken, and one kind alone.
PLACES = [[0, 0, 1, 1, 2], [-1, 2, 2, -1, -1, 0, 1], [2, -1, 0, 2, 1, -1, 0, 2], [-1, -1], [2]]

every_batch = pytest.mark.parametrize("places", PLACES)
every_type = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randint(-1, 2, shape).to(dtype)


def exact(
    y: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, places: list[int], scale: float = 1, add: bool = True
) -> torch.Tensor:
    """Returns what y becomes: where it is as wide as a row's own matrix is high; nothing changes without one."""
    after = y.clone()
    for row, place in enumerate(places):
        if place >= 0:
            for column, own in enumerate(weights[place].reshape(-1, weights.shape[-1])[: y.shape[1]]):
                product = sum(float(a) * float(b) for a, b in zip(x[row], own, strict=True))
                after[row, column] = scale * product + (float(y[row, column]) if add else 0)
    return after


def wrapper(tokens: list[int], requests: list[int]) -> GroupedLora:
    """vLLM's wrapper, told whose the tokens and the requests of a batch are."""
    made = GroupedLora(64, max_batches=64, device="cpu")
    ids = [[SLOTS[place] if place >= 0 else 0 for place in places] for places in (tokens, requests)]
    mapping = SimpleNamespace(index_mapping=ids[0], prompt_mapping=ids[1], is_prefill=True)
    made.update_metadata(mapping, SLOTS, len(SLOTS) + 1, 100)
    return made


@given(st.lists(st.integers(-1, 3) | st.integers(-1, 2**63 - 1), max_size=40))
@example([])
@example([-1, -1])
@example([1, 1, -1, 0, 0, 0])
@example([1, 0, -1, 1])
def test_groups_are_all_rows_of_each_adapter(places: list[int]) -> None:
    groups = groups_of(torch.tensor(places, dtype=torch.int64))
    assert [place for place, _ in groups] == sorted(set(places) - {-1})
    for place, rows in groups:
        own = [row for row, other in enumerate(places) if other == place]
        assert torch.arange(len(places))[rows].tolist() == own
        # Neighbours are a view, which copies nothing.
        assert isinstance(rows, slice) == (own == list(range(own[0], own[-1] + 1)))


@every_batch
@every_type
@pytest.mark.parametrize("dimensions", [(), (1,)])
@pytest.mark.parametrize("width", [RANK, RANK + 3])
def test_shrink(places: list[int], dtype: torch.dtype, dimensions: tuple[int, ...], width: int) -> None:
    weights = numbers(len(SLOTS), *dimensions, RANK, INPUT, dtype=dtype)
    x, y = numbers(len(places), INPUT, dtype=dtype), numbers(len(places), width)
    expected = exact(y, x, weights, places, SCALE, add=False)
    shrink(y, x, weights, SCALE, groups_of(torch.tensor(places)))
    assert torch.equal(y, expected)


@every_batch
@every_type
@pytest.mark.parametrize("dimensions", [(), (1,)])
@pytest.mark.parametrize("width", [OUTPUT - 2, OUTPUT, OUTPUT + 3])
@pytest.mark.parametrize("add", [True, False])
def test_expand(places: list[int], dtype: torch.dtype, dimensions: tuple[int, ...], width: int, add: bool) -> None:
    weights = numbers(len(SLOTS), *dimensions, OUTPUT, RANK, dtype=dtype)
    x, y = numbers(len(places), RANK), numbers(len(places), width, dtype=dtype)
    expected = exact(y, x, weights, places, add=add)
    expand(y, x, weights, groups_of(torch.tensor(places)), add)
    assert torch.equal(y, expected)


@every_batch
@every_type
def test_a_linear_layer_of_two_slices(places: list[int], dtype: torch.dtype) -> None:
    first = tuple(numbers(len(SLOTS), 1, RANK, INPUT, dtype=dtype) for _ in range(2))
    second = tuple(numbers(len(SLOTS), 1, width, RANK, dtype=dtype) for width in (OUTPUT, 3))
    x, y = numbers(len(places), INPUT, dtype=dtype), numbers(len(places), OUTPUT + 3, dtype=dtype)
    inner = [exact(torch.zeros(len(places), RANK), x, one, places, SCALE) for one in first]
    parts = zip((y[:, :OUTPUT], y[:, OUTPUT:]), inner, second, strict=True)
    expected = torch.cat([exact(part, each, one, places) for part, each, one in parts], dim=1)
    wrapper(places, []).add_lora_linear(y, x, first, second, SCALE, (OUTPUT, 3))
    assert torch.equal(y, expected)


@every_batch
def test_a_sharded_layer_takes_its_own_columns(places: list[int]) -> None:
    first, second = numbers(len(SLOTS), 1, RANK, INPUT), numbers(len(SLOTS), 1, OUTPUT, RANK)
    x, y = numbers(len(places), INPUT), numbers(len(places), OUTPUT + 5)
    inner = torch.zeros(1, len(places), RANK)
    expected = y.clone()
    shard = slice(2, 2 + OUTPUT)
    expected[:, shard] = exact(y[:, shard], exact(inner[0], x, first, places), second, places)
    lora = wrapper(places, [])
    lora.add_shrink(inner, x, (first,), 1.0)
    lora.add_expand(y, inner, (second,), (OUTPUT,), offset_start=2, add_input=True)
    assert torch.equal(y, expected)


@every_batch
@every_type
@pytest.mark.parametrize("add", [True, False])
def test_an_embedding(places: list[int], dtype: torch.dtype, add: bool) -> None:
    weights = numbers(len(SLOTS), 1, OUTPUT, RANK, dtype=dtype)
    x, y = numbers(len(places), RANK, dtype=dtype), numbers(len(places), OUTPUT, dtype=dtype)
    expected = exact(y, x, weights, places, add=add)
    wrapper(places, []).add_lora_embedding(y, x, weights, add_inputs=add)
    assert torch.equal(y, expected)


@every_batch
@every_type
@pytest.mark.parametrize("buffered", [True, False])
def test_the_output_layer_goes_by_requests(places: list[int], dtype: torch.dtype, buffered: bool) -> None:
    first = numbers(len(SLOTS), 1, RANK, INPUT, dtype=dtype)
    second = numbers(len(SLOTS), 1, OUTPUT, RANK, dtype=dtype)
    x, y = numbers(len(places), INPUT, dtype=dtype), numbers(len(places), OUTPUT, dtype=dtype)
    inner = torch.zeros(len(places), RANK)
    expected = exact(y, exact(inner, x, first, places, SCALE), second, places)
    lora = wrapper([0, 1, 2, -1, 1, 0, 0, 2, 1, 1], places)
    lora.add_lora_logits(y, x, first, second, SCALE, buffer=inner if buffered else None)
    assert torch.equal(y, expected)


@pytest.mark.parametrize("rows", [1, 9])
def test_a_prompt_s_logits_are_no_adapter_s_unless_one_has_an_output_layer(rows: int) -> None:
    first, second = numbers(len(SLOTS), 1, RANK, INPUT), torch.zeros(len(SLOTS), 1, OUTPUT, RANK)
    x, y = numbers(rows, INPUT), numbers(rows, OUTPUT)
    before, lora = y.clone(), wrapper([0] * 9 + [1, 2], [0, 1, 2])
    lora.add_lora_logits(y, x, first, second, 1.0)
    assert torch.equal(y, before)
    second[1, 0, 3, 0] = 1
    with pytest.raises(NotImplementedError, match="prompt_logprobs"):
        lora.add_lora_logits(y, x, first, second, 1.0)
