import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from indexer.fingerprint import differences, vocabulary_digests, weights_digest
from specification.errors import InvalidAdapter
from tests.serving import tiny


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base model to change."""
    return tiny.build_base(tmp_path / "own")


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return tokenizer


def test_weights_are_the_same_however_they_are_saved(base_folder: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base_folder)
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    (tmp_path / "other.safetensors").write_text("none of the model's")
    assert weights_digest(tmp_path) == weights_digest(base_folder)


@pytest.mark.parametrize("changed", ["lora", "precision", "one layer", "one tensor more"])
def test_other_weights_are_noticed(base_folder: Path, tmp_path: Path, changed: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(base_folder)
    if changed == "lora":
        config = LoraConfig(r=4, target_modules=["v_proj"], task_type="CAUSAL_LM")
        adapter = tiny.build_peft(base_folder, tmp_path / "adapter", config)
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    elif changed == "one layer":
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight.mul_(1.001)
    elif changed == "precision":
        model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)
    if changed == "one tensor more":
        file = tmp_path / "model.safetensors"
        save_file(load_file(file) | {"more": torch.zeros(())}, file, {"format": "pt"})
    assert weights_digest(tmp_path) != weights_digest(base_folder)


def test_tensors_of_any_shape_have_a_place_in_it(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(()), "b": torch.zeros(0, 3), "c": torch.zeros(3), "d": torch.zeros(2, 3, 4)}
    seen = set()
    for name in tensors:
        save_file(tensors | {name: tensors[name] + 1}, tmp_path / "model.safetensors")
        seen.add(weights_digest(tmp_path))
    # Nothing can be added to what has no numbers.
    assert len(seen) == 4


def test_no_weights_have_no_digest_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    assert weights_digest(tmp_path) == ""
    (tmp_path / "model.safetensors").write_bytes(b"\x10" + bytes(20))
    with pytest.raises(InvalidAdapter, match=r"model\.safetensors: not a readable safetensors file"):
        weights_digest(tmp_path)


def test_a_vocabulary_is_the_same_whatever_stands_beside_it(base: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(base)
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.padding_side = "left"
    tokenizer(["a", "much longer text"], padding=True, truncation=True, max_length=5)
    tokenizer.save_pretrained(tmp_path / "saved")
    assert (base / "tokenizer.json").read_bytes() != (tmp_path / "saved" / "tokenizer.json").read_bytes()
    assert vocabulary_digests(tmp_path / "saved") == vocabulary_digests(base)


def test_added_tokens_count_in_whichever_file_they_stand(base: Path, tmp_path: Path) -> None:
    before = vocabulary_digests(base)
    tokenizer = tokenizer_of(base)
    tokenizer.add_tokens(["wheat"])
    tokenizer.save_pretrained(tmp_path / "saved")
    after = vocabulary_digests(tmp_path / "saved")
    assert after != before
    config = json.loads((base / "tokenizer_config.json").read_text())
    added = {str(len(tokenizer) - 1): {"content": "wheat", "special": False}}
    (base / "tokenizer_config.json").write_text(json.dumps(config | {"added_tokens_decoder": added}))
    assert vocabulary_digests(base) == after


def test_a_unigram_model_lists_its_pieces(tmp_path: Path) -> None:
    def digests(*pieces: tuple[str, float]) -> dict[str, str]:
        document = {"model": {"type": "Unigram", "vocab": pieces}, "added_tokens": None}
        (tmp_path / "tokenizer.json").write_text(json.dumps(document))
        return vocabulary_digests(tmp_path)

    assert digests(("a", -1.5), ("b", -2)) == digests(("a", -1), ("b", -2)) != digests(("b", -2), ("a", -1))


def test_only_files_that_are_asked_for_are_read(base: Path) -> None:
    (base / "vocab.json").write_text("{")
    assert set(vocabulary_digests(base)) == {"tokenizer.json", "vocab.json"}
    assert set(vocabulary_digests(base, {"vocab.json"})) == {"vocab.json"}


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.clear(),
        lambda document: document.update(model=[]),
        lambda document: document["model"].update(vocab=None),
        lambda document: document["model"].update(vocab=[["a"]]),
        lambda document: document["model"].update(vocab={"a": [[[]]]}),
        lambda document: document["model"].update(vocab=[[["a"], 1]]),
        lambda document: document.update(added_tokens=[{"content": {}, "id": 1}]),
        lambda document: document.update(added_tokens=7),
    ],
)
def test_a_strange_tokenizer_is_refused(base: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((base / "tokenizer.json").read_text())
    change(document)
    (base / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(InvalidAdapter, match=r"tokenizer\.json: no tokenizer that transformers saved"):
        vocabulary_digests(base)


def test_differences_are_of_parts_that_both_have() -> None:
    one, other = {"a": "1" * 64, "b": "2" * 64, "c": "3" * 64}, {"a": "1" * 64, "b": "4" * 64, "d": "5" * 64}
    assert differences(one, other) == "b 222222222222 != 444444444444"
    assert differences(one, {}) == ""
