"""Parameter vectors: a task as the change of a small proxy model's LoRA-B weights, and what may be compared.

Source: PAVE in "Learnware of Language Models: Specialized Small Language Models Can Do Big" (arXiv 2505.13425),
with the defaults of its authors' code. The vectors are made in ``specification.proxy_training``; here they are
kept and compared, without a model. Only directions matter, so a vector is scaled to length 1. Gradients can betray
the texts they come from (Zhu et al., "Deep leakage from gradients", NeurIPS 2019): no vector is private.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from specification.errors import Incomparable, InvalidSpecification
from specification.kernel import Floats

PROJECTED = 256
DEFAULT_STEPS = 400
MAX_PARAMETERS = 2**22
NORM_TOLERANCE = 1e-2
TARGETS = ("k_proj", "q_proj", "v_proj")

Form = Literal["gradient", "adaptive", "tuned"]
Positive = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class ProxyIdentity(BaseModel):
    """The proxy model: ``weights_sha256`` covers weights and tokenizer, texts are cut at ``max_tokens``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)]
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    max_tokens: Annotated[int, Field(ge=8, le=2**20)]


class Tuning(BaseModel):
    """Training of B from 0 by AdamW with a cosine schedule, ``batch`` examples a step.

    ``l1`` is the weight of the mean over B matrices of Σ|B| in the loss, ``l2`` the decoupled weight decay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: Annotated[int, Field(ge=1, le=100_000)] = DEFAULT_STEPS
    rate: Positive = 1e-5
    l1: Positive = 1.0
    l2: Positive = 0.5
    batch: Annotated[int, Field(ge=1, le=1024)] = 2


class Recipe(BaseModel):
    """How a vector is made: LoRA of ``rank`` on ``targets``, A drawn by ``seed``, B by one of three forms.

    ``gradient``: the negative mean g of the per-example gradients at B = 0, where gradient descent begins to go.
    ``adaptive``: g / √(mean of squared per-example gradients), value by value, where Adam goes; also one pass.
    ``tuned``: B itself after ``tuning``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: Annotated[tuple[str, ...], Field(min_length=1, max_length=16)] = TARGETS
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    form: Form = "adaptive"
    tuning: Tuning | None = None

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if (self.form == "tuned") != (self.tuning is not None):
            raise ValueError(f"form {self.form!r} {'without' if self.form == 'tuned' else 'with'} tuning")
        return self


class ParameterSection(BaseModel):
    """What is known of a parameter vector; all but name and sample size decides what may be compared.

    ``loss`` says whether answers were predicted from prompts, or whole texts where there are no answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["parameter_vector"] = "parameter_vector"
    proxy: ProxyIdentity
    recipe: Recipe
    loss: Literal["answers", "texts"]
    sample_size: Annotated[int, Field(ge=2, le=10**9)]

    @property
    def space(self) -> str:
        """SHA-256 of what two vectors must share to be compared, in hex."""
        shared = self.proxy.model_dump_json(exclude={"name"}) + self.recipe.model_dump_json() + self.loss
        return hashlib.sha256(shared.encode()).hexdigest()

    def require(self, other: "ParameterSection") -> None:
        """Raises Incomparable unless vectors of the two may be compared; both are named."""
        if self.space != other.space:
            raise Incomparable(
                f"parameter vector made by {other}, but {self} is asked for; make it again in the same way"
            )

    def __str__(self) -> str:
        tuning = self.recipe.tuning
        form = (
            f"tuned for {tuning.steps} steps, rate {tuning.rate:g}, L1 {tuning.l1:g}, L2 {tuning.l2:g}, "
            f"batch {tuning.batch}"
            if tuning
            else self.recipe.form
        )
        proxy, recipe = self.proxy, self.recipe
        return (
            f"proxy {proxy.name} ({proxy.weights_sha256[:12]}, {proxy.max_tokens} tokens), {form}, "
            f"rank {recipe.rank} on {'+'.join(recipe.targets)}, seed {recipe.seed}, loss over {self.loss}"
        )


@dataclass(frozen=True, eq=False)
class ParameterVector:
    """The flattened B's in order of their modules' names, float32 [p] of length 1 with exact float16 values."""

    values: Floats
    section: ParameterSection

    @classmethod
    def of(cls, values: Floats, section: ParameterSection) -> Self:
        """Scales raw values, float32 [p], to length 1.

        Raises:
            InvalidSpecification: over MAX_PARAMETERS values, all zero, NaN or Inf.
        """
        length = float(np.linalg.norm(values.astype(np.float64)))
        if len(values) > MAX_PARAMETERS or not 0 < length < np.inf:
            raise InvalidSpecification(
                f"parameter vector: {len(values)} values (limit {MAX_PARAMETERS}) of length {length:g}; "
                "a zero or infinite one says nothing: choose other examples, a smaller rate or L1 penalty"
            )
        return cls((values / length).astype(np.float16).astype(np.float32), section)

    def cosine(self, other: "ParameterVector") -> float:
        """Returns the cosine with another vector, in [-1, 1].

        Raises:
            Incomparable: made in another way. InvalidSpecification: of another length.
        """
        self.section.require(other.section)
        if self.values.shape != other.values.shape:
            raise InvalidSpecification(f"parameter vectors of {len(self.values)} != {len(other.values)} values")
        lengths = np.linalg.norm(self.values) * np.linalg.norm(other.values)
        return float(np.clip(self.values @ other.values / lengths, -1, 1))

    @property
    def projection(self) -> Floats:
        """The catalogue's vector, float32 [PROJECTED] of length 1: the count sketch.

        Inner products are kept without bias, with a standard error of about 1/√PROJECTED (Charikar et al.,
        ICALP 2002; Weinberger et al., ICML 2009). Buckets and signs are drawn by ``section.space``, so vectors
        that may not be compared come out nearly orthogonal and need no index of their own.
        """
        drawn = np.random.PCG64(int(self.section.space, 16)).random_raw(len(self.values))
        signs = np.where(drawn >> np.uint64(63), 1.0, -1.0)
        buckets = (drawn % np.uint64(PROJECTED)).astype(np.int64)
        sketch = np.bincount(buckets, weights=signs * self.values, minlength=PROJECTED)
        return (sketch / max(float(np.linalg.norm(sketch)), 1e-12)).astype(np.float32)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Returns what the file holds."""
        return {"vector": self.values.astype("<f2")}

    @classmethod
    def read(cls, section: ParameterSection, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Checks what a file holds.

        Raises:
            InvalidSpecification: no vector, too long a one, NaN, Inf or not of length 1.
        """
        values = tensors["vector"].astype(np.float32)
        if values.ndim != 1 or not 1 <= len(values) <= MAX_PARAMETERS:
            raise InvalidSpecification(
                f"specification: 'parameters.vector' {values.shape} != [p] with p from 1 to {MAX_PARAMETERS}"
            )
        # A signalling NaN is invalid to a processor, and to the check below.
        with np.errstate(invalid="ignore"):
            length = float(np.linalg.norm(values.astype(np.float64)))
        if not abs(length - 1) <= NORM_TOLERANCE:
            raise InvalidSpecification(f"specification: 'parameters.vector' has length {length:g}, not 1")
        return cls(values, section)
