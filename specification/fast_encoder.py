"""A fast approximation of a sentence encoder, for single texts on a CPU: ONNX Runtime, matrices in eight bits.

It is made once from the encoder's own weights and kept in a cache. Weights are quantized by channel to seven bits,
which eight-bit arithmetic without VNNI needs, activations as they come; the projections that narrow, from a feed-
forward layer back to the model's width, stay in float32, since their inputs have outliers that eight bits lose
(docs/log.md). It stands in for the exact encoder where a prompt meets stored sketches, and makes none itself.
"""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from specification.encoder import EncoderIdentity, Progress, no_progress
from specification.errors import EncoderError
from specification.files import write_atomically
from specification.sentence_encoder import MAX_CHARACTERS_PER_TOKEN, SentenceEncoder

if TYPE_CHECKING:
    pass

FORMAT = 1
OPSET = 17
MIN_COSINE = 0.99
INPUTS = ("input_ids", "attention_mask")
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
    """An approximation with the identity of ``exact``: vectors of both may be compared. See ``Encoder``.

    Open one with ``FastEncoder.open``. Any thread may encode; texts are encoded one by one, without padding.
    """

    def __init__(self, exact: SentenceEncoder, model: Path, threads: int = 1) -> None:
        from onnxruntime import InferenceSession, SessionOptions
        from tokenizers import Tokenizer

        self.identity: EncoderIdentity = exact.identity
        options = SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session: InferenceSession = InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(exact.folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.identity.max_tokens)

    @classmethod
    def open(cls, exact: SentenceEncoder, cache: Path, threads: int = 1) -> Self:
        """Opens the approximation of ``exact`` kept in the folder ``cache``; makes it if there is none.

        Raises:
            EncoderError: the packages for it are missing, the model cannot be converted, or its vectors are not
                near enough to the exact ones, a cosine of MIN_COSINE on every text checked.
        """
        file = cache / f"{exact.identity.weights_sha256[:32]}-{FORMAT}.onnx"
        try:
            return cls._checked(exact, _readable(exact, file), threads)
        except ImportError as error:
            raise EncoderError(
                f"a fast encoder needs 'onnx' and 'onnxruntime' ({error}); run 'make setup'"
            ) from None
        except EncoderError:
            raise
        except Exception as error:
            raise EncoderError(f"no fast encoder of {exact.name!r}: {type(error).__name__}: {error}") from None

    @classmethod
    def _checked(cls, exact: SentenceEncoder, file: Path, threads: int) -> Self:
        made = cls(exact, file, threads)
        cosine = float((made.encode(CHECKED) * exact.encode(CHECKED)).sum(axis=1).min())
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
            tokens = np.array([self._tokenizer.encode(text[:limit]).ids], dtype=np.int64)
            vectors[place] = self._session.run(
                None, dict(zip(INPUTS, (tokens, np.ones_like(tokens)), strict=True))
            )[0]
            progress(place + 1, len(texts))
        if not np.isfinite(vectors).all():
            raise EncoderError(f"the fast encoder of {self.identity.name!r} returned NaN or Inf")
        return vectors


def _readable(exact: SentenceEncoder, file: Path) -> Path:
    """Returns the file, made anew where it is missing or damaged."""
    if file.is_file():
        with contextlib.suppress(Exception):
            FastEncoder(exact, file)
            return file
    write_atomically(file, convert(exact))
    return file


def convert(exact: SentenceEncoder) -> bytes:
    """Returns the quantized ONNX model of an encoder. Takes about a minute of one core."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(prefix="slmdock-encoder-") as folder, _quiet():
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "small.onnx"
        _export(exact, whole)
        quantize_dynamic(
            whole, small, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8, per_channel=True,
            reduce_range=True, nodes_to_exclude=_narrowing(onnx.load(whole)),
        )  # fmt: skip
        return small.read_bytes()


def _export(exact: SentenceEncoder, file: Path) -> None:
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

    tokens = torch.full((2, 16), 5)
    axes = {name: {0: "texts", 1: "tokens"} for name in INPUTS}
    torch.onnx.export(
        Whole().eval(), (tokens, torch.ones_like(tokens)), str(file), input_names=list(INPUTS),
        output_names=["vectors"], dynamic_axes=axes, opset_version=OPSET, dynamo=False,
    )  # fmt: skip


def _narrowing(model: Any) -> list[str]:
    """The names of the products whose constant matrix has more rows than columns."""
    shapes = {weights.name: tuple(weights.dims) for weights in model.graph.initializer}
    products = (node for node in model.graph.node if node.op_type == "MatMul")
    matrices = ((node.name, shapes.get(name, ())) for node in products for name in node.input)
    return [name for name, shape in matrices if len(shape) == 2 and shape[0] > shape[1]]


@contextlib.contextmanager
def _quiet() -> Any:
    """Keeps the converters' advice to developers away from users."""
    root = logging.getLogger()
    drop: Callable[[logging.LogRecord], bool] = lambda record: False  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.addFilter(drop)
        try:
            yield
        finally:
            root.removeFilter(drop)
