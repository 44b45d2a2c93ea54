import json
import shutil
from pathlib import Path

import pytest

from indexer import BaseModels
from specification.errors import InvalidInput, NotFound
from tests.serving import tiny


def test_knows_the_shapes_of_the_linear_modules(bases: BaseModels) -> None:
    modules = bases.get(tiny.BASE_NAME).modules
    assert modules["model.layers.1.mlp.down_proj"] == (128, 64)
    assert not any("lm_head" in name for name in modules)
    with pytest.raises(NotFound, match=f"'other' is not known.*known: {tiny.BASE_NAME}"):
        bases.get("other")


def test_sees_what_another_process_added(tmp_path: Path, base_folder: Path) -> None:
    reader, writer = BaseModels(tmp_path / "bases.json"), BaseModels(tmp_path / "bases.json")
    assert reader.names() == []
    writer.add("one", base_folder)
    assert reader.names() == ["one"]
    assert writer.add("one", base_folder) == reader.get("one")


def test_another_model_under_a_known_name_is_refused(tmp_path: Path, base_folder: Path) -> None:
    bases = BaseModels(tmp_path / "bases.json")
    bases.add("one", base_folder)
    other = tmp_path / "other"
    other.mkdir()
    config = json.loads((base_folder / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    with pytest.raises(
        InvalidInput, match=r"another fingerprint \(config.json [0-9a-f]{12} != [0-9a-f]{12}\); a fine"
    ):
        bases.add("one", other)


def test_a_fine_tune_of_a_known_model_needs_a_name_of_its_own(tmp_path: Path, base_folder: Path) -> None:
    bases = BaseModels(tmp_path / "bases.json")
    known = bases.add("one", base_folder)
    assert bases.add("one", Path(shutil.copytree(base_folder, tmp_path / "copy"))).fingerprint == known.fingerprint
    tuned = tiny.build_base(tmp_path / "tuned", seed=8)
    with pytest.raises(InvalidInput, match=r"another fingerprint \(weights [0-9a-f]{12} != [0-9a-f]{12}\)"):
        bases.add("one", tuned)
    assert bases.add("two", tuned).config_sha256 == bases.get("one").config_sha256


def test_a_name_in_other_letters_is_refused(tmp_path: Path, base_folder: Path) -> None:
    bases = BaseModels(tmp_path / "bases.json")
    bases.add("some/Base", base_folder)
    with pytest.raises(InvalidInput, match="'Some/base' differs from 'some/Base', which is known, by case alone"):
        bases.add("Some/base", base_folder)


def test_a_file_of_an_older_program_opens_and_is_completed(tmp_path: Path, base_folder: Path) -> None:
    bases = BaseModels(tmp_path / "bases.json")
    added = bases.add("one", base_folder)
    (entry,) = json.loads((tmp_path / "bases.json").read_text())
    del entry["tokenizer_sha256"], entry["weights_sha256"]
    (tmp_path / "bases.json").write_text(json.dumps([entry]))
    assert bases.get("one").fingerprint == {"config.json": added.config_sha256}
    bases.add("one", base_folder)
    assert bases.get("one") == added


@pytest.mark.parametrize("name", ["auto", "Task", "a/../b", "", "x" * 201, "-x"])
def test_a_name_that_could_be_mistaken_is_refused(tmp_path: Path, base_folder: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="base model"):
        BaseModels(tmp_path / "bases.json").add(name, base_folder)


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "null",
        "[" * 100_000,
        '{"model_type": "no-such-model"}',
        '{"model_type": ["llama"]}',
        '{"model_type": "llama", "hidden_size": "abc"}',
        '{"model_type": "llama", "hidden_size": -1}',
        '{"model_type": "llama", "num_attention_heads": 0}',
        '{"model_type": "llama", "rope_scaling": 5}',
        '{"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 1, "vocab_size": 8}',
    ],
)
def test_a_strange_configuration_is_refused_and_nothing_written(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InvalidInput, match="base model folder"):
        BaseModels(tmp_path / "bases.json").add("strange", tmp_path)
    assert not (tmp_path / "bases.json").exists()
