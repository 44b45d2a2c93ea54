"""The exact engine: transformers and PEFT in this process, one request after another.

Slow and simple. It judges vLLM in the tests, and serves where vLLM cannot be installed.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.engine import EVENT_STREAM, Engine, EngineAnswer, Route
from serving.generation import GenerationRequest, Piece, parse_request, pieces
from serving.openai_format import AnswerFormat
from serving.peft_adapters import PeftAdapters
from serving.resolver import StoreResolver
from specification.errors import DockError, EngineError, InvalidInput

# Tokens of the prompt that are decoded along, since some tokenizers drop a space at the very beginning.
DECODE_CONTEXT = 6

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransformersConfig:
    """``model`` is the base model's folder, ``base_model`` its name in the dock, ``store`` the adapters' root."""

    model: Path
    base_model: str
    store: Path
    dtype: str = "float32"
    device: str = "cpu"
    max_adapters: int = 4


class TransformersEngine(Engine):
    """One thread owns the model; requests queue for it."""

    def __init__(self, config: TransformersConfig) -> None:
        self.config = config
        self.base_model = config.base_model
        self._executor: ThreadPoolExecutor | None = None
        self._tokenizer: Any = None
        self._model: Any = None
        self._adapters: PeftAdapters | None = None

    async def start(self) -> None:
        """Loads the base model.

        Raises:
            EngineError: it cannot be loaded.
        """
        executor = ThreadPoolExecutor(1, thread_name_prefix="transformers")
        try:
            await asyncio.get_running_loop().run_in_executor(executor, self._load)
        except (OSError, ValueError) as error:
            executor.shutdown()
            raise EngineError(f"{self.config.model}: the base model cannot be loaded: {error}") from error
        self._executor = executor

    async def stop(self) -> None:
        """Lets the running request end after its current token and drops the model."""
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown, cancel_futures=True)
        self._tokenizer = self._model = self._adapters = None

    async def healthy(self) -> bool:
        """Tells whether the model is loaded."""
        return self._executor is not None

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        """Generates; see ``Engine.post``. Raises InvalidInput for what cannot be honoured."""
        request = parse_request(route, body)
        if self._executor is None:
            raise EngineError("the transformers engine is not running")
        job = _Job(asyncio.get_running_loop())
        self._executor.submit(self._run, job, request)
        try:
            prompt_tokens = await job.prompt_tokens()
            shape = AnswerFormat(route, request, prompt_tokens)
            if request.stream:
                return EngineAnswer(200, EVENT_STREAM, _events(job, shape), job.close)
            whole = shape.whole([piece async for piece in job.pieces()])
        except BaseException:
            job.cancelled.set()
            raise
        return EngineAnswer(200, "application/json", _once(whole))

    def _load(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = str(self.config.model)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, self.config.dtype), local_files_only=True, use_safetensors=True
        )
        self._model = model.to(self.config.device)
        resolver = StoreResolver(self.config.store, self.base_model)
        self._adapters = PeftAdapters(self._model, resolver, self.config.max_adapters)

    def _run(self, job: "_Job", request: GenerationRequest) -> None:
        """Runs in the model's thread: a failure of any kind belongs to this one request."""
        if job.cancelled.is_set():
            return
        try:
            self._generate(job, request)
        except DockError as error:
            job.put(error)
        except Exception as error:
            log.exception("generation failed")
            job.put(EngineError(f"the transformers engine failed: {type(error).__name__}"))

    def _generate(self, job: "_Job", request: GenerationRequest) -> None:
        assert self._adapters is not None
        prompt = self._encode(request)
        limit = self._limit(request, len(prompt))
        with self._adapters.applied(request.model) as model:
            job.put(len(prompt))
            tokens = _tokens(model, prompt, request)
            for piece in pieces(tokens, self._decoder(prompt), request, self._end_tokens(), limit):
                if job.cancelled.is_set():
                    return
                job.put(piece)

    def _encode(self, request: GenerationRequest) -> list[int]:
        if request.messages is not None:
            return self._encode_chat(request.messages)
        prompt = request.prompt
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], str):
            prompt = prompt[0]
        if isinstance(prompt, str):
            return list(self._tokenizer(prompt).input_ids)
        size = self._model.get_input_embeddings().num_embeddings
        ids = [token for token in prompt or [] if isinstance(token, int)]
        if any(not 0 <= token < size for token in ids):
            raise InvalidInput(f"prompt: a token id lies outside 0..{size - 1}")
        return ids

    def _encode_chat(self, messages: list[dict[str, Any]]) -> list[int]:
        from jinja2 import TemplateError

        if not self._tokenizer.chat_template:
            raise InvalidInput(f"base model {self.base_model} has no chat template; use /v1/completions")
        plain = [message | {"content": _plain_text(message.get("content"))} for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
        except TemplateError as error:
            raise InvalidInput(f"messages: the chat template refuses them: {error}") from None
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)

    def _limit(self, request: GenerationRequest, prompt_tokens: int) -> int:
        context = int(self._model.config.max_position_embeddings)
        asked = request.token_limit or context - prompt_tokens
        if prompt_tokens < 1 or asked < 1 or prompt_tokens + asked > context:
            raise InvalidInput(
                f"{prompt_tokens} prompt tokens and {max(asked, 1)} to generate do not fit: "
                f"at least one of each is needed and the context has {context}"
            )
        return asked

    def _decoder(self, prompt: list[int]) -> "_Decoder":
        return _Decoder(self._tokenizer, prompt[-DECODE_CONTEXT:])

    def _end_tokens(self) -> frozenset[int]:
        ends = self._model.generation_config.eos_token_id
        known = [ends] if isinstance(ends, int) else list(ends or ())
        return frozenset([*known, self._tokenizer.eos_token_id]) - {None}


class _Decoder:
    """Decodes generated tokens as the continuation of the prompt's last ones."""

    def __init__(self, tokenizer: Any, context: list[int]) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._offset = len(self._text(context))

    def __call__(self, tokens: Sequence[int]) -> str:
        return self._text([*self._context, *tokens])[self._offset :]

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


class _Job:
    """The way of one request's results from the model's thread to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.cancelled = threading.Event()
        self._loop = loop
        self._queue: asyncio.Queue[int | Piece | DockError] = asyncio.Queue()

    def put(self, item: int | Piece | DockError) -> None:
        """Called in the model's thread: first the prompt's tokens, then pieces, or an error at any time."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    async def prompt_tokens(self) -> int:
        item = await self._queue.get()
        if isinstance(item, DockError):
            raise item
        assert isinstance(item, int)
        return item

    async def pieces(self) -> AsyncIterator[Piece]:
        while True:
            item = await self._queue.get()
            if isinstance(item, DockError):
                raise item
            assert isinstance(item, Piece)
            yield item
            if item.finish is not None:
                return

    async def close(self) -> None:
        self.cancelled.set()


def _tokens(model: Any, prompt: list[int], request: GenerationRequest) -> Iterator[int]:
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
            if temperature == 0:
                token = int(logits.argmax())
            else:
                odds = torch.softmax(logits / max(temperature, 1e-3), -1)
                token = int(torch.multinomial(odds, 1, generator=generator))
        yield token
        fresh, cache = [token], output.past_key_values


async def _events(job: _Job, shape: AnswerFormat) -> AsyncIterator[bytes]:
    yield shape.opening()
    count = 0
    async for piece in job.pieces():
        count += 1
        if piece.text or piece.finish:
            yield shape.part(piece)
    yield shape.closing(count)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _plain_text(content: object) -> str:
    """Returns a message's content as text, parts joined by line breaks.

    Raises:
        InvalidInput: a part is not text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    parts: list[Any] = content if isinstance(content, list) else [None]
    if all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        return "\n".join(str(part.get("text", "")) for part in parts)
    raise InvalidInput("messages: only text content can be read by this engine")
