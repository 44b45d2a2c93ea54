"""LoRA inside vLLM on a CPU: an adapter's tokens are multiplied together, and the base model's are left alone.

vLLM's own operations (0.32) copy the adapter's matrices once for every token, which made a prompt of 200 tokens
twenty times slower with an adapter than without. They also take -1, the number of no adapter, for the last place:
the base model, asked in one batch with as many adapters as have a place, answered as the last of them.

Only the plugin imports this module, inside vLLM.
"""

from typing import Any

import torch
from vllm.lora.punica_wrapper import punica_cpu

Rows = slice | torch.Tensor
Groups = list[tuple[int, Rows]]


class GroupedLora(punica_cpu.PunicaWrapperCPU):
    """What vLLM's layers call; ``x`` is [tokens, in], weights are [places, 1, out, in] or [places, out, in]."""

    tokens: Groups
    samples: Groups

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Notes whose tokens are where, once for all layers."""
        super().update_metadata(*args, **kwargs)
        self.tokens = groups_of(self.token_lora_indices)
        self.samples = groups_of(self.sampler_indices)

    def _apply_shrink(self, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, scale: float) -> None:
        shrink(y.view(-1, y.shape[-1]), x, w_t_all, scale, self.tokens)

    def _apply_expand(
        self, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, y_offset: int, y_slice_size: int,
        add_inputs: bool = True,
    ) -> None:  # fmt: skip
        expand(y[:, y_offset : y_offset + y_slice_size], x, w_t_all, self.tokens, add_inputs)

    def add_lora_embedding(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        add_inputs: bool = True,
        **kwargs: Any,
    ) -> None:
        """Adds the second half of an embedding's adapter; the first is looked up."""
        expand(y, x, lora_b_stacked, self.tokens, add_inputs)

    def add_lora_logits(
        self, y: torch.Tensor, x: torch.Tensor, lora_a_stacked: torch.Tensor, lora_b_stacked: torch.Tensor,
        scale: float, *, buffer: torch.Tensor | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Adds the adapter of the output layer, whose rows are requests, not tokens.

        With ``prompt_logprobs`` they are one prompt's tokens, and vLLM does not say whose.

        Raises:
            NotImplementedError: they are, and an adapter in memory has an output layer; none of the dock's has.
        """
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        if len(x) != len(self.sampler_indices):
            if lora_b_stacked.any():
                raise NotImplementedError("prompt_logprobs with an adapter of the output layer in memory")
            return
        inner = x.new_zeros((len(x), lora_b_stacked.size(-1)), dtype=torch.float32) if buffer is None else buffer
        shrink(inner, x, lora_a_stacked, scale, self.samples)
        expand(y, inner, lora_b_stacked, self.samples)


def install() -> None:
    """Makes vLLM's CPU platform, which looks the class up by its name, take this one."""
    setattr(punica_cpu, "PunicaWrapperCPU", GroupedLora)  # noqa: B010


def groups_of(places: torch.Tensor) -> Groups:
    """Returns each adapter's place with its rows, from int64 [tokens]; -1, no adapter, is left out."""
    found: Groups = []
    for place in sorted(set(places.tolist())):
        if place >= 0:
            rows = (places == place).nonzero().flatten()
            first, last = int(rows[0]), int(rows[-1])
            found.append((place, slice(first, last + 1) if last - first + 1 == len(rows) else rows))
    return found


def shrink(y: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, scale: float, groups: Groups) -> None:
    """Sets y = scale · x Aᵀ, in y's precision, for each group's rows with its own A."""
    for place, rows in groups:
        own = weights[place].flatten(0, -2).to(y.dtype)
        y[rows, : len(own)] = scale * (x[rows].to(y.dtype) @ own.T)


def expand(
    y: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, groups: Groups, add_inputs: bool = True
) -> None:
    """Adds x Bᵀ to y, or sets y, for each group's rows with its own B; what one has in padding is left."""
    width = min(y.shape[1], weights.shape[-2])
    for place, rows in groups:
        own = weights[place].flatten(0, -2)[:width].to(y.dtype)
        change = x[rows].to(y.dtype) @ own.T
        y[rows, :width] = y[rows, :width] + change if add_inputs else change
