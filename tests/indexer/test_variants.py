"""Adapters of every kind that the installed PEFT saves: taken as the engine computes them, or refused by name."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

from indexer import BaseModels, read_adapter
from indexer.adapter_config import MAX_PATTERNS
from specification.errors import InvalidAdapter, TooLarge
from tests.serving import tiny

CONFIG = "adapter_config.json"
ATTENTION = ["q_proj", "v_proj"]
LAYER_1 = "model.layers.1.self_attn.q_proj"


def lora(**fields: Any) -> LoraConfig:
    plain: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION, "task_type": "CAUSAL_LM"}
    plain.update(fields)
    return LoraConfig(**plain)


def saved(base: Path, folder: Path, config: PeftConfig, seed: int = 0) -> Path:
    with warnings.catch_warnings():
        # PEFT warns of some of its own methods.
        warnings.simplefilter("ignore")
        return tiny.build_peft(base, folder, config, seed)


def loaded(base: Path, folder: Path) -> PeftModel:
    with warnings.catch_warnings():
        # It makes matrices that do nothing for modules of the same name in layers that were not adapted.
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder))


METHODS: dict[str, Callable[[], PeftConfig]] = {
    r"\(IA\)³": lambda: peft.IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "LoHa": lambda: peft.LoHaConfig(target_modules=ATTENTION),
    "LoKr": lambda: peft.LoKrConfig(target_modules=ATTENTION),
    "OFT": lambda: peft.OFTConfig(target_modules=ATTENTION, oft_block_size=8),
    "VeRA": lambda: peft.VeraConfig(target_modules=ATTENTION, r=4),
    "AdaLoRA": lambda: peft.AdaLoraConfig(target_modules=ATTENTION, total_step=10, task_type="CAUSAL_LM"),
    "FourierFT": lambda: peft.FourierFTConfig(target_modules=ATTENTION, n_frequency=8),
    "layer norm tuning": lambda: peft.LNTuningConfig(target_modules=["input_layernorm"]),
    "prompt tuning": lambda: peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
    "prefix tuning": lambda: peft.PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
    "P-tuning": lambda: peft.PromptEncoderConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
    "trained tokens": lambda: peft.TrainableTokensConfig(
        target_modules=["embed_tokens"], token_indices=[3], task_type="CAUSAL_LM"
    ),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "'use_dora' asks for DoRA": {"use_dora": True},
    "'modules_to_save' asks for modules trained in full": {"modules_to_save": ["lm_head"]},
    "'trainable_token_indices' asks for trained embeddings of single": {"trainable_token_indices": [3, 4]},
    "'bias' asks for trained biases.*'all'": {"bias": "all"},
    "'bias' asks for trained biases.*'lora_only'": {"bias": "lora_only"},
    "'lora_bias' asks for biases beside": {"lora_bias": True},
    "'alora_invocation_tokens' asks for aLoRA": {"alora_invocation_tokens": [5, 6]},
    "'layer_replication' asks for layers used more": {"layer_replication": [(0, 2), (1, 2)]},
    "'target_parameters' asks for LoRA on single": {"target_parameters": ["q_proj.weight"], "target_modules": []},
    "'init_lora_weights' asks for PiSSA.*path_initial_model.*'pissa'": {"init_lora_weights": "pissa"},
    "'init_lora_weights' asks for PiSSA.*'pissa_niter_2'": {"init_lora_weights": "pissa_niter_2"},
    "'init_lora_weights' asks for OLoRA": {"init_lora_weights": "olora"},
    "'auto_mapping' asks for classes of its own.*CAUSAL_LM": {"task_type": None},
    "embed_tokens.*no LoRA A or B matrix, but belongs to trained embeddings": {
        "target_modules": ["embed_tokens", "q_proj"]
    },
    "lm_head.*no LoRA A or B matrix, but belongs to a trained head": {"target_modules": ["lm_head", "q_proj"]},
}


@pytest.mark.parametrize("name", METHODS)
def test_another_method_is_refused_by_its_name(
    base_folder: Path, bases: BaseModels, tmp_path: Path, name: str
) -> None:
    saved(base_folder, tmp_path, METHODS[name]())
    with pytest.raises(InvalidAdapter, match=f"{CONFIG}: field 'peft_type' asks for {name}, .* whole model$"):
        read_adapter(tmp_path, bases)


@pytest.mark.parametrize("words", VARIANTS)
def test_a_variant_is_refused_by_its_name(
    base_folder: Path, bases: BaseModels, tmp_path: Path, words: str
) -> None:
    saved(base_folder, tmp_path, lora(**VARIANTS[words]))
    with pytest.raises(InvalidAdapter, match=words):
        read_adapter(tmp_path, bases)


@pytest.mark.parametrize(
    ("fields", "name"),
    [({"use_dora": True}, "DoRA"), ({"lora_bias": True}, "biases beside LoRA's matrices"),
     ({"trainable_token_indices": [3]}, "trained embeddings of single tokens"),
     ({"modules_to_save": ["lm_head"]}, "a trained head"),
     ({"modules_to_save": ["norm"]}, "modules trained in full")],
)  # fmt: skip
def test_a_variant_that_its_configuration_keeps_quiet_about_is_known_by_its_tensors(
    base_folder: Path, bases: BaseModels, tmp_path: Path, fields: dict[str, Any], name: str
) -> None:
    config = json.loads((saved(base_folder, tmp_path, lora(**fields)) / CONFIG).read_text())
    quiet = {field: value for field, value in config.items() if field not in fields}
    (tmp_path / CONFIG).write_text(json.dumps(quiet))
    with pytest.raises(InvalidAdapter, match=f"no LoRA A or B matrix, but belongs to {name}, which the serving"):
        read_adapter(tmp_path, bases)


TAKEN: dict[str, dict[str, Any]] = {
    "rsLoRA": {"use_rslora": True},
    "rank by the end of a name": {"rank_pattern": {"v_proj": 2}},
    "rank by a whole name": {"rank_pattern": {f"^{LAYER_1}": 2, "layers.0.self_attn.q_proj": 6}},
    "the first pattern counts": {"rank_pattern": {LAYER_1: 2, "q_proj": 8}, "alpha_pattern": {"q_proj": 5}},
    "every rank set apart": {"rank_pattern": {"q_proj": 2, "v_proj": 3}, "alpha_pattern": {"v_proj": 1.5}},
    "rsLoRA by layer": {"rank_pattern": {LAYER_1: 1}, "alpha_pattern": {"v_proj": 32}, "use_rslora": True},
    "a Gaussian start": {"init_lora_weights": "gaussian"},
    "an orthogonal start": {"init_lora_weights": "orthogonal"},
    "some layers": {"layers_to_transform": [1], "layers_pattern": "layers"},
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_stored_computes_what_peft_saved(
    base_folder: Path, bases: BaseModels, tmp_path: Path, name: str
) -> None:
    adapter = read_adapter(saved(base_folder, tmp_path / "saved", lora(**TAKEN[name])), bases)
    (tmp_path / "stored").mkdir()
    for file, data in adapter.files.items():
        (tmp_path / "stored" / file).write_bytes(data)
    tokens = torch.arange(40).reshape(2, 20)
    with torch.no_grad():
        expected = loaded(base_folder, tmp_path / "saved")(tokens).logits
        found = loaded(base_folder, tmp_path / "stored")(tokens).logits
        plain = AutoModelForCausalLM.from_pretrained(base_folder)(tokens).logits
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-2)
    assert adapter.rank == max([2 if name == "every rank set apart" else 4, *ranks(TAKEN[name])])
    again = read_adapter(tmp_path / "stored", bases)
    assert (again.id, again.files) == (adapter.id, adapter.files)


def ranks(fields: dict[str, Any]) -> list[int]:
    return list(fields.get("rank_pattern", {}).values())


@pytest.mark.parametrize("name", TAKEN)
def test_the_engine_scales_what_is_stored_as_peft_does(
    base_folder: Path, bases: BaseModels, tmp_path: Path, name: str
) -> None:
    helper = pytest.importorskip("vllm.lora.peft_helper").PEFTHelper
    saved(base_folder, tmp_path, lora(**TAKEN[name]))
    adapter = read_adapter(tmp_path, bases)
    engine = helper.from_dict(json.loads(adapter.files[CONFIG]))
    assert max([engine.r, *engine.rank_pattern.values()]) == adapter.rank
    found = 0
    for module, layer in loaded(base_folder, tmp_path).named_modules():
        if isinstance(layer, LoraLayer):
            found += 1
            expected = (layer.r["default"], layer.scaling["default"])
            assert engine.get_rank_and_scaling(module.removeprefix("base_model.model.")) == pytest.approx(expected)
    assert found >= 2


def test_patterns_that_say_nothing_new_make_no_other_learnware(
    base_folder: Path, bases: BaseModels, tmp_path: Path
) -> None:
    plain = read_adapter(saved(base_folder, tmp_path / "plain", lora()), bases)
    same: dict[str, Any] = {"rank_pattern": {"q_proj": 4, "v_proj": 4}, "alpha_pattern": {LAYER_1: 8, "k_proj": 1}}
    patterned = read_adapter(saved(base_folder, tmp_path / "patterned", lora(**same)), bases)
    assert patterned.id == plain.id
    other = read_adapter(saved(base_folder, tmp_path / "other", lora(alpha_pattern={LAYER_1: 9})), bases)
    assert other.id != plain.id


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rank_pattern": {".*q_proj": 2}}, r"'rank_pattern.*a regular expression; write the names of modules"),
        ({"alpha_pattern": {"(a+)+$": 2}}, "'alpha_pattern.*a regular expression"),
        (
            {"alpha_pattern": {"q.proj": 2}},
            "'alpha_pattern' names 'q.proj', which is no linear module of .*tiny-base",
        ),
        ({"rank_pattern": {"_proj": 2}}, "'rank_pattern' names '_proj', which is no linear module"),
        ({"rank_pattern": {"q_proj": 2}}, r"q_proj.lora_A.weight has shape \(4, 64\) != \(2, 64\)"),
        ({"rank_pattern": {"q_proj": 257}}, r"'rank_pattern.q_proj'.*256.*257"),
        ({"alpha_pattern": {"q_proj": float("inf")}}, "'alpha_pattern.q_proj'.*inf"),
        ({"alpha_pattern": {"q_proj": 0}}, "'alpha_pattern.q_proj'.*greater than 0"),
        ({"rank_pattern": {f"q_proj{number}": 2 for number in range(MAX_PATTERNS + 1)}}, "at most 1000 items"),
        ({"rank_pattern": [["q_proj", 2]]}, "'rank_pattern'.*valid dictionary"),
    ],
)
def test_a_pattern_that_is_not_plain_is_refused(
    adapter: Path, bases: BaseModels, tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    folder = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | fields))
    with pytest.raises(InvalidAdapter, match=words):
        read_adapter(folder, bases)


def test_more_modules_set_apart_than_the_engine_would_bear_are_refused(
    base_folder: Path, bases: BaseModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(base_folder, tmp_path, lora(rank_pattern={"q_proj": 2}))
    monkeypatch.setattr("indexer.adapter_config.MAX_PATTERNS", 1)
    with pytest.raises(TooLarge, match="'rank_pattern' sets 2 modules apart, the limit is 1"):
        read_adapter(tmp_path, bases)
