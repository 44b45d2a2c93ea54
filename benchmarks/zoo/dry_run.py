"""The paper's configuration tried as far as it goes without a hub and a GPU: sizes, tokens, memory and hours.

Models are built without their weights, so that parameters are counted and not typed in.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

from peft import LoraConfig, get_peft_model

from benchmarks.zoo.hub import BASES, LARGE, STANDS_FOR, Base
from benchmarks.zoo.recipes import Recipe, recipes
from benchmarks.zoo.scale import SMALL
from benchmarks.zoo.texts import domains, read_sets
from benchmarks.zoo.training import TARGETS
from indexer.base_models import empty_model
from serving.base_size import read_base_size
from serving.gpu_plan import BATCHED_TOKENS, GIB, SEQUENCES, GpuPlan, GpuWishes, plan_gpu
from serving.vllm_options import VllmConfig, command
from specification import Example, read_examples

PAPER = replace(SMALL, name="paper", adapter_steps=1250)
EXAMPLES_A_STEP = 16
"""What an optimizer step is assumed to see there."""
RATE_SHARE = 0.1
"""Of the small scale's learning rates, which are for models some thousand times smaller. Assumed."""
GPU_BYTES, GPU_FLOPS = 80 * GIB, 312e12
"""An A100 with 80 GiB and its peak in bfloat16 without sparsity, by its data sheet."""
GPU_SHARE = 0.9
HOST_BYTES = 32 * GIB
MAX_MODEL_LEN = 8192
UTILISATION = 0.4
"""Share of the peak that training and reading reach. Assumed."""
TRAINING, READING = 4, 2
"""FLOPs a parameter and token: 2 forward, 2 back to the inputs; gradients of frozen weights, 2 more, fall away."""
BYTES_A_TOKEN = 4


@dataclass(frozen=True)
class Amount:
    """Examples of some files and their estimated tokens, answers included."""

    examples: int
    tokens: float

    @classmethod
    def of(cls, examples: Iterable[Example]) -> "Amount":
        """Counts a token a digit, and one for BYTES_A_TOKEN bytes of everything else."""
        texts = [each.text + each.answer for each in examples]
        digits = sum(text.count(digit) for text in texts for digit in "0123456789")
        others = sum(len(text.encode()) for text in texts) - digits
        return cls(len(texts), digits + others / BYTES_A_TOKEN)

    @classmethod
    def total(cls, parts: Iterable["Amount"]) -> "Amount":
        every = list(parts)
        return cls(sum(each.examples for each in every), sum(each.tokens for each in every))


@dataclass(frozen=True)
class Sizes:
    """What a base model takes: its parameters, an adapter's, and the plan of a GPU that serves it."""

    parameters: int
    adapter_parameters: int
    gpu: GpuPlan


@dataclass(frozen=True)
class Work:
    """A piece of work on one model, in tokens, and the FLOPs that each costs a parameter."""

    name: str
    parameters: float
    tokens: float
    flops: int

    @property
    def hours(self) -> float:
        """GPU hours at what is assumed to be reached of the peak."""
        return self.flops * self.parameters * self.tokens / (GPU_FLOPS * UTILISATION) / 3600


@dataclass(frozen=True)
class DryRun:
    """Everything found: training sets by key, user tasks by domain and name, recipes and sizes by base model."""

    trained: dict[str, Amount]
    users: dict[str, dict[str, Amount]]
    recipes: dict[str, list[Recipe]]
    sizes: dict[str, Sizes]

    @property
    def adapters(self) -> list[Recipe]:
        return [each for made in self.recipes.values() for each in made]

    @property
    def rank(self) -> int:
        return max(each.rank for each in self.adapters)

    def work(self) -> list[Work]:
        """Returns the training of the adapters, and the reading of every task by every model."""
        asked = Amount.total(each for tasks in self.users.values() for each in tasks.values()).tokens
        found = [
            Work(f"train {len(made)} adapters of {hub}", self.sizes[hub].parameters, self._seen(made), TRAINING)
            for hub, made in self.recipes.items()
            if made
        ]
        for hub, made in self.recipes.items():
            name = f"{hub} and {len(made)} adapters read all tasks" if made else f"{hub} reads all tasks"
            found.append(Work(name, self.sizes[hub].parameters, (1 + len(made)) * asked, READING))
        return found + [Work(f"{each.hub} reads all tasks", each.parameters, asked, READING) for each in LARGE]

    def _seen(self, made: Iterable[Recipe]) -> float:
        parts = ((each.steps, Amount.total(self.trained[key] for key in each.sets)) for each in made)
        return sum(EXAMPLES_A_STEP * steps * part.tokens / part.examples for steps, part in parts)


def dry_run(data: Path) -> DryRun:
    """Reads the data, makes the recipes and measures the models; ends the program where a folder is missing.

    Raises:
        InvalidInput: a domain has no training set with enough examples, or a file cannot be read.
    """
    sets = read_sets(data, PAPER)
    users = {
        domain.name: {name: Amount.of(read_examples(path)) for name, path in domain.user.items()}
        for domain in domains(data)
    }
    made = [replace(each, rate=each.rate * RATE_SHARE) for each in recipes(sets, PAPER)]
    on = {base.hub: [each for each in made if STANDS_FOR[each.base] == base] for base in BASES}
    rank = max(each.rank for each in made)
    return DryRun(
        trained={each.key: Amount.of(each.train) for each in sets},
        users=users,
        recipes=on,
        sizes={base.hub: measure(base, rank, len(on[base.hub])) for base in BASES},
    )


def measure(base: Base, rank: int, adapters: int) -> Sizes:
    """Builds a base model and an adapter without memory for their weights, and plans its GPU."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        base.config.save_pretrained(folder)
        model = empty_model(folder)
        size, _ = read_base_size(folder, "bfloat16")
    parameters = model.num_parameters()
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    adapted = get_peft_model(model, settings, low_cpu_mem_usage=True)
    trained = sum(each.numel() for each in adapted.parameters() if each.requires_grad)
    wishes = GpuWishes(rank, GPU_BYTES, HOST_BYTES, GPU_SHARE, MAX_MODEL_LEN, adapters=adapters)
    return Sizes(parameters, trained, plan_gpu(size, wishes))


def gpus_for(parameters: float) -> int:
    """Returns how many GPUs hold a model's weights in 16 bits, with nothing beside them."""
    return ceil(2 * parameters / (GPU_SHARE * GPU_BYTES))


def vllm_command(base: str, gpu: GpuPlan) -> list[str]:
    """Returns how the dock would start vLLM for a base model where there is a GPU."""
    extra = {
        "--gpu-memory-utilization": gpu.utilization, "--max-num-seqs": SEQUENCES,
        "--max-num-batched-tokens": BATCHED_TOKENS,
    }  # fmt: skip
    config = VllmConfig(
        Path("/models", base), base, Path("/dock/store"), Path("/dock/vllm.log"), gpu.max_loras, gpu.max_cpu_loras,
        gpu.max_lora_rank, gpu.max_model_len, "bfloat16",
        extra=tuple(str(word) for pair in extra.items() for word in pair),
    )  # fmt: skip
    _, *words = command(config, Path("/dock/vllm.sock"))
    # The switch is of vLLM's CPU build alone.
    return ["python", *(word for word in words if word != "--enforce-eager")]
