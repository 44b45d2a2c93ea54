"""Sizes read from a base model's folder."""

import json
from pathlib import Path

import pytest

from serving.base_size import read_base_size
from specification.errors import InvalidInput
from tests.serving import tiny

LLAMA_3_1_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}


def folder_with(folder: Path, **fields: object) -> Path:
    (folder / "config.json").write_text(json.dumps({**LLAMA_3_1_8B, **fields}))
    return folder


def test_llama_3_1_8b_by_its_published_numbers(tmp_path: Path) -> None:
    size, counted = read_base_size(folder_with(tmp_path))
    assert not counted
    assert size.weight_bytes == 2 * 8_030_261_248
    assert size.kv_bytes_a_token == 128 * 1024
    assert size.shapes.adapter_bytes(16) == 2 * 41_943_040
    assert (size.intermediate, size.max_model_len) == (14_336, 131_072)
    assert read_base_size(tmp_path, "float32")[0].kv_bytes_a_token == 256 * 1024


def test_tied_embeddings_count_once_and_heads_may_have_a_width_of_their_own(tmp_path: Path) -> None:
    small = {"num_hidden_layers": 1, "vocab_size": 1000, "hidden_size": 64, "num_attention_heads": 4}
    small |= {"num_key_value_heads": 2, "intermediate_size": 128}
    untied, _ = read_base_size(folder_with(tmp_path, **small))
    tied, _ = read_base_size(folder_with(tmp_path, **small, tie_word_embeddings=True, head_dim=32))
    assert untied.kv_bytes_a_token == 2 * 1 * 2 * 16 * 2
    assert tied.kv_bytes_a_token == 2 * 1 * 2 * 32 * 2
    # Wider heads cost 64 * (2 * 64 + 2 * 32) numbers more, the head of the model 1000 * 64 fewer.
    assert tied.weight_bytes - untied.weight_bytes == 2 * (64 * (2 * 64 + 2 * 32) - 1000 * 64)


@pytest.mark.parametrize("tied", [False, True])
def test_weights_that_are_there_are_counted_as_they_will_be_loaded(tmp_path: Path, tied: bool) -> None:
    folder = tiny.build_base(tmp_path, tied=tied)
    stored, counted = read_base_size(folder)
    assert counted
    for file in folder.glob("*.safetensors"):
        # The folder holds float32, which is served in 16 bits: half of the file, but for its header.
        assert abs(2 * stored.weight_bytes - file.stat().st_size) < 10_000
        file.unlink()
    told, counted = read_base_size(folder)
    assert not counted
    assert told == stored
    assert read_base_size(folder, "float32")[0].weight_bytes == 2 * told.weight_bytes


def test_quantised_tensors_keep_their_size_and_the_index_names_the_files(tmp_path: Path) -> None:
    def write(name: str, dtype: str, size: int) -> None:
        header = json.dumps({"w": {"dtype": dtype, "shape": [size], "data_offsets": [0, size]}}).encode()
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header)

    folder_with(tmp_path, num_hidden_layers=1)
    write("a.safetensors", "I8", 1000)
    write("b.safetensors", "F32", 1000)
    write("consolidated.safetensors", "F32", 1000)
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}'
    )
    assert read_base_size(tmp_path)[0].weight_bytes == 1000 + 500


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "mixtral", "num_hidden_layers": 1, "num_local_experts": 2}, "a mixture of experts"),
        ({"model_type": "mamba", "num_hidden_layers": 1, "state_size": 16}, "cannot be planned"),
        ({"model_type": "no-such-model"}, "transformers cannot read it"),
    ],
)
def test_what_cannot_be_planned(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    small = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
    with pytest.raises(InvalidInput, match=message):
        read_base_size(folder_with(tmp_path, **small, **fields))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no config\.json"):
        read_base_size(tmp_path)
    with pytest.raises(InvalidInput, match="--dtype 'int4': choose one of auto"):
        read_base_size(tmp_path, "int4")
    folder_with(tmp_path, num_hidden_layers=1)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(InvalidInput, match="cannot be read as safetensors"):
        read_base_size(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(InvalidInput, match=r"index\.json cannot be read"):
        read_base_size(tmp_path)
