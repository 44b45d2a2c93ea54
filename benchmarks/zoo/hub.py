"""The paper's configuration by name: base models, the large models it compares with, training sets, user tasks.

Hub ids are those of the paper's public code (Learnware-LAMDA/Learnware, ``examples/dataset_llm_workflow``), which
loads the Llama models from copies; shapes are those of the models' public ``config.json``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from transformers import LlamaConfig, Qwen2Config

from benchmarks.zoo.scale import STRONG, WEAK


@dataclass(frozen=True)
class Base:
    """A base model by its hub id, and the shape of its public config.json."""

    hub: str
    kind: type[LlamaConfig] | type[Qwen2Config]
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    context: int = 131_072

    @property
    def config(self) -> LlamaConfig | Qwen2Config:
        return self.kind(
            vocab_size=self.vocabulary, hidden_size=self.hidden, intermediate_size=self.intermediate,
            num_hidden_layers=self.layers, num_attention_heads=self.heads, num_key_value_heads=self.kv_heads,
            max_position_embeddings=self.context, tie_word_embeddings=False,
        )  # fmt: skip


@dataclass(frozen=True)
class Large:
    """A model that the paper compares with; parameters as its name says."""

    hub: str
    parameters: float


QWEN = Base("Qwen/Qwen2.5-7B", Qwen2Config, 152_064, 3584, 18_944, 28, 28, 4)
LLAMA = Base("meta-llama/Llama-3.1-8B", LlamaConfig, 128_256, 4096, 14_336, 32, 32, 8)
INSTRUCT = replace(LLAMA, hub="meta-llama/Llama-3.1-8B-Instruct")
BASES = (QWEN, LLAMA, INSTRUCT)
STANDS_FOR = {STRONG: QWEN, WEAK: LLAMA}
LARGE = (
    Large("Qwen/Qwen1.5-110B", 110e9), Large("Qwen/Qwen2.5-72B", 72e9),
    Large("meta-llama/Llama-3.1-70B-Instruct", 70e9),
)  # fmt: skip

FLARE = {
    **{name: f"ChanceFocus/flare-{name}" for name in ("australian", "fiqasa", "german", "headlines", "ner")},
    "cra_lendingclub": "ChanceFocus/cra-lendingclub", "fpb": "ChanceFocus/en-fpb",
    "sm_acl": "ChanceFocus/flare-sm-acl", "sm_bigdata": "TheFinAI/en-forecasting-bigdata",
    "sm_cikm": "ChanceFocus/flare-sm-cikm",
}  # fmt: skip
TRAINING_SETS: Mapping[str, Mapping[str, str]] = {
    "finance": FLARE,
    "medical": {
        "AlpaCare": "lavita/AlpaCare-MedInstruct-52k", "ChatDoctor": "lavita/ChatDoctor-HealthCareMagic-100k",
        "chatdoctor_5k": "LinhDuong/chatdoctor-5k", "medmcqa_train": "chenhaodev/medmcqa_instruct",
        "medqa_train": "medalpaca/medical_meadow_medqa",
        "pubmed_causal": "medalpaca/medical_meadow_pubmed_causal",
        **{
            f"meadow_{name}": f"medalpaca/medical_meadow_{name}"
            for name in (
                "health_advice", "medical_flashcards", "mediqa", "wikidoc", "wikidoc_patient_information",
            )
        },
    },
    "math": {
        "Arithmo-Data": "akjindal53244/Arithmo-Data", "GSM8K_zh": "meta-math/GSM8K_zh",
        "MATH_train": "ScalableMath/MATH_train-cleaned_processed", "MathInstruct": "TIGER-Lab/MathInstruct",
        "MetaMath-GSM240K": "fxmeng/MetaMath-GSM240K", "MetaMathQA": "meta-math/MetaMathQA",
        "MWP-Instruct": "Macropodus/MWP-Instruct", "school_math_0.25M": "BelleGroup/school_math_0.25M",
        "orca-math-word-problems-200k": "microsoft/orca-math-word-problems-200k",
    },
}  # fmt: skip
"""Hub ids by the name of a file of DIR; combined sets are made of these."""


def _parts(hub: str, *names: str, prefix: str = "") -> dict[str, str]:
    return {prefix + name: f"{hub},{name}" for name in names}


USER_TASKS: Mapping[str, Mapping[str, str]] = {
    "finance": FLARE | {
        name: f"ChanceFocus/flare-{name.replace('_', '-')}"
        for name in ("causal20_sc", "finarg_ecc_arc", "finarg_ecc_auc", "fomc", "ma", "mlesg", "multifin_en")
    },
    "medical": {
        "medmcqa": "openlifescienceai/medmcqa", "medqa_4options": "GBaker/MedQA-USMLE-4-options-hf",
        "pubmedqa": "bigbio/pubmed_qa,pubmed_qa_labeled_fold0_source",
        **_parts(
            "hails/mmlu_no_train", "anatomy", "clinical_knowledge", "college_biology", "college_medicine",
            "medical_genetics", "professional_medicine",
        ),
    },
    "math": {
        **{
            f"agieval_{name}": f"hails/agieval-{name.replace('_', '-')}"
            for name in ("aqua_rat", "gaokao_mathcloze", "gaokao_mathqa", "math", "sat_math")
        },
        **_parts(
            "haonan-li/cmmlu", "college_mathematics", "elementary_mathematics", "high_school_mathematics",
            prefix="cmmlu_",
        ),
        **_parts(
            "hails/mmlu_no_train", "abstract_algebra", "college_mathematics", "elementary_mathematics",
            "high_school_mathematics",
        ),
        "gsm8k": "gsm8k,main", "mathqa": "allenai/math_qa", "mgsm_native_cot_zh": "juletxara/mgsm,zh",
        "minerva_math": "lighteval/MATH,all",
    },
}  # fmt: skip
"""Hub ids, and behind a comma the part, by the name of a file of DIR."""
