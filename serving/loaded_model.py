"""A base model in memory with its tokenizer and adapters: requests in, pieces of text out. No threads."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.generation import GenerationRequest, Piece, PromptRead, pieces
from serving.peft_adapters import PeftAdapters
from serving.resolver import StoreResolver
from serving.sampling import next_logprob, sample_tokens
from serving.text_codec import TextCodec
from specification.errors import EngineError, InvalidInput


@dataclass(frozen=True)
class TransformersConfig:
    """``model`` is the base model's folder, ``base_model`` its name in the dock, ``store`` the adapters' root."""

    model: Path
    base_model: str
    store: Path
    dtype: str = "float32"
    device: str = "cpu"
    max_adapters: int = 4


class LoadedModel:
    """Not safe for threads."""

    def __init__(self, config: TransformersConfig) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = str(config.model)
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=config.dtype, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise EngineError(f"{folder}: the base model cannot be loaded: {error}") from error
        self._codec = TextCodec(tokenizer, config.base_model, model.get_input_embeddings().num_embeddings)
        self._context = int(model.config.max_position_embeddings)
        self._end_tokens = _end_tokens(model, tokenizer)
        resolver = StoreResolver(config.store, config.base_model)
        self._adapters = PeftAdapters(model.to(config.device), resolver, config.max_adapters)

    def encode(self, request: GenerationRequest) -> list[int]:
        """Returns the prompt's tokens.

        Raises:
            InvalidInput: it cannot be encoded, or does not fit the context with what is to be generated.
        """
        prompt = self._codec.encode(request)
        self._codec.check([] if request.forced is None else [request.forced], "allowed_token_ids")
        asked = self._limit(request, prompt)
        if not prompt or asked < 1 or len(prompt) + asked > self._context:
            raise InvalidInput(
                f"{len(prompt)} prompt tokens and {max(asked, 1)} to generate do not fit: "
                f"at least one of each is needed and the context has {self._context}"
            )
        return prompt

    def adapted(self, name: str) -> AbstractContextManager[Any]:
        """Gives the model under an engine name; see ``PeftAdapters.applied``."""
        return self._adapters.applied(name)

    def read(self, model: Any, prompt: list[int], request: GenerationRequest) -> PromptRead:
        """Reads the prompt with what ``adapted`` gave, as far as the request wants to know about it."""
        if request.forced is None or not request.wants_logprob:
            return PromptRead(tuple(prompt))
        return PromptRead(tuple(prompt), next_logprob(model, prompt, request.forced))

    def generate(self, model: Any, prompt: list[int], request: GenerationRequest) -> Iterator[Piece]:
        """Generates with what ``adapted`` gave, while it is still applied."""
        tokens = sample_tokens(model, prompt, request)
        limit = self._limit(request, prompt)
        return pieces(tokens, self._codec.decoder(prompt), request, self._end_tokens, limit)

    def _limit(self, request: GenerationRequest, prompt: list[int]) -> int:
        return request.token_limit or self._context - len(prompt)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    ends = model.generation_config.eos_token_id
    known = [ends] if isinstance(ends, int) else list(ends or ())
    return frozenset([*known, tokenizer.eos_token_id]) - {None}
