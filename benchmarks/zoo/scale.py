"""The zoo's one dial, and what stays the same whatever its setting."""

from dataclasses import dataclass

SEED = 20_26
WEAK, STRONG, GENERALIST = "zoo-weak", "zoo-strong", "zoo-generalist"
BASES = (STRONG, WEAK)
DOMAINS = ("finance", "medical", "math")
HEAD_TOKENS = 64
"""What a text that is too long keeps of its beginning; the rest of the room is for its end."""
ANSWER_TOKENS = 48
"""Tokens of an answer: longer ones are cut in training, and generation ends there."""
TRIAL_SIZES = (16, 32, 64)


@dataclass(frozen=True)
class Shape:
    """A Llama: width, layers, and heads of 64 dimensions each."""

    hidden: int
    layers: int

    @property
    def heads(self) -> int:
        return self.hidden // 64


@dataclass(frozen=True)
class Scale:
    """How much of everything. ``tokens`` are those read in pretraining, repeats counted; ``tuning_steps`` the
    generalist's on all sets and ``adapter_steps`` a good adapter's, see ``texts.tuning_batches``.

    ``sets`` limits the training sets and tasks of a domain, None takes all; ``context`` is in tokens. Of each
    task ``sketch`` prompts make the specification and, with labels, the trial; ``test`` others measure it,
    ``generated`` where answers are generated. ``held_out`` examples of each training set are never trained on.
    """

    name: str
    vocabulary: int
    context: int
    base: Shape
    generalist: Shape
    tokens: dict[str, int]
    tuning_steps: int
    adapter_steps: int
    variants: int
    sets: int | None = None
    sketch: int = 64
    test: int = 128
    generated: int = 48
    held_out: int = 48


TINY = Scale(
    "tiny", 1024, 192, Shape(64, 2), Shape(192, 3), {STRONG: 150_000, WEAK: 30_000, GENERALIST: 100_000}, 20, 20,
    variants=2, sets=2, sketch=32, test=32, generated=8, held_out=32,
)  # fmt: skip
SMALL = Scale(
    "small", 8192, 384, Shape(192, 4), Shape(512, 8),
    {STRONG: 3_500_000, WEAK: 700_000, GENERALIST: 3_500_000}, 1500, 400, variants=4,
)  # fmt: skip
SCALES = {scale.name: scale for scale in (TINY, SMALL)}
