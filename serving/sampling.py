"""Drawing tokens from a causal language model one after another, and the likelihood of a given one."""

from collections.abc import Iterator
from typing import Any

from serving.generation import GenerationRequest


def sample_tokens(model: Any, prompt: list[int], request: GenerationRequest) -> Iterator[int]:
    """Yields tokens without end: the likeliest at temperature 0, otherwise drawn by the request's seed."""
    import torch

    generator = torch.Generator(device=model.device)
    if request.seed is None:
        generator.seed()
    else:
        generator.manual_seed(request.seed % 2**63)
    temperature = 1.0 if request.temperature is None else request.temperature
    fresh, cache = prompt, None
    while True:
        with torch.inference_mode():
            output = model(
                input_ids=torch.tensor([fresh], device=model.device), past_key_values=cache, use_cache=True
            )
            logits = output.logits[0, -1].float()
            if request.forced is not None:
                token = request.forced
            elif temperature == 0:
                token = int(logits.argmax())
            else:
                odds = torch.softmax(logits / max(temperature, 1e-3), -1)
                token = int(torch.multinomial(odds, 1, generator=generator))
        yield token
        fresh, cache = [token], output.past_key_values


def next_logprob(model: Any, prompt: list[int], token: int) -> float:
    """Returns the log-probability, in nats, that ``token`` follows the prompt."""
    import torch

    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt], device=model.device)).logits[0, -1].float()
        return float(torch.log_softmax(logits, -1)[token])
