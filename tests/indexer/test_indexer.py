import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from catalogue import Card, Row, Signal, State, parse_filter
from indexer import Indexer
from specification import SentenceEncoder, Specification, mark_derived, specify
from specification.errors import CatalogueError, Conflict, Incomparable, InvalidAdapter, InvalidInput, NotFound
from tests.conftest import make_specification
from tests.serving import tiny


@pytest.fixture(scope="module")
def specifications(encoder: object) -> list[Specification]:
    topics = ["the price of wheat", "a broken arm", "a prime number"]
    texts = [[f"What do you think of {topic}, case {number}?" for number in range(20)] for topic in topics]
    return [specify(some, encoder) for some in texts]  # type: ignore[arg-type]


def test_a_submitted_learnware_is_in_store_and_catalogue(
    indexer: Indexer, adapter: Path, specifications: list[Specification]
) -> None:
    card = Card(name="wheat", description="Answers about wheat", domain="farming", tags=("crops",))
    learnware = indexer.submit(adapter, specifications[0], card)
    assert indexer.catalogue.get([learnware.id]) == [learnware]
    assert (learnware.base_model, learnware.rank, learnware.version) == (tiny.BASE_NAME, 4, 1)
    assert learnware.sample_size == 20
    assert list(indexer.store.ids()) == [learnware.id]
    stored = indexer.store.path_of(learnware.id)
    assert sum(file.stat().st_size for file in stored.iterdir()) == learnware.adapter_bytes
    assert indexer.catalogue.specification_file(learnware) == specifications[0].to_bytes()


def test_the_same_adapter_twice_is_one_learnware_with_the_new_specification(
    indexer: Indexer, adapter: Path, specifications: list[Specification], tmp_path: Path
) -> None:
    first = indexer.submit(adapter, specifications[0], Card(name="wheat"))
    again = indexer.submit(shutil.copytree(adapter, tmp_path / "copy"), specifications[1], Card(name="wheat"))
    assert (again.id, again.version, again.created) == (first.id, first.version, first.created)
    assert indexer.catalogue.count() == 1
    assert indexer.catalogue.specification_file(again) == specifications[1].to_bytes()
    assert indexer.submit(adapter, specifications[1], Card(name="wheat")) == again


def test_a_name_that_differs_in_case_alone_is_refused_with_the_one_that_is_there(
    indexer: Indexer, adapters: list[Path], specifications: list[Specification]
) -> None:
    learnware = indexer.submit(adapters[0], specifications[0], Card(name="Wheat"))
    for folder in adapters[:2]:
        with pytest.raises(InvalidInput, match="'wheat' differs from 'Wheat', which is there, in case alone; use"):
            indexer.submit(folder, specifications[0], Card(name="wheat"))
    assert list(indexer.store.ids()) == [learnware.id]
    assert indexer.submit(adapters[1], specifications[0], Card(name="Wheat")).version == 2
    assert indexer.submit(adapters[2], specifications[0], Card(name="wheat-2")).version == 1
    with pytest.raises(InvalidInput, match=f"'{tiny.BASE_NAME.title()}' is the name of a base model"):
        indexer.submit(adapters[2], specifications[0], Card(name=tiny.BASE_NAME.title()))


def test_names_that_were_there_before_such_were_refused_go_on(
    indexer: Indexer, adapters: list[Path], specifications: list[Specification]
) -> None:
    first = indexer.submit(adapters[0], specifications[0], Card(name="wheat"))
    second = indexer.submit(adapters[1], specifications[0], Card(name="rye"))
    (row,) = indexer.catalogue.fetch([second.id])
    indexer.catalogue.load([Row(row.learnware.model_copy(update={"name": "Wheat"}), row.file, row.text_vector)])
    assert indexer.submit(adapters[0], specifications[1], Card(name="wheat")).id == first.id
    assert indexer.submit(adapters[2], specifications[1], Card(name="Wheat")).version == 2


def test_another_adapter_of_the_same_name_is_the_next_version(
    indexer: Indexer, adapters: list[Path], specifications: list[Specification]
) -> None:
    versions = [indexer.submit(folder, specifications[0], Card(name="wheat")).version for folder in adapters]
    assert versions == [1, 2, 3]
    newest = indexer.catalogue.named("wheat")
    assert newest is not None
    assert newest.version == 3


def test_a_refused_submission_changes_nothing(
    indexer: Indexer, adapter: Path, specifications: list[Specification], tmp_path: Path
) -> None:
    broken = shutil.copytree(adapter, tmp_path / "broken")
    (broken / "adapter_config.json").unlink()
    with pytest.raises(InvalidAdapter):
        indexer.submit(broken, specifications[0], Card(name="wheat"))
    with pytest.raises(Incomparable, match="sixteen"):
        indexer.submit(adapter, make_specification(1), Card(name="wheat"))
    with pytest.raises(InvalidInput, match="name of a base model"):
        indexer.submit(adapter, specifications[0], Card(name=tiny.BASE_NAME))
    assert indexer.catalogue.count() == 0
    assert list(indexer.store.ids()) == []


def test_a_catalogue_that_fails_half_way_loses_nothing_and_is_healed_by_submitting_again(
    indexer: Indexer, adapter: Path, specifications: list[Specification], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = indexer.catalogue._write

    def fail_after_writing(rows: Sequence[Row]) -> None:
        write(rows)
        raise CatalogueError("flush failed")

    with monkeypatch.context() as patch:
        patch.setattr(indexer.catalogue, "_write", fail_after_writing)
        with pytest.raises(CatalogueError):
            indexer.submit(adapter, specifications[0], Card(name="wheat"))
    visible = indexer.catalogue.scroll().learnwares
    assert all(indexer.store.path_of(item.id).is_dir() for item in visible)
    learnware = indexer.submit(adapter, specifications[0], Card(name="wheat"))
    assert indexer.catalogue.get([learnware.id]) == [learnware]


def test_a_lost_artefact_is_restored_by_submitting_again(
    indexer: Indexer, adapter: Path, specifications: list[Specification]
) -> None:
    learnware = indexer.submit(adapter, specifications[0], Card(name="wheat"))
    stored = indexer.store.path_of(learnware.id)
    (stored / "adapter_model.safetensors").unlink()
    assert indexer.submit(adapter, specifications[0], Card(name="wheat")) == learnware
    assert (stored / "adapter_model.safetensors").is_file()
    shutil.rmtree(stored)
    indexer.submit(adapter, specifications[0], Card(name="wheat"))
    assert len(list(stored.iterdir())) == 2


@pytest.mark.parametrize("name", ["", "auto", "AUTO", "a/b", "../x", "x" * 97, "a b", ".hidden", "a\n"])
def test_a_name_that_could_be_mistaken_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Card(name=name)


def test_attached_signals_outlive_a_new_card(
    indexer: Indexer, adapter: Path, specifications: list[Specification]
) -> None:
    learnware = indexer.submit(adapter, specifications[0], Card(name="wheat"))
    signal = Signal(kind="capability", task="crops", value=0.7, source="a file")
    rated = indexer.attach(learnware, [signal])
    assert rated.quality == (signal,)
    assert indexer.catalogue.get([learnware.id]) == [rated]
    again = indexer.submit(adapter, specifications[1], Card(name="wheat", description="Wheat, and nothing else"))
    assert again.quality == (signal,)


def test_a_measured_task_is_kept(indexer: Indexer, specifications: list[Specification]) -> None:
    digest = indexer.measure(specifications[0])
    found = indexer.measured.get(digest)
    assert found is not None
    assert found.to_bytes() == specifications[0].to_bytes()
    assert indexer.measured.get("0" * 64) is None
    assert indexer.measured.get("../x") is None
    with pytest.raises(Incomparable):
        indexer.measure(make_specification(1))
    assert list(indexer.store.ids()) == []


def events(indexer: Indexer, reference: str = "") -> list[tuple[str, int | None, str]]:
    """What the history holds, oldest first: state, version and reason."""
    return [(one.state, one.version, one.why) for one in indexer.history.changes(reference)[::-1]]


def test_a_submission_is_published_at_once_or_held_back(
    indexer: Indexer, adapters: list[Path], specifications: list[Specification]
) -> None:
    first = indexer.submit(adapters[0], specifications[0], Card(name="wheat"), who="alice")
    held = indexer.submit(adapters[1], specifications[1], Card(name="wheat"), "checked", "bob")
    assert (first.status, held.status) == ("published", "checked")
    assert indexer.catalogue.named("wheat") == first
    assert events(indexer, "wheat@1") == [("submitted", 1, ""), ("checked", 1, ""), ("published", 1, "")]
    assert events(indexer, "wheat@2") == [("submitted", 2, ""), ("checked", 2, "")]
    assert {one.who for one in indexer.history.changes("wheat@2")} == {"bob"}
    assert indexer.submit(adapters[1], specifications[1], Card(name="wheat"), "checked") == held
    published = indexer.submit(adapters[1], specifications[1], Card(name="wheat"))
    assert published == held.model_copy(update={"status": "published"})
    assert events(indexer, "wheat@2")[2:] == [("published", 2, "")]


def test_the_same_content_keeps_its_name_unless_it_is_to_be_renamed(
    indexer: Indexer, adapter: Path, specifications: list[Specification]
) -> None:
    learnware = indexer.submit(adapter, specifications[0], Card(name="wheat"))
    with pytest.raises(
        Conflict, match=r"^corn: the same content is in already as wheat; submit it under that name"
    ):
        indexer.submit(adapter, specifications[1], Card(name="corn", description="Maize"))
    assert indexer.catalogue.get([learnware.id]) == [learnware]
    assert indexer.catalogue.specification_file(learnware) == specifications[0].to_bytes()
    assert [state for state, *_ in events(indexer, "corn")] == ["refused"]
    assert indexer.submit(adapter, specifications[0], Card(name="corn"), rename=True).reference == "corn@1"


def test_a_new_specification_is_told_by_its_size(
    indexer: Indexer, adapter: Path, specifications: list[Specification], encoder: SentenceEncoder
) -> None:
    indexer.submit(adapter, specifications[0], Card(name="wheat"))
    indexer.submit(adapter, specify(["The wheat of May", "The wheat of June"], encoder), Card(name="wheat"))
    assert events(indexer)[3:] == [("updated", 1, "changed: sample_size 20 → 2, specification")]


def test_a_new_description_alone_makes_no_new_version(
    indexer: Indexer, adapter: Path, specifications: list[Specification]
) -> None:
    first = indexer.submit(adapter, specifications[0], Card(name="wheat"))
    card = Card(name="wheat", description="All about wheat", tags=("crops",))
    again = indexer.submit(adapter, specifications[0], card)
    assert again == first.model_copy(update={"description": "All about wheat", "tags": ("crops",)})
    assert events(indexer)[3:] == [("updated", 1, "changed: description, tags")]
    renamed = indexer.submit(adapter, specifications[0], Card(name="corn"), rename=True)
    assert (renamed.id, renamed.reference) == (first.id, "corn@1")
    assert events(indexer, "corn") == [("updated", 1, "changed: name, description, tags; it was wheat@1")]
    # The number of a version never means two contents, even when the first one went.
    assert indexer.submit(adapter, specifications[0], Card(name="wheat"), rename=True).version == 2


@pytest.mark.parametrize("state", ["retired", "quarantined"])
def test_submitting_again_brings_nothing_back(
    indexer: Indexer, adapter: Path, specifications: list[Specification], state: State
) -> None:
    learnware = indexer.submit(adapter, specifications[0], Card(name="wheat"))
    moved = indexer.move(learnware, state, "alice", "it lies")
    assert indexer.submit(adapter, specifications[0], Card(name="wheat")) == moved
    assert indexer.submit(adapter, specifications[1], Card(name="wheat")).status == state
    assert indexer.catalogue.named("wheat") is None


def test_a_version_that_was_deleted_is_not_given_again(
    indexer: Indexer, adapters: list[Path], specifications: list[Specification]
) -> None:
    for folder in adapters[:2]:
        learnware = indexer.submit(folder, specifications[0], Card(name="wheat"))
    indexer.delete(learnware, "alice")
    assert list(indexer.store.ids()) == [one.id for one in indexer.catalogue.scroll().learnwares]
    assert indexer.submit(adapters[2], specifications[0], Card(name="wheat")).version == 3
    assert indexer.submit(adapters[1], specifications[0], Card(name="wheat")).version == 4


def test_a_refusal_is_recorded_with_its_reason_and_without_a_path(
    indexer: Indexer, adapter: Path, specifications: list[Specification], tmp_path: Path
) -> None:
    broken = shutil.copytree(adapter, tmp_path / "broken")
    (broken / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InvalidAdapter):
        indexer.submit(broken, specifications[0], Card(name="wheat"), who="alice")
    with pytest.raises(NotFound):
        indexer.adopt("f" * 64, specifications[0], Card(name="whole"))
    with pytest.raises(InvalidInput):
        indexer.adopt("../x", specifications[0], Card(name="whole"))
    third, second, first = indexer.history.changes()
    assert (first.name, first.state, first.who, first.version) == ("wheat", "refused", "alice", None)
    assert first.why.startswith("adapter_model.safetensors: ")
    assert (second.learnware, third.learnware) == ("f" * 64, "")
    assert str(tmp_path) not in "".join(one.why for one in (first, second, third))


def test_a_history_that_cannot_be_written_costs_no_change_and_is_said(
    indexer: Indexer, adapter: Path, specifications: list[Specification], caplog: pytest.LogCaptureFixture
) -> None:
    indexer.history.path.write_bytes(b"damaged")
    learnware = indexer.submit(adapter, specifications[0], Card(name="wheat"))
    moved = indexer.move(learnware, "retired", "alice")
    assert indexer.catalogue.get([learnware.id]) == [moved]
    indexer.delete(moved, "alice")
    assert indexer.catalogue.count() == 0
    said = [record.getMessage() for record in caplog.records if record.name.startswith("indexer")]
    assert [line.partition(":")[0] for line in said] == [
        "wheat",
        "done, but not recorded in the history (wheat submitted, wheat checked, wheat published)",
        "done, but not recorded in the history (wheat retired)",
        "done, but not recorded in the history (wheat deleted)",
    ]
    assert indexer.history.path.read_bytes() == b"damaged"


def test_the_record_says_what_a_specification_was_made_of(
    indexer: Indexer, adapter: Path, specifications: list[Specification]
) -> None:
    derived = indexer.submit(adapter, mark_derived(specifications[0]), Card(name="wheat"))
    assert derived.origin == "derived"
    assert [each.id for each in indexer.catalogue.everything(parse_filter("origin=derived"))] == [derived.id]
    assert list(indexer.catalogue.everything(parse_filter("origin=examples"))) == []
    real = indexer.submit(adapter, specifications[0], Card(name="wheat"))
    assert (real.id, real.version, real.origin) == (derived.id, 1, "examples")
    assert list(indexer.catalogue.everything(parse_filter("origin=derived"))) == []
