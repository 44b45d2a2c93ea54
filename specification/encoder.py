"""The encoder contract: texts to unit vectors, with an identity that decides what may be compared."""

from collections.abc import Callable, Sequence
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from specification.errors import Incomparable

Progress = Callable[[int, int], None]
"""Called with (done, total) while long work goes on."""


def no_progress(done: int, total: int) -> None:
    """Shows nothing."""


class EncoderIdentity(BaseModel):
    """What decides whether two specifications may be compared: the encoder's name, weights and limits.

    ``weights_sha256`` covers the weights and the tokenizer; ``max_tokens`` is where a text is cut.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)]
    dimension: Annotated[int, Field(ge=1, le=65_535)]
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    max_tokens: Annotated[int, Field(ge=1, le=10**9)]

    @property
    def _decisive(self) -> tuple[int, str, int]:
        return self.dimension, self.weights_sha256, self.max_tokens

    def require(self, other: "EncoderIdentity") -> None:
        """Checks that vectors of the two encoders may be compared; the name is only a label.

        Raises:
            Incomparable: they differ in dimension, weights or token limit; both are named.
        """
        if self._decisive != other._decisive:
            raise Incomparable(
                f"made by encoder {other}, but {self} is in use here; "
                "make the specification again with the encoder in use"
            )

    def __str__(self) -> str:
        return f"{self.name} ({self.dimension}-d, {self.max_tokens} tokens, {self.weights_sha256[:12]})"


class Encoder(Protocol):
    """Turns texts into unit vectors. A text's vector does not depend on its batch, up to rounding."""

    @property
    def identity(self) -> EncoderIdentity: ...

    def encode(self, texts: Sequence[str], progress: Progress = no_progress) -> NDArray[np.float32]:
        """Returns float32 of shape [len(texts), dimension], each row of length 1.

        Raises:
            EncoderError: the model fails.
        """
        ...
