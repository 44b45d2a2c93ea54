"""What lies beside an adapter must agree with the base model that it names."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from catalogue import Card
from indexer import BaseModels, Indexer, export, read_adapter
from indexer.origin import FINGERPRINT_FIELD
from specification import SentenceEncoder, specify
from specification.errors import InvalidAdapter, InvalidInput
from tests.indexer.parcels import open_indexer
from tests.serving import tiny


@pytest.fixture
def folder(adapter: Path, tmp_path: Path) -> Path:
    """A copy to lay things beside."""
    return Path(shutil.copytree(adapter, tmp_path / "adapter"))


@pytest.fixture
def two(tmp_path: Path, base_folder: Path) -> BaseModels:
    """A dock's base models: the tiny one, and a fine-tune of it."""
    known = BaseModels(tmp_path / "bases.json")
    known.add(tiny.BASE_NAME, base_folder)
    known.add("another", tiny.build_base(tmp_path / "another", seed=9))
    return known


def test_the_base_s_own_tokenizer_may_lie_there(folder: Path, bases: BaseModels, base_folder: Path) -> None:
    alone = read_adapter(folder, bases)
    AutoTokenizer.from_pretrained(base_folder).save_pretrained(folder)
    assert read_adapter(folder, bases).id == alone.id


def test_a_tokenizer_with_tokens_of_its_own_is_refused(folder: Path, bases: BaseModels, base_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        InvalidAdapter, match=r"another vocabulary than base model tiny-base \(tokenizer\.json [0-9a-f]{12} != "
    ):
        read_adapter(folder, bases)


def test_a_tokenizer_says_nothing_where_the_base_s_is_not_known(
    folder: Path, tmp_path: Path, base_folder: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(base_folder / "config.json", bare)
    bases = BaseModels(tmp_path / "bases.json")
    bases.add(tiny.BASE_NAME, bare)
    (folder / "tokenizer.json").write_text("{}")
    assert read_adapter(folder, bases).base_model == tiny.BASE_NAME


@pytest.mark.parametrize("card", ["", "# No front matter", "---\nbase_model: hub/elsewhere\n---", None])
def test_a_model_card_may_know_the_base_by_another_name(folder: Path, two: BaseModels, card: str | None) -> None:
    """As the one that PEFT writes does, which names a folder."""
    if card is not None:
        (folder / "README.md").write_text(card)
    assert read_adapter(folder, two).base_model == tiny.BASE_NAME


def test_a_model_card_that_names_another_known_base_is_refused(folder: Path, two: BaseModels) -> None:
    (folder / "README.md").write_text(f"---\nbase_model: [another, {tiny.BASE_NAME}]\n---\n")
    assert read_adapter(folder, two).base_model == tiny.BASE_NAME
    (folder / "README.md").write_text("---\nbase_model: another\n---\n")
    with pytest.raises(
        InvalidAdapter, match=r"README\.md: field 'base_model' names another, adapter_config\.json"
    ):
        read_adapter(folder, two)


def test_a_model_card_that_cannot_be_read_is_refused(folder: Path, bases: BaseModels) -> None:
    (folder / "README.md").write_text("---\nbase_model: [\n---\n")
    with pytest.raises(InvalidInput, match=r"README\.md: front matter of the model card: not YAML"):
        read_adapter(folder, bases)


def test_an_export_goes_in_on_the_same_base_alone(
    indexer: Indexer, adapter: Path, tmp_path: Path, base_folder: Path, encoder: SentenceEncoder
) -> None:
    specification = specify([f"What is the sum of {part} and 7?" for part in range(8)], encoder)
    learnware = indexer.submit(adapter, specification, Card(name="sums"))
    (name,) = export(indexer.catalogue, indexer.store, tmp_path / "out", bases=indexer.bases).written
    out = tmp_path / "out" / name
    stated = json.loads((out / "record.json").read_text())[FINGERPRINT_FIELD]
    assert stated == indexer.bases.get(tiny.BASE_NAME).fingerprint
    assert set(stated) == {"config.json", "tokenizer.json", "weights"}
    assert indexer.submit(out, specification, Card(name="sums")) == learnware
    other = BaseModels(tmp_path / "other.json")
    other.add(tiny.BASE_NAME, tiny.build_base(tmp_path / "tuned", seed=8))
    (tmp_path / "dock").mkdir()
    with open_indexer(tmp_path / "dock", encoder, other) as elsewhere:
        with pytest.raises(
            InvalidAdapter, match=r"another base model tiny-base than this dock's \(weights [0-9a-f]"
        ):
            elsewhere.submit(out, specification, Card(name="sums"))
        assert elsewhere.catalogue.count() == 0


@pytest.mark.parametrize("stated", [7, ["x"], {"weights": 7}])
def test_a_record_that_makes_no_sense_is_refused(folder: Path, bases: BaseModels, stated: object) -> None:
    (folder / "record.json").write_text(json.dumps({FINGERPRINT_FIELD: stated}))
    with pytest.raises(InvalidAdapter, match=f"record.json: field '{FINGERPRINT_FIELD}' does not map"):
        read_adapter(folder, bases)


def test_a_record_of_an_older_export_says_nothing(folder: Path, bases: BaseModels) -> None:
    (folder / "record.json").write_text(json.dumps({"version": 3}))
    assert read_adapter(folder, bases).base_model == tiny.BASE_NAME
