import shutil
from pathlib import Path

import pytest

from catalogue import Card, Learnware
from indexer import Indexer, export
from specification import SentenceEncoder, Specification, specify
from specification.errors import InvalidInput


@pytest.fixture(scope="module")
def specification(encoder: SentenceEncoder) -> Specification:
    return specify([f"Tell me about wheat, part {part}." for part in range(8)], encoder, calibrated=False)


@pytest.fixture
def learnwares(indexer: Indexer, adapters: list[Path], specification: Specification) -> list[Learnware]:
    """Three adapters that are in, in order of id."""
    made = [indexer.submit(each, specification, Card(name=f"{each.name}..model")) for each in adapters]
    return sorted(made, key=lambda each: each.id)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def folder_of(learnware: Learnware) -> str:
    return f"{learnware.name.replace('..', '._')}@{learnware.id[:16]}"


def test_a_second_run_writes_nothing(indexer: Indexer, learnwares: list[Learnware], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    first = export(indexer.catalogue, indexer.store, tmp_path / "out", progress=lambda *at: seen.append(at))
    assert first.written == [folder_of(each) for each in learnwares]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = export(indexer.catalogue, indexer.store, tmp_path / "out")
    assert (again.written, again.unchanged, again.refused) == ([], first.written, [])
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_an_interrupted_run_leaves_whole_folders_and_is_resumed(
    indexer: Indexer, learnwares: list[Learnware], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, copied = shutil.copyfile, []

    def stop_at_fourth(source: Path, target: Path) -> None:
        copied.append(target)
        if len(copied) == 4:
            raise KeyboardInterrupt
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", stop_at_fourth)
    with pytest.raises(KeyboardInterrupt):
        export(indexer.catalogue, indexer.store, tmp_path / "out")
    monkeypatch.undo()
    assert names(tmp_path / "out") == [folder_of(learnwares[0])]
    # What a kill would leave.
    (tmp_path / "out" / f".{folder_of(learnwares[1])}.part" / "half").mkdir(parents=True)
    report = export(indexer.catalogue, indexer.store, tmp_path / "out")
    assert (len(report.unchanged), len(report.written)) == (1, 2)
    assert names(tmp_path / "out") == sorted(map(folder_of, learnwares))
    files = ["adapter_config.json", "adapter_model.safetensors", "learnware.json", "record.json"]
    for folder in (tmp_path / "out").iterdir():
        assert names(folder) == [*files, "specification.safetensors"]


@pytest.mark.parametrize("name", ["learnware.json", "specification.safetensors", "adapter_model.safetensors"])
def test_what_is_there_and_different_stays_as_it_is(
    indexer: Indexer, learnwares: list[Learnware], tmp_path: Path, name: str
) -> None:
    file = tmp_path / folder_of(learnwares[0]) / name
    export(indexer.catalogue, indexer.store, tmp_path, learnwares[:1])
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    changed = file.read_bytes()
    (refused,) = export(indexer.catalogue, indexer.store, tmp_path, learnwares[:1]).refused
    assert refused[0] == folder_of(learnwares[0])
    assert refused[1].startswith(f"{file}: there already, and different; move the folder away")
    assert file.read_bytes() == changed
    file.unlink()
    assert len(export(indexer.catalogue, indexer.store, tmp_path, learnwares[:1]).refused) == 1


def test_one_without_artefact_or_room_is_refused_and_the_rest_written(
    indexer: Indexer, learnwares: list[Learnware], tmp_path: Path
) -> None:
    indexer.store.delete(learnwares[0].id)
    out = tmp_path / "out"
    out.mkdir()
    (out / f".{folder_of(learnwares[1])}.part").write_text("in the way")
    report = export(indexer.catalogue, indexer.store, out)
    assert [label for label, _ in report.refused] == [folder_of(each) for each in learnwares[:2]]
    assert "is not in the store" in report.refused[0][1]
    assert report.written == [folder_of(learnwares[2])]


def test_a_target_that_is_a_file_is_refused(indexer: Indexer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot be made"):
        export(indexer.catalogue, indexer.store, tmp_path / "file" / "out")
