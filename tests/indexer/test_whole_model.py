"""Every check at the door for whole models, on real ones that transformers saved and that were then spoilt."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from catalogue import Card
from indexer import AdapterStore, Indexer, whole_model
from indexer.whole_model import is_whole_model, take_in
from serving.resolver import StoreResolver
from specification import SentenceEncoder, Specification, specify
from specification.errors import Conflict, InvalidAdapter, InvalidInput, NotFound, TooLarge
from tests.serving import tiny

WEIGHTS, CONFIG, TOKENIZER_CONFIG = "model.safetensors", "config.json", "tokenizer_config.json"
INDEX = "model.safetensors.index.json"
Spoil = Callable[[Path], None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_base(tmp_path_factory.mktemp("whole"), seed=1)


@pytest.fixture(scope="module")
def sharded(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model in several files."""
    folder = Path(shutil.copytree(model, tmp_path_factory.mktemp("sharded") / "model"))
    (folder / WEIGHTS).unlink()
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(folder, max_shard_size="200KB")
    assert (folder / INDEX).is_file()
    return folder


@pytest.fixture(scope="module")
def specification(encoder: SentenceEncoder) -> Specification:
    return specify([f"How deep is well number {number}?" for number in range(20)], encoder)


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(model, tmp_path / "model"))


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "store")


def with_field(name: str, value: object, file: str = CONFIG) -> Spoil:
    def spoil(folder: Path) -> None:
        fields = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(fields | {name: value}))

    return spoil


def with_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return spoil


HEAD = "lm_head.weight"


def poison(tensors: dict[str, torch.Tensor]) -> None:
    tensors[HEAD][-1, -1] = float("nan")


def only_pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def link(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / "elsewhere")
    (folder / WEIGHTS).symlink_to(folder.parent / "elsewhere")


def truncate(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def a_pipe(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


def remove(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).write_text(text)

    return spoil


SPOILT = {
    "a pickle": (only_pickle, "only pytorch_model.bin, which can run code"),
    "a link": (link, "a symbolic link"),
    "a pipe": (a_pipe, "not a regular file"),
    "dots": (write("..model.safetensors", ""), "'..'"),
    "no configuration": (remove(CONFIG), "no config.json"),
    "no tokenizer": (remove("tokenizer.json"), "no tokenizer"),
    "a broken tokenizer": (write("tokenizer.json", "{}"), "transformers cannot read it"),
    "no JSON": (write(CONFIG, "{"), "not JSON"),
    "a list": (write(CONFIG, "[]"), "expected an object"),
    "own code": (with_field("auto_map", {"AutoConfig": "evil.Config"}), "'auto_map' asks for code"),
    "own code below": (with_field("text_config", {"auto_map": {"AutoModel": "evil.Model"}}), "'auto_map'"),
    "a tokenizer's own code": (with_field("auto_map", {"AutoTokenizer": ["e.T"]}, TOKENIZER_CONFIG), "auto_map"),
    "a path": (with_field("tokenizer_file", "/etc/passwd", TOKENIZER_CONFIG), "names a file"),
    "other weights": (with_field("transformers_weights", "x.safetensors"), "another weights file"),
    "quantised": (with_field("quantization_config", {"quant_method": "gptq"}), "quantised"),
    "an unknown architecture": (with_field("model_type", "nothing-known"), "transformers cannot read it"),
    "endless layers": (with_field("num_hidden_layers", 10**9), "'num_hidden_layers' is 1000000000"),
    "half a file": (truncate, "not a readable safetensors file"),
    "NaN": (with_tensors(poison), f"{HEAD} holds NaN or Inf"),
    "a missing tensor": (
        with_tensors(lambda tensors: tensors.pop(HEAD)), f"1 parameters are missing, the first is {HEAD}",
    ),
    "a strange tensor": (with_tensors(lambda tensors: tensors.update(x=torch.ones(1))), "has no tensor 'x'"),
    "a misshapen tensor": (
        with_tensors(lambda tensors: tensors.update({HEAD: torch.ones(2, 2)})), r"shape \(2, 2\) != ",
    ),
    "whole numbers": (
        with_tensors(lambda tensors: tensors.update({HEAD: tensors[HEAD].to(torch.int8)})), "is I8, not one of",
    ),
    "shards without an index": (
        lambda folder: (folder / WEIGHTS).rename(folder / "model-00001-of-00001.safetensors"), "without model",
    ),
    "an index of another file": (
        write(INDEX, json.dumps({"weight_map": {HEAD: "../../etc/passwd"}})), "only in one of index and folder",
    ),
    "an index of another tensor": (
        write(INDEX, json.dumps({"weight_map": {HEAD: WEIGHTS}})), "only in one of index and file",
    ),
    "an index that is none": (write(INDEX, json.dumps({"weight_map": [1]})), "does not map"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_refused_by_name_and_nothing_is_kept(name: str, folder: Path, store: AdapterStore) -> None:
    spoil, words = SPOILT[name]
    spoil(folder)
    with pytest.raises(InvalidInput, match=words) as caught:
        take_in(folder, store)
    assert "incoming" not in str(caught.value)
    assert list(store.ids()) == []
    assert not store.root.exists() or not list(store.root.iterdir())


def test_limits(folder: Path, store: AdapterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_model, "MAX_SIDE_BYTES", 10)
    with pytest.raises(TooLarge, match=r"the limit is 10"):
        take_in(folder, store)
    monkeypatch.undo()
    monkeypatch.setattr(whole_model, "MAX_MODEL_BYTES", (folder / WEIGHTS).stat().st_size + 1)
    with pytest.raises(TooLarge, match="bytes in all"):
        take_in(folder, store)


def test_a_model_of_endless_parts_is_not_built(
    folder: Path, store: AdapterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_model, "MAX_MODULES", 5)
    with pytest.raises(TooLarge, match=r"config\.json: more than 5 modules"):
        take_in(folder, store)
    monkeypatch.undo()
    take_in(folder, store)


def test_only_what_is_needed_is_taken(folder: Path, store: AdapterStore) -> None:
    alone = take_in(folder, store)
    for name in ("README.md", "modeling_evil.py", "training_args.bin", "consolidated.safetensors"):
        (folder / name).write_text("print('evil')")
    assert take_in(folder, store) == alone
    stored = {file.name: file.read_bytes() for file in store.path_of(alone).iterdir()}
    assert set(stored) == {
        "chat_template.jinja", CONFIG, "generation_config.json", WEIGHTS, "tokenizer.json", TOKENIZER_CONFIG,
    }  # fmt: skip
    assert stored == {name: (folder / name).read_bytes() for name in stored}
    lines = "".join(f"\n{name} {hashlib.sha256(stored[name]).hexdigest()}" for name in sorted(stored))
    assert alone == hashlib.sha256(b"whole model" + lines.encode()).hexdigest()
    assert [path.name for path in store.root.iterdir()] == [alone[:2]]


def test_shards_and_tied_weights(sharded: Path, tmp_path: Path, store: AdapterStore) -> None:
    tied = tiny.build_base(tmp_path / "tied", tied=True)
    assert HEAD not in load_file(tied / WEIGHTS)
    found = {take_in(folder, store) for folder in (sharded, tied)}
    assert set(store.ids()) == found
    shards = [file for file in store.path_of(take_in(sharded, store)).iterdir() if file.suffix == ".safetensors"]
    assert len(shards) > 1


def test_nan_is_found_in_every_piece(folder: Path, store: AdapterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_model, "PIECE_BYTES", 1000)
    take_in(folder, store)
    with_tensors(poison)(folder)
    with pytest.raises(InvalidAdapter, match="NaN"):
        take_in(folder, store)


def test_a_whole_model_becomes_a_learnware(
    indexer: Indexer, folder: Path, specification: Specification, adapter: Path
) -> None:
    assert is_whole_model(folder)
    assert not is_whole_model(adapter)
    learnware = indexer.submit(folder, specification, Card(name="wells", domain="water"))
    assert (learnware.whole, learnware.base_model, learnware.rank) == (True, "none", 0)
    stored = indexer.store.path_of(learnware.id)
    assert learnware.adapter_bytes == sum(file.stat().st_size for file in stored.iterdir())
    assert indexer.catalogue.get([learnware.id]) == [learnware]
    assert indexer.submit(folder, specification, Card(name="wells", domain="water")) == learnware
    with pytest.raises(InvalidInput, match="a whole model stands on no base model"):
        indexer.submit(folder, specification, Card(name="wells"), base="any")
    with pytest.raises(Conflict, match="springs: the same content is in already as wells"):
        indexer.adopt(learnware.id, specification, Card(name="springs"))
    # No engine takes it for an adapter.
    assert StoreResolver(indexer.store.root, tiny.BASE_NAME).folder_of(learnware.engine_name) is None
    assert StoreResolver(indexer.store.root, "none").folder_of(learnware.engine_name) is None


def test_only_a_whole_model_in_the_store_is_adopted(
    indexer: Indexer, adapter: Path, specification: Specification
) -> None:
    with pytest.raises(NotFound, match="not in the store"):
        indexer.adopt("ab" * 32, specification, Card(name="wells"))
    learnware = indexer.submit(adapter, specification, Card(name="drills"))
    with pytest.raises(InvalidInput, match="no whole model"):
        indexer.adopt(learnware.id, specification, Card(name="wells"))
    with pytest.raises(InvalidInput, match="is not 64"):
        indexer.adopt("../x", specification, Card(name="wells"))
    assert indexer.catalogue.count() == 1
