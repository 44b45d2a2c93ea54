"""A faster form of a sentence encoder, for single texts on a CPU: the same weights, compiled by OpenVINO.

Where the processor multiplies matrices in bfloat16, as those with AMX do, OpenVINO does; elsewhere it stays in
float32. Its vectors are not the exact ones to the last digit (cosine .9999 in bfloat16, docs/log.md), so it stands
in for the exact encoder only where a prompt meets stored sketches, and makes none itself.
"""

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from specification.encoder import EncoderIdentity, Progress, no_progress
from specification.errors import EncoderError
from specification.sentence_encoder import MAX_CHARACTERS_PER_TOKEN, SentenceEncoder

MIN_COSINE = 0.999
STEP = 16
CHECKED = (
    "How long do I cook the rice?",
    "The tenant shall give notice in writing not later than three months before the end of the lease.",
    "Solve for x: 3x + 7 = 22.\nShow every step.",
    "What is the sentiment of this news? Shares of the company fell by 12 % after its outlook was lowered. "
    "Answer with one of: negative, neutral, positive.",
    "Eine Patientin, 54 Jahre, klagt über Fieber und Husten. Which of the following is the likeliest diagnosis?\n"
    "A) pneumonia\nB) asthma\nC) fracture\nD) none of these",
    "def add(a, b):\n    return a + b  # explain this function, please",
)


class FastEncoder:
    """A faster form with the identity of ``exact``: vectors of both may be compared. See ``Encoder``.

    Make one with ``FastEncoder.of``. Any thread may encode. Texts are encoded one by one, padded to a multiple
    of STEP tokens, since a length that OpenVINO has not met costs as much again as encoding.
    """

    def __init__(self, exact: SentenceEncoder, threads: int = 1) -> None:
        from tokenizers import Tokenizer

        self.identity: EncoderIdentity = exact.identity
        self._model = _compiled(exact, threads)
        self._tokenizer = Tokenizer.from_file(str(exact.folder / "tokenizer.json"))
        padding = self._tokenizer.padding
        if padding is not None and self.identity.max_tokens % STEP == 0:
            self._tokenizer.enable_padding(**padding | {"length": None, "pad_to_multiple_of": STEP})
        else:
            self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.identity.max_tokens)
        # A compiled model computes for one caller at a time.
        self._lock = threading.Lock()

    @classmethod
    def of(cls, exact: SentenceEncoder, threads: int = 1) -> Self:
        """Compiles the fast form of ``exact`` for this processor, which takes a second or two.

        Raises:
            EncoderError: OpenVINO is missing or cannot compile the model, or its vectors are not near enough to
                the exact ones, a cosine of MIN_COSINE on every text checked.
        """
        try:
            made = cls(exact, threads)
            for length in range(STEP, exact.identity.max_tokens + 1, STEP):
                made._vector(np.ones((2, 1, length), dtype=np.int64))
            cosine = float((made.encode(CHECKED) * exact.encode(CHECKED)).sum(axis=1).min())
        except ImportError as error:
            raise EncoderError(f"a fast encoder needs 'openvino' ({error}); run 'make setup'") from None
        except EncoderError:
            raise
        except Exception as error:
            raise EncoderError(f"no fast encoder of {exact.name!r}: {type(error).__name__}: {error}") from None
        if not cosine >= MIN_COSINE:
            raise EncoderError(
                f"the fast encoder of {exact.name!r} has a cosine of {cosine:.4f} to the exact one, less than "
                f"{MIN_COSINE}; the exact one is used"
            )
        return made

    def encode(self, texts: Sequence[str], progress: Progress = no_progress) -> NDArray[np.float32]:
        """See ``Encoder.encode``."""
        vectors = np.empty((len(texts), self.identity.dimension), dtype=np.float32)
        limit = self.identity.max_tokens * MAX_CHARACTERS_PER_TOKEN
        for place, text in enumerate(texts):
            read = self._tokenizer.encode(text[:limit])
            vectors[place] = self._vector(np.array([[read.ids], [read.attention_mask]], dtype=np.int64))
            progress(place + 1, len(texts))
        if not np.isfinite(vectors).all():
            raise EncoderError(f"the fast encoder of {self.identity.name!r} returned NaN or Inf")
        return vectors

    def _vector(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns float32 [dimension] for token ids and mask, [2, 1, length]."""
        with self._lock:
            vector: NDArray[np.float32] = self._model([tokens[0], tokens[1]])[0][0].copy()
        return vector


def _compiled(exact: SentenceEncoder, threads: int) -> Any:
    """Returns the encoder, from token ids and mask [1, tokens] int64 to unit vectors [1, dimension] float32."""
    # OpenVINO reports its use to its makers, over the network, wherever it finds this package.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(exact.folder), device="cpu", local_files_only=True, trust_remote_code=False,
        model_kwargs={"use_safetensors": True, "attn_implementation": "eager"},
    ).eval()  # fmt: skip

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            found = self.model({"input_ids": input_ids, "attention_mask": attention_mask})
            return torch.nn.functional.normalize(found["sentence_embedding"], dim=1)

    tokens = torch.full((1, 16), 5)
    shape = openvino.PartialShape([1, -1])
    with _quiet():
        whole = openvino.convert_model(
            Whole().eval(), example_input=(tokens, torch.ones_like(tokens)), input=[shape, shape]
        )
    # Pinned to a core, its thread waits for whoever is busy there: a second a prompt beside vLLM (docs/log.md).
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    return openvino.Core().compile_model(whole, "CPU", settings)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the tracer's advice to developers away from users."""
    talking = [logging.getLogger(name) for name in (None, "transformers.modeling_utils")]

    def drop(record: logging.LogRecord) -> bool:
        return False

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in talking:
            logger.addFilter(drop)
        try:
            yield
        finally:
            for logger in talking:
                logger.removeFilter(drop)
