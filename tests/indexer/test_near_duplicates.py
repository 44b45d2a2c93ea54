"""Near-duplicates by weights and by specification: pointed out in record and history, and never refused."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from catalogue import Card, Learnware
from indexer import BaseModels, Indexer
from specification import SentenceEncoder, Specification, specify
from tests.indexer.parcels import open_indexer
from tests.indexer.test_update_sketches import noisy, refactored
from tests.serving import tiny

WEIGHTS = "adapter_model.safetensors"


def texts(topic: str, count: int) -> list[str]:
    places = ["north", "south", "valley", "river", "market", "school", "harbour"]
    verbs = ["describe", "count", "explain", "compare", "name"]
    return [f"{verbs[each % 5]} the {topic} of the {places[each % 7]}, case {each}" for each in range(count)]


@pytest.fixture(scope="module")
def wheat(encoder: SentenceEncoder) -> Specification:
    return specify(texts("wheat", 60), encoder)


@pytest.fixture(scope="module")
def bones(encoder: SentenceEncoder) -> Specification:
    return specify(texts("broken bones", 60), encoder)


def copy_of(adapter: Path, folder: Path) -> Path:
    """The same adapter in other matrices, with some noise on them."""
    shutil.copytree(adapter, folder)
    save_file(refactored(noisy(0.02)(load_file(adapter / WEIGHTS))), folder / WEIGHTS)
    return folder


def found(learnware: Learnware) -> list[tuple[str, str]]:
    return [(each.reference, each.by) for each in learnware.near_duplicates]


def whys(indexer: Indexer, learnware: Learnware) -> list[str]:
    return [change.why for change in indexer.history.changes(learnware.id)[::-1]]


def test_almost_the_same_weights_are_pointed_out(
    indexer: Indexer, adapters: list[Path], wheat: Specification, bones: Specification, tmp_path: Path
) -> None:
    first = indexer.submit(adapters[0], wheat, Card(name="wheat"))
    other = indexer.submit(adapters[1], bones, Card(name="bones"))
    assert (first.near_duplicates, other.near_duplicates, first.warning) == ((), (), "")
    twin = indexer.submit(copy_of(adapters[0], tmp_path / "twin"), bones, Card(name="bones"))
    assert found(twin) == [("wheat@1", "weights")]
    (near,) = twin.near_duplicates
    assert near.id == first.id
    assert 0.99 < near.likeness < 1
    assert indexer.catalogue.get([twin.id]) == [twin]
    warning = f"almost the same as wheat@1 by weights ({near.likeness:.4f})"
    assert twin.warning == warning
    assert whys(indexer, twin) == [warning, "", ""]
    assert whys(indexer, other) == ["", "", ""]


def test_almost_the_same_specification_is_pointed_out(
    indexer: Indexer, adapters: list[Path], wheat: Specification, bones: Specification, encoder: SentenceEncoder
) -> None:
    indexer.submit(adapters[0], wheat, Card(name="wheat"))
    changed = specify(texts("wheat", 60)[:-1], encoder)
    assert changed.digest != wheat.digest
    grain = indexer.submit(adapters[1], changed, Card(name="grain"))
    assert found(grain) == [("wheat@1", "specification")]
    # The next version of a name is trained on like texts, and nobody need be told.
    assert found(indexer.submit(adapters[2], changed, Card(name="wheat"))) == [("grain@1", "specification")]
    # A new specification is compared anew.
    moved = indexer.submit(adapters[1], bones, Card(name="grain"))
    assert found(moved) == []
    back = indexer.submit(adapters[1], wheat, Card(name="grain"))
    assert sorted(found(back)) == [("wheat@1", "specification"), ("wheat@2", "specification")]
    assert whys(indexer, back)[-1].startswith("changed: specification, near_duplicates; almost the same as ")


def test_other_texts_for_the_same_task_are_no_near_duplicate(
    indexer: Indexer, adapters: list[Path], encoder: SentenceEncoder
) -> None:
    one, other = (specify(texts("wheat", 60)[start::2], encoder) for start in range(2))
    indexer.submit(adapters[0], one, Card(name="one"))
    assert indexer.submit(adapters[1], other, Card(name="other")).near_duplicates == ()
    # Nor does a sketch come near to everything by calling itself a rough one.
    rough = one.section.model_copy(update={"sample_size": 2, "compression_error": 2.0})
    indexer.submit(adapters[0], replace(one, section=rough), Card(name="one"))
    assert indexer.submit(adapters[2], other, Card(name="third")).near_duplicates[1:] == ()


def test_the_same_on_another_base_model_is_none(
    base_folder: Path, adapter: Path, wheat: Specification, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    bases = BaseModels(tmp_path / "bases.json")
    for name in (tiny.BASE_NAME, "second-base"):
        bases.add(name, base_folder)
    second = shutil.copytree(adapter, tmp_path / "second")
    config = second / "adapter_config.json"
    config.write_text(config.read_text().replace(f'"{tiny.BASE_NAME}"', '"second-base"'))
    with open_indexer(tmp_path, encoder, bases) as indexer:
        indexer.submit(adapter, wheat, Card(name="wheat"))
        assert indexer.submit(second, wheat, Card(name="grain")).near_duplicates == ()


def test_submitted_again_it_is_none_of_itself_and_what_was_deleted_is_forgotten(
    indexer: Indexer, adapters: list[Path], wheat: Specification, bones: Specification, tmp_path: Path
) -> None:
    first = indexer.submit(adapters[0], wheat, Card(name="wheat"))
    twin = copy_of(adapters[0], tmp_path / "twin")
    second = indexer.submit(twin, wheat, Card(name="grain"))
    assert found(second) == [("wheat@1", "weights")]
    revision = indexer.catalogue.revision
    assert indexer.submit(adapters[0], wheat, Card(name="wheat")) == first
    assert indexer.submit(twin, wheat, Card(name="grain")) == second
    assert indexer.catalogue.revision == revision
    indexer.delete(first, "alice")
    assert found(indexer.submit(twin, bones, Card(name="grain"))) == []


def test_without_its_file_of_sketches_a_submission_still_comes_in(
    indexer: Indexer, adapter: Path, wheat: Specification, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    indexer.submit(adapter, wheat, Card(name="wheat"))
    file = indexer.near_duplicates.sketches.path
    assert file.parent == indexer.history.path.parent
    file.write_bytes(b"not a database" * 100)
    with caplog.at_level(logging.ERROR):
        twin = indexer.submit(copy_of(adapter, tmp_path / "twin"), wheat, Card(name="grain"))
    assert found(twin) == [("wheat@1", "specification")]
    assert "update_sketches.sqlite: not compared by weights (file is not a database); move it away" in caplog.text
