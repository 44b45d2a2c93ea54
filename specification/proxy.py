"""The proxy model: a small causal language model that everyone shares, with LoRA on its attention by PEFT.

Only B learns. A is drawn by a seed, the same on every machine, so that the B's of different tasks may be compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from specification.errors import InvalidExamples, ProxyError
from specification.examples import Example
from specification.model_folder import digest_of, find_model, refuse_pickles
from specification.parameter_vector import ProxyIdentity, Recipe

DEFAULT_PROXY = "Qwen/Qwen2.5-0.5B"
DEFAULT_TOKENS = 512
MAX_ROWS = 64
MAX_LOGITS = 2**27
MAX_CHARACTERS_PER_TOKEN = 24


@dataclass(frozen=True)
class Row:
    """Token ids of one example; the loss is over those from ``start`` on."""

    ids: list[int]
    start: int


@dataclass(frozen=True)
class Adapted:
    """The proxy with LoRA, and its B matrices in order of their modules' names, the only weights that learn."""

    model: PeftModel
    matrices: tuple[torch.nn.Parameter, ...]

    @property
    def size(self) -> int:
        """The length p of the flattened B's."""
        return sum(matrix.numel() for matrix in self.matrices)

    def losses(self, rows: Sequence[Row]) -> torch.Tensor:
        """Returns float32 [len(rows)]: each row's mean cross-entropy over its tokens from ``start`` on."""
        # Padding is to the right, so causality keeps it out.
        ids = torch.zeros(len(rows), max(len(row.ids) for row in rows), dtype=torch.long)
        weights = torch.zeros(ids.shape)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
            weights[i, row.start : len(row.ids)] = 1 / (len(row.ids) - row.start)
        logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1]
        each = cross_entropy(logits.transpose(1, 2).float(), ids[:, 1:], reduction="none")
        return (each * weights[:, 1:]).sum(dim=1)


class Proxy:
    """A proxy model, loaded on first use. ``name`` is a folder or a hub id."""

    def __init__(self, name: str = DEFAULT_PROXY, max_tokens: int = DEFAULT_TOKENS) -> None:
        self.name = name
        self._tokens = max_tokens
        self._adapted: tuple[Recipe, Adapted] | None = None

    @cached_property
    def identity(self) -> ProxyIdentity:
        folder = self._folder
        name = folder.absolute().name if folder == Path(self.name) else self.name
        return ProxyIdentity(name=name, weights_sha256=digest_of(folder), max_tokens=self._tokens)

    def adapted(self, recipe: Recipe) -> Adapted:
        """Returns the proxy with a recipe's A and with B = 0; those handed out before are no longer valid.

        Raises:
            ProxyError: the model cannot be loaded, or has no modules of the recipe's names.
        """
        wanted = recipe.model_copy(update={"form": "gradient", "tuning": None})
        if self._adapted is None or self._adapted[0] != wanted:
            self._adapted = wanted, self._adapt(wanted)
        adapted = self._adapted[1]
        with torch.no_grad():
            for matrix in adapted.matrices:
                matrix.zero_()
                matrix.grad = None
        return adapted

    def rows(self, examples: Sequence[Example], answers: bool) -> list[Row]:
        """Returns prompts with answers to predict, or whole texts, as tokens, at most ``max_tokens`` each.

        A prompt is rendered by the tokenizer's chat template if it has one. Of what is too long the answer's
        end and the prompt's beginning are cut.

        Raises:
            InvalidExamples: no example has a token to predict.
        """
        rows = [self._answer(example) if answers else self._text(example) for example in examples]
        rows = [row for row in rows if len(row.ids) > row.start]
        if not rows:
            raise InvalidExamples("no example has a token for the proxy to predict; give longer texts")
        return rows

    def batches(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Yields rows of like length together, as many as memory for their logits allows."""
        size = int(self._model.config.vocab_size)
        batch: list[Row] = []
        for row in sorted(rows, key=lambda row: -len(row.ids)):
            if (batch and (len(batch) + 1) * len(batch[0].ids) * size > MAX_LOGITS) or len(batch) == MAX_ROWS:
                yield batch
                batch = []
            batch.append(row)
        yield batch

    def _answer(self, example: Example) -> Row:
        prompt, answer = f"{self._cut(example.text)}\n", example.answer
        if self._tokenizer.chat_template:
            chat = [{"role": "user", "content": self._cut(example.text)}]
            prompt = str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        special = not self._tokenizer.chat_template
        before = self._ids(prompt, special)
        after = [*self._ids(answer if prompt[-1:].isspace() else f" {answer}"), *self._end]
        after = after[: self._tokens // 2]
        before = before[-(self._tokens - len(after)) :]
        return Row(before + after, max(1, len(before)))

    def _text(self, example: Example) -> Row:
        return Row([*self._ids(self._cut(example.text), True), *self._end][: self._tokens], 1)

    def _ids(self, text: str, special: bool = False) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

    def _cut(self, text: str) -> str:
        return text[-self._tokens * MAX_CHARACTERS_PER_TOKEN :]

    @property
    def _end(self) -> list[int]:
        end = self._tokenizer.eos_token_id
        return [] if end is None else [int(end)]

    @cached_property
    def _folder(self) -> Path:
        folder = find_model(self.name, f"proxy model {self.name!r} is no folder", ProxyError)
        refuse_pickles(folder, f"proxy model {self.name!r}", ProxyError)
        return folder

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise ProxyError(f"proxy model {self.name!r}: its tokenizer cannot be loaded: {error}") from None
        return tokenizer

    @cached_property
    def _model(self) -> PreTrainedModel:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=False, use_safetensors=True,
                dtype=torch.float32,
            )  # fmt: skip
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ProxyError(f"proxy model {self.name!r} cannot be loaded: {error}") from None
        model.eval()  # type: ignore[no-untyped-call]
        model.requires_grad_(False)
        return model

    def _adapt(self, recipe: Recipe) -> Adapted:
        if self._adapted is not None:
            # PEFT works on the model itself, which one recipe at a time may have.
            self.__dict__["_model"] = self._adapted[1].model.unload()
        config = LoraConfig(
            r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules=list(recipe.targets), bias="none",
            lora_dropout=0.0, task_type="CAUSAL_LM",
        )  # fmt: skip
        try:
            with torch.random.fork_rng(devices=[]):
                model = get_peft_model(self._model, config)
        except ValueError as error:
            raise ProxyError(f"proxy model {self.name!r} cannot be adapted: {error}") from None
        parameters = dict(sorted(model.named_parameters()))
        drawn = [value for name, value in parameters.items() if "lora_A" in name]
        matrices = tuple(value for name, value in parameters.items() if "lora_B" in name)
        source = np.random.PCG64(recipe.seed)
        with torch.no_grad():
            for value in drawn:
                value.copy_(_uniform(source, value.shape))
        for value in parameters.values():
            value.requires_grad_(False)
        for matrix in matrices:
            matrix.requires_grad_(True)
        return Adapted(model.eval(), matrices)


def _uniform(source: np.random.PCG64, shape: torch.Size) -> torch.Tensor:
    """Draws A as PEFT would, uniform in ±1/√in, from raw bits, which stay the same with every library version."""
    unit = (source.random_raw(shape.numel()) >> np.uint64(11)) * 2.0**-53
    return torch.from_numpy(((2 * unit - 1) / np.sqrt(shape[-1])).astype(np.float32)).reshape(shape)
