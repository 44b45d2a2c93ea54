"""The exact engine: transformers and PEFT in this process, one request after another.

Slow and simple. It judges vLLM in the tests, and serves where vLLM cannot be installed.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakSet

from serving.engine import EVENT_STREAM, Engine, EngineAnswer, Route
from serving.generation import GenerationRequest, Piece, PromptRead, parse_request
from serving.loaded_model import LoadedModel, TransformersConfig
from serving.openai_format import AnswerFormat
from specification.errors import DockError, EngineError

__all__ = ["TransformersConfig", "TransformersEngine"]

log = logging.getLogger(__name__)


class TransformersEngine(Engine):
    """One thread owns the model; requests queue for it."""

    def __init__(self, config: TransformersConfig) -> None:
        self.config = config
        self.base_model = config.base_model
        self.max_cpu_loras = config.max_adapters
        self._executor: ThreadPoolExecutor | None = None
        self._model: LoadedModel | None = None
        self._jobs: WeakSet[_Job] = WeakSet()

    async def start(self) -> None:
        """Loads the base model.

        Raises:
            EngineError: it cannot be loaded.
        """
        executor = ThreadPoolExecutor(1, thread_name_prefix="transformers")
        try:
            loading = asyncio.get_running_loop().run_in_executor(executor, LoadedModel, self.config)
            self._model = await loading
        except BaseException:
            executor.shutdown(wait=False)
            raise
        self._executor = executor

    async def stop(self) -> None:
        """Breaks off what is running after its current token and drops the model."""
        executor, self._executor = self._executor, None
        for job in list(self._jobs):
            job.cancelled.set()
            job.put(EngineError("the transformers engine was stopped"))
        if executor is not None:
            await asyncio.to_thread(executor.shutdown)
        self._model = None

    async def healthy(self) -> bool:
        """Tells whether the model is loaded."""
        return self._executor is not None

    async def post(self, route: Route, body: dict[str, object]) -> EngineAnswer:
        """Generates; see ``Engine.post``. Raises InvalidInput for what cannot be honoured."""
        request = parse_request(route, body)
        if self._executor is None:
            raise EngineError("the transformers engine is not running")
        job = _Job(asyncio.get_running_loop())
        self._jobs.add(job)
        self._executor.submit(self._run, job, request)
        try:
            shape = AnswerFormat(route, request, await job.prompt())
            if request.stream:
                return EngineAnswer(200, EVENT_STREAM, _events(job, shape), job.close)
            whole = shape.whole([piece async for piece in job.pieces()])
        except BaseException:
            job.cancelled.set()
            raise
        return EngineAnswer(200, "application/json", _once(whole))

    def _run(self, job: "_Job", request: GenerationRequest) -> None:
        """Runs in the model's thread: a failure of any kind belongs to this one request."""
        if job.cancelled.is_set() or self._model is None:
            return
        try:
            _generate(self._model, job, request)
        except DockError as error:
            job.put(error)
        except Exception as error:
            log.exception("generation failed")
            job.put(EngineError(f"the transformers engine failed: {type(error).__name__}"))


class _Job:
    """The way of one request's results from the model's thread to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.cancelled = threading.Event()
        self._loop = loop
        self._queue: asyncio.Queue[PromptRead | Piece | DockError] = asyncio.Queue()

    def put(self, item: PromptRead | Piece | DockError) -> None:
        """Called in the model's thread: first the prompt, then pieces, or an error at any time."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    async def prompt(self) -> PromptRead:
        item = await self._queue.get()
        if isinstance(item, DockError):
            raise item
        assert isinstance(item, PromptRead)
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


def _generate(model: LoadedModel, job: _Job, request: GenerationRequest) -> None:
    prompt = model.encode(request)
    with model.adapted(request.model) as adapted:
        job.put(model.read(adapted, prompt, request))
        for piece in model.generate(adapted, prompt, request):
            if job.cancelled.is_set():
                return
            job.put(piece)


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
