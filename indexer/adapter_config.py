"""What an adapter's configuration says of how its matrices are scaled, read and written canonically.

Per-layer rank and alpha are taken as PEFT and vLLM take them, but for patterns that are regular expressions:
they would be a stranger's, run over every name.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from catalogue.learnware import describe
from indexer.base_models import KnownBase
from indexer.folders import read_object
from indexer.variants import require_lora
from specification.errors import InvalidAdapter, TooLarge

MAX_RANK = 256
MAX_PATTERNS = 1000
"""The engine compares each module with each pattern when it loads an adapter."""
MAX_CONFIG_BYTES = 2**20
Number = TypeVar("Number", int, float)
UNUSED: tuple[object, ...] = (None, False, [], {})
INERT = frozenset(
    {
        "corda_config", "eva_config", "exclude_modules", "inference_mode", "layers_pattern", "layers_to_transform",
        "loftq_config", "lora_dropout", "lora_ga_config", "megatron_core", "peft_version", "qalora_group_size",
        "revision", "runtime_config", "target_modules",
    }
)  # fmt: skip
"""Fields that change nothing once an adapter is trained: the tensors say which modules it adapts."""


def _module_name(key: str) -> str:
    if re.fullmatch(r"\^?[A-Za-z0-9_.]+", key) is None:
        raise ValueError("a regular expression; write the names of modules, or the ends of them")
    return key


Rank = Annotated[int, Field(ge=1, le=MAX_RANK)]
Alpha = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ModuleName = Annotated[str, AfterValidator(_module_name)]


class AdapterConfig(BaseModel):
    """The fields of adapter_config.json that decide what a LoRA adapter computes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    peft_type: Literal["LORA"]
    base_model_name_or_path: Annotated[str, Field(min_length=1, max_length=1000)]
    r: Rank
    lora_alpha: Alpha
    rank_pattern: Annotated[dict[ModuleName, Rank], Field(max_length=MAX_PATTERNS)] = {}
    alpha_pattern: Annotated[dict[ModuleName, Alpha], Field(max_length=MAX_PATTERNS)] = {}
    use_rslora: bool = False
    task_type: Literal["CAUSAL_LM"] = "CAUSAL_LM"

    def scaled(self, module: str) -> "Scaled":
        """Returns the rank and the alpha of a module: those of the first pattern that is its name or ends it."""
        return Scaled(
            _of_module(self.rank_pattern, module, self.r), _of_module(self.alpha_pattern, module, self.lora_alpha)
        )

    def scale(self, module: str) -> float:
        """Returns the constant that a module's update BA is multiplied by."""
        rank, alpha = self.scaled(module)
        return alpha / (rank**0.5 if self.use_rslora else rank)


class Scaled(NamedTuple):
    """What scales a module's update: alpha / rank, or alpha / sqrt(rank) for rsLoRA."""

    rank: int
    alpha: float


def read_config(file: Path) -> AdapterConfig:
    """Reads an adapter's configuration.

    Raises:
        InvalidAdapter: no JSON, another method or variant than LoRA and rsLoRA, or a value that makes no sense.
        TooLarge: more than MAX_CONFIG_BYTES.
    """
    fields = read_object(file, MAX_CONFIG_BYTES)
    # PEFT writes unused options as null, false, or empty lists and objects.
    used = {name: value for name, value in fields.items() if name not in INERT and value not in UNUSED}
    require_lora(used, frozenset(AdapterConfig.model_fields), file)
    try:
        return AdapterConfig.model_validate(used)
    except ValidationError as error:
        raise InvalidAdapter(f"{file}: {describe(error)}") from None


def check_patterns(config: AdapterConfig, base: KnownBase, file: Path) -> None:
    """Checks that every pattern is the name of a module, or the end of one; raises InvalidAdapter."""
    patterns: dict[str, Mapping[str, float]] = {
        "rank_pattern": config.rank_pattern,
        "alpha_pattern": config.alpha_pattern,
    }
    if not any(patterns.values()):
        return
    ends = {end for module in base.modules for end in _ends(module)}
    for field, pattern in patterns.items():
        for key in pattern.keys() - ends:
            raise InvalidAdapter(
                f"{file}: field '{field}' names {key[:120]!r}, which is no linear module of base model "
                f"{base.name}; write the name of one, or the end of it"
            )


def _ends(module: str) -> list[str]:
    """The patterns that mean a module: its name, marked as a whole or not, and each of its ends."""
    parts = module.split(".")
    return [f"^{module}", *(".".join(parts[start:]) for start in range(len(parts)))]


def _of_module(pattern: Mapping[str, Number], module: str, default: Number) -> Number:
    if not pattern:
        return default
    ends = _ends(module)
    return next((value for key, value in pattern.items() if key in ends), default)


def canonical_config(config: AdapterConfig, scaled: Mapping[str, Scaled], file: Path) -> bytes:
    """Returns the one form of all configurations that say the same of these modules, by whatever patterns.

    Raises:
        TooLarge: more modules than MAX_PATTERNS are set apart.
    """
    rank = max(each.rank for each in scaled.values())
    alpha = max(each.alpha for each in scaled.values())
    patterns: dict[str, Mapping[str, float]] = {
        "rank_pattern": {module: each.rank for module, each in scaled.items() if each.rank != rank},
        "alpha_pattern": {module: each.alpha for module, each in scaled.items() if each.alpha != alpha},
    }
    for field, pattern in patterns.items():
        if len(pattern) > MAX_PATTERNS:
            raise TooLarge(
                f"{file}: field '{field}' sets {len(pattern)} modules apart, the limit is {MAX_PATTERNS}"
            )
    fields: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": config.base_model_name_or_path,
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": config.use_rslora,
        "target_modules": sorted({module.rsplit(".", 1)[-1] for module in scaled}),
        "bias": "none",
        "inference_mode": True,
        **{field: pattern for field, pattern in patterns.items() if pattern},
    }
    return json.dumps(fields, indent=1, sort_keys=True).encode()
