"""Every check at the door, on real adapters that PEFT wrote and that were then spoilt."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from indexer import BaseModels, base_by_folder, read_adapter
from specification.errors import InvalidAdapter, InvalidInput, TooLarge

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Spoil = Callable[[Path], None]


@pytest.fixture
def folder(adapter: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(adapter, tmp_path / "adapter"))


def with_config(**fields: object) -> Spoil:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(config | fields))

    return spoil


def with_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Spoil:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return spoil


def first(tensors: dict[str, torch.Tensor], side: str) -> str:
    return next(name for name in sorted(tensors) if f"lora_{side}" in name)


def poison(tensors: dict[str, torch.Tensor]) -> None:
    tensors[first(tensors, "A")][0, 0] = float("nan")


def overflow(tensors: dict[str, torch.Tensor]) -> None:
    tensors[first(tensors, "B")][0, 0] = float("inf")


def widen(tensors: dict[str, torch.Tensor]) -> None:
    name = first(tensors, "A")
    tensors[name] = torch.ones(4, tensors[name].shape[1] + 1)


def divorce(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[first(tensors, "B")]


def silence(tensors: dict[str, torch.Tensor]) -> None:
    for name in tensors:
        if "lora_B" in name:
            tensors[name].zero_()


def rename(tensors: dict[str, torch.Tensor]) -> None:
    name = first(tensors, "A")
    tensors[name.replace("layers.0", "layers.99")] = tensors.pop(name)


def smuggle(tensors: dict[str, torch.Tensor]) -> None:
    tensors["base_model.model.lm_head.weight"] = torch.ones(2, 2)


def count(tensors: dict[str, torch.Tensor]) -> None:
    name = first(tensors, "A")
    tensors[name] = tensors[name].to(torch.int32)


def only_pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def no_config(folder: Path) -> None:
    (folder / CONFIG).unlink()


def link(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / "elsewhere")
    (folder / WEIGHTS).symlink_to(folder.parent / "elsewhere")


def dots(folder: Path) -> None:
    (folder / "..adapter_model.safetensors").write_text("")


def other_case_of_a_file(folder: Path) -> None:
    (folder / CONFIG.upper()).write_text("")


def other_form_of_a_file(folder: Path) -> None:
    (folder / "r\u00e9sum\u00e9").write_text("")
    (folder / "re\u0301sume\u0301").write_text("")


def truncate(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def not_json(folder: Path) -> None:
    (folder / CONFIG).write_text("{")


def a_list(folder: Path) -> None:
    (folder / CONFIG).write_text("[]")


def a_folder(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


VARIANTS: dict[str, object] = {
    "alora_invocation_tokens": [1, 2],
    "arrow_config": {"top_k": 2},
    "ensure_weight_tying": True,
    "kasa_config": {"beta": 1},
    "layer_replication": [[0, 2]],
    "megatron_config": {"x": 1},
    "monteclora_config": {"x": 1},
    "target_parameters": ["mlp.weight"],
    "trainable_token_indices": [3],
    "use_bdlora": {"nblocks": 2},
    "use_qalora": True,
    "velora_config": {"x": 1},
    "never_heard_of": 1,
}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (only_pickle, r"only adapter_model\.bin, which can run code"),
        (no_config, r"no adapter_config\.json"),
        (link, "symbolic link"),
        (dots, r"a name with '\.\.'"),
        (other_case_of_a_file, r"'ADAPTER_CONFIG\.JSON' and 'adapter_config\.json' differ only in case or"),
        (other_form_of_a_file, "'re\u0301sume\u0301' and 'r\u00e9sum\u00e9' differ only in case or Unicode form"),
        (truncate, "not a readable safetensors file"),
        (not_json, "not JSON"),
        (a_list, "a JSON list, expected an object"),
        (a_folder, "not a regular file"),
        (with_config(init_lora_weights="pissa"), "field 'init_lora_weights'.*pissa"),
        (with_config(init_lora_weights="olora"), "field 'init_lora_weights'"),
        *((with_config(**{name: value}), f"field '{name}'") for name, value in VARIANTS.items()),
        (with_config(base_model_name_or_path="another"), r"base model 'another' is not known.*tiny-base"),
        (with_config(base_model_name_or_path="../../etc"), "is not known"),
        (with_config(r=4096), "field 'r'.*256.*4096"),
        (with_config(r=8), r"shape \(4, 128\) != \(8, 128\)"),
        (with_config(peft_type="IA3"), "field 'peft_type'"),
        (with_config(use_dora=True), "field 'use_dora'"),
        (with_config(modules_to_save=["lm_head"]), "field 'modules_to_save'"),
        (with_config(bias="all"), "field 'bias'"),
        (with_config(lora_alpha=float("inf")), "field 'lora_alpha'"),
        (with_config(auto_mapping={"base_model_class": "Evil"}), "field 'auto_mapping'"),
        (with_tensors(poison), "holds NaN or Inf"),
        (with_tensors(overflow), "holds NaN or Inf"),
        (with_tensors(widen), r"has shape \(4, 129\) != \(4, 128\)"),
        (with_tensors(divorce), "only one of its two"),
        (with_tensors(silence), "would change nothing"),
        (with_tensors(rename), r"no linear module 'model\.layers\.99"),
        (with_tensors(smuggle), "is no LoRA A or B matrix, but belongs to a trained head"),
        (with_tensors(count), "is I32, not one of"),
    ],
)
def test_is_refused_with_its_reason(folder: Path, bases: BaseModels, spoil: Spoil, message: str) -> None:
    spoil(folder)
    with pytest.raises(InvalidAdapter, match=message):
        read_adapter(folder, bases)


def test_a_configuration_that_is_no_file_is_named(folder: Path, bases: BaseModels) -> None:
    (folder / CONFIG).unlink()
    (folder / CONFIG).mkdir()
    with pytest.raises(InvalidInput, match="not a regular file"):
        read_adapter(folder, bases)


def test_a_missing_folder_is_named(tmp_path: Path, bases: BaseModels) -> None:
    with pytest.raises(InvalidAdapter, match="no such folder"):
        read_adapter(tmp_path / "none", bases)


def test_a_file_over_its_limit_is_refused_before_it_is_read(
    folder: Path, bases: BaseModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.adapter.MAX_WEIGHTS_BYTES", 100)
    with pytest.raises(TooLarge, match="the limit is 100"):
        read_adapter(folder, bases)


def test_identity_is_the_content_and_the_base_whatever_the_file_says_besides(
    folder: Path, bases: BaseModels
) -> None:
    one = read_adapter(folder, bases)
    with_config(inference_mode=False, lora_dropout=0.5, revision="main")(folder)
    save_file(dict(reversed(load_file(folder / WEIGHTS).items())), folder / WEIGHTS, {"format": "other"})
    (folder / "README.md").write_text("a card")
    assert read_adapter(folder, bases).id == one.id
    with_config(lora_alpha=99)(folder)
    assert read_adapter(folder, bases).id != one.id


def test_identity_depends_on_every_weight(folder: Path, bases: BaseModels) -> None:
    one = read_adapter(folder, bases)

    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        tensors[first(tensors, "B")][0, 0] += 1e-3

    with_tensors(nudge)(folder)
    assert read_adapter(folder, bases).id != one.id


def test_bfloat16_weights_are_taken(folder: Path, bases: BaseModels) -> None:
    def halve(tensors: dict[str, torch.Tensor]) -> None:
        for name in tensors:
            tensors[name] = tensors[name].to(torch.bfloat16)

    with_tensors(halve)(folder)
    assert read_adapter(folder, bases).rank == 4


def test_a_base_is_recognised_by_its_folder_as_peft_names_it(
    folder: Path, bases: BaseModels, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base_folder.parent)
    (tmp_path / "link").symlink_to(base_folder)
    named = read_adapter(folder, bases)
    for path in (base_folder, f"{base_folder}/", base_folder.name, f"./{base_folder.name}", tmp_path / "link"):
        with_config(base_model_name_or_path=str(path))(folder)
        found = read_adapter(folder, bases, base_by_folder(folder, bases))
        assert (found.id, found.base_model, found.files) == (named.id, named.base_model, named.files)
        # The path of whoever submits may be another model's where the dock is.
        with pytest.raises(InvalidAdapter, match=r"known: tiny-base\); 'slmdock base add' it.*submit --base'"):
            read_adapter(folder, bases)
    assert json.loads(found.files[CONFIG])["base_model_name_or_path"] == found.base_model


def test_no_base_is_guessed(folder: Path, bases: BaseModels, base_folder: Path, tmp_path: Path) -> None:
    for path in (base_folder.parent, base_folder / "x", "tiny-base", "elsewhere", ""):
        with_config(base_model_name_or_path=str(path))(folder)
        assert base_by_folder(folder, bases) is None
    assert base_by_folder(tmp_path / "nothing", bases) is None
    two = BaseModels(tmp_path / "bases.json")
    for name in ("one", "two"):
        two.add(name, base_folder)
    with_config(base_model_name_or_path=str(base_folder))(folder)
    assert base_by_folder(folder, two) is None


def test_whoever_submits_may_say_which_base_is_meant(
    folder: Path, bases: BaseModels, base_folder: Path, tmp_path: Path
) -> None:
    two = BaseModels(tmp_path / "bases.json")
    for name in ("one", "two"):
        two.add(name, base_folder)
    with_config(base_model_name_or_path="one")(folder)
    one, shared = read_adapter(folder, two), str(base_folder)
    for said in ("one", "two", shared, "elsewhere"):
        with_config(base_model_name_or_path=said)(folder)
        (folder / "README.md").write_text("---\nbase_model: two\n---\n")
        assert read_adapter(folder, two, "one").files == one.files
    for unknown in ("three", "", shared):
        with pytest.raises(InvalidInput, match="is not known"):
            read_adapter(folder, two, unknown)
