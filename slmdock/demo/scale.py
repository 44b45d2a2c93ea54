"""The demo's one dial, and everything that stays fixed whatever its setting."""

from dataclasses import dataclass

from slmdock.demo.texts import LEARNWARE_TASKS

DEMO_BASE = "slmdock-demo-base"
SEED = 20_26
VOCABULARY = 2048
HIDDEN, LAYERS, HEADS, FEED_FORWARD = 128, 4, 4, 352
CONTEXT = 512
RANKS = {"healthcare-triage": 4, "finance-customer-intent": 4, "mathematics-small-sums": 16}
DEFAULT_RANK = 8
BASE_RATE = ADAPTER_RATE = 4e-3
TEXT_WEIGHT = 0.15
NOISE = 0.1
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
EXAMPLES_KEPT = 300
SETTINGS: dict[str, object] = {
    "seed": SEED,
    "shape": [VOCABULARY, HIDDEN, LAYERS, HEADS, FEED_FORWARD, CONTEXT],
    "ranks": [DEFAULT_RANK, RANKS],
    "rates": [BASE_RATE, ADAPTER_RATE, TEXT_WEIGHT, NOISE],
    "targets": TARGETS,
}
"""What a build depends on besides its scale and the texts."""


@dataclass(frozen=True)
class Scale:
    """How much training: optimizer steps of the base and of each adapter, sequences a step, which learnwares."""

    name: str
    base_steps: int
    adapter_steps: int
    base_batch: int = 48
    adapter_batch: int = 32
    tasks: tuple[str, ...] = tuple(LEARNWARE_TASKS)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole build."""
        return self.base_steps + self.adapter_steps * len(self.tasks)


FULL = Scale("full", base_steps=1300, adapter_steps=150)
TINY = Scale("tiny", base_steps=60, adapter_steps=12, base_batch=16, adapter_batch=16)
SCALES = {scale.name: scale for scale in (FULL, TINY)}
