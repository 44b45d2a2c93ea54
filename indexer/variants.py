"""What PEFT saves besides LoRA as the engine computes it: each is refused by the name that people call it.

The engine is vLLM, whose ``PEFTHelper`` refuses most of it too; the rest it would pass over in silence.
"""

from collections.abc import Mapping
from pathlib import Path

from catalogue.learnware import short
from specification.errors import InvalidAdapter

METHODS = {
    "ADALORA": "AdaLoRA", "ADAPTION_PROMPT": "LLaMA-Adapter", "BOFT": "BOFT", "C3A": "C3A", "DELORA": "DeLoRA",
    "FOURIERFT": "FourierFT", "HIRA": "HiRA", "HRA": "HRA", "IA3": "(IA)³", "LN_TUNING": "layer norm tuning",
    "LOHA": "LoHa", "LOKR": "LoKr", "MISS": "MiSS", "OFT": "OFT", "P_TUNING": "P-tuning",
    "PREFIX_TUNING": "prefix tuning", "PROMPT_TUNING": "prompt tuning", "RANDLORA": "RandLoRA", "ROAD": "RoAd",
    "SHIRA": "SHiRA", "TRAINABLE_TOKENS": "trained tokens", "VBLORA": "VB-LoRA", "VERA": "VeRA",
    "XLORA": "X-LoRA",
}  # fmt: skip
VARIANTS = {
    "alora_invocation_tokens": "aLoRA (activated LoRA)",
    "arrow_config": "Arrow routing between adapters",
    "auto_mapping": "classes of its own, as PEFT writes where no task_type was given (save it with CAUSAL_LM)",
    "bias": "trained biases",
    "ensure_weight_tying": "trained embeddings tied to the head",
    "fan_in_fan_out": "transposed weights (Conv1D)",
    "kasa_config": "KaSA",
    "layer_replication": "layers used more than once",
    "lora_bias": "biases beside LoRA's matrices",
    "megatron_config": "Megatron's parallel layers",
    "modules_to_save": "modules trained in full",
    "monteclora_config": "MonteCLoRA",
    "target_parameters": "LoRA on single parameters",
    "trainable_token_indices": "trained embeddings of single tokens",
    "use_bdlora": "BD-LoRA (block-diagonal)",
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "velora_config": "VeLoRA",
}
INITIALISATIONS = {"corda": "CorDA", "loftq": "LoftQ", "olora": "OLoRA", "pissa": "PiSSA"}
"""Ways to begin that change the base model's weights too, so that the adapter alone is half of the change."""
PLAIN_INITIALISATIONS = (True, "gaussian", "eva", "orthogonal", "mica", "lora_ga")
TENSORS = {
    ".lora_embedding_": "trained embeddings",
    ".lora_magnitude_vector": "DoRA",
    ".lora_B.bias": "biases beside LoRA's matrices",
    ".token_adapter.": "trained embeddings of single tokens",
    ".embed_tokens.": "trained embeddings",
    ".lm_head.": "a trained head",
    ".hada_": "LoHa",
    ".ia3_": "(IA)³",
    ".lokr_": "LoKr",
    ".bias": "trained biases",
    ".weight": "modules trained in full",
}
"""Parts of the names of tensors that are none of LoRA's matrices, the first that is found counts."""
CURE = "; taken are LoRA and rsLoRA: train it as one of them, or merge it into its base and submit the whole model"
NOT_SERVED = "which the serving engine does not support"


def require_lora(fields: Mapping[str, object], known: frozenset[str], file: Path) -> None:
    """Checks the fields of an adapter's configuration that are in use; ``known`` are those that LoRA itself has.

    Raises:
        InvalidAdapter: another method, or a variant of LoRA, by its name.
    """
    method = fields.get("peft_type")
    if isinstance(method, str) and method != "LORA":
        name = METHODS.get(method, "another method than LoRA")
        raise InvalidAdapter(
            f"{file}: field 'peft_type' asks for {name}, {NOT_SERVED} (got {short(method)}){CURE}"
        )
    for field in sorted(fields.keys() - known):
        value = fields[field]
        if (field, value) == ("bias", "none") or (field == "init_lora_weights" and value in PLAIN_INITIALISATIONS):
            continue
        what = _started(value) if field == "init_lora_weights" else VARIANTS.get(field, "a LoRA variant")
        raise InvalidAdapter(
            f"{file}: field '{field[:80]}' asks for {what}, {NOT_SERVED} (got {short(value)}){CURE}"
        )


def whose_tensor(name: str) -> str:
    """Returns the name of the variant that a tensor belongs to, empty for none that is known."""
    return next((variant for part, variant in TENSORS.items() if part in name), "")


def _started(way: object) -> str:
    name = INITIALISATIONS.get(str(way).split("_")[0].lower(), "a start of its own")
    return (
        f"{name}, whose change of the base model's own weights is not in the adapter (convert it by PEFT's "
        "path_initial_model_for_weight_conversion)"
    )
