"""Packages that learnware 0.4.0.post1 wrote (``make_packages.py``), with a real adapter or whole model in them."""

import json
import struct
from pathlib import Path
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer import Indexer, read_package
from indexer.archive import check_names, unpack
from indexer.package import PackageConfig, TextStatistics, _validated
from indexer.plain_yaml import read_yaml
from specification import SentenceEncoder, Specification, specify
from specification.errors import InvalidInput
from tests.indexer.hostile_packages import (
    FIXTURES,
    SEMANTICS,
    SPECIFICATION,
    STATISTICS,
    YAML,
    package_files,
    write_archive,
)
from tests.indexer.test_parsers import NAMES, VALUES, objects, patient, perhaps_refused
from tests.serving import tiny

CARD = {
    "name": "Wheat-barley", "description": "Answers questions on fields.", "domain": "Agriculture",
    "task_type": "text-generation", "licence": "Apache-2.0", "languages": ("en",),
    "tags": ("beimingwu:00000001", "Agriculture", "Education"), "owner": "unknown",
}  # fmt: skip


@pytest.fixture(scope="module")
def specification(encoder: SentenceEncoder) -> Specification:
    return specify([f"How high is hill number {number}?" for number in range(20)], encoder, calibrated=False)


@pytest.fixture(scope="module")
def files(adapter: Path, specification: Specification) -> dict[str, bytes]:
    return package_files(adapter, specification.to_bytes())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def as_folder(files: dict[str, bytes], folder: Path) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_an_adapter_is_taken_in_as_if_it_were_submitted(
    packed: bool, files: dict[str, bytes], adapter: Path, specification: Specification, indexer: Indexer,
    tmp_path: Path, place: Path,
) -> None:  # fmt: skip
    made = write_archive(tmp_path / "p.zip", files) if packed else as_folder(files, tmp_path / "p")
    submission = read_package(made, place)
    assert submission.card.model_dump() == CARD
    assert submission.specification is not None
    found = Specification.load(submission.specification)
    learnware = indexer.submit(submission.adapter, found, submission.card)
    assert learnware.specification_digest == specification.digest
    assert indexer.submit(adapter, specification, submission.card) == learnware


def test_a_whole_model_is_taken_in(files: dict[str, bytes], indexer: Indexer, tmp_path: Path, place: Path) -> None:
    model = tiny.build_base(tmp_path / "model", seed=1)
    others = {name: data for name, data in files.items() if not name.startswith("weights/")}
    others |= {f"weights/{file.name}": file.read_bytes() for file in model.iterdir()}
    submission = read_package(write_archive(tmp_path / "p.zip", others), place)
    assert submission.specification is not None
    assert indexer.submit(submission.adapter, Specification.load(submission.specification), submission.card).whole


def test_all_may_lie_at_the_top_as_learnware_packs_it(
    files: dict[str, bytes], tmp_path: Path, place: Path
) -> None:
    """``convert_folder_to_zipfile`` of learnware drops the folders."""
    flat = {name.rpartition("/")[2]: data for name, data in files.items()}
    submission = read_package(write_archive(tmp_path / "p.zip", flat), place)
    assert submission.adapter == place / "p.zip"
    assert submission.specification == place / "p.zip" / SPECIFICATION


def test_code_and_pickles_stay_in_the_archive(files: dict[str, bytes], tmp_path: Path, place: Path) -> None:
    more = {"weights/optimizer.pt": b"\x80\x04.", "environment.YAML": b"x", "run.sh": b"x"}
    read_package(write_archive(tmp_path / "p.zip", files | more), place)
    there = {path.relative_to(place / "p.zip").as_posix() for path in place.rglob("*") if path.is_file()}
    assert there == (files.keys() | {"environment.YAML"}) - {"__init__.py"}


def test_the_next_package_takes_the_place_of_the_last(
    files: dict[str, bytes], tmp_path: Path, place: Path
) -> None:
    for name in ("a.zip", "b.zip", "b.zip"):
        read_package(write_archive(tmp_path / name, files), place)
        assert [path.name for path in place.iterdir()] == [name]


def test_examples_stand_in_for_a_specification(files: dict[str, bytes], tmp_path: Path, place: Path) -> None:
    bare = {name: data for name, data in files.items() if name != SPECIFICATION}
    submission = read_package(as_folder(bare, tmp_path / "p"), place, tmp_path / "examples.jsonl")
    assert (submission.examples, submission.specification) == (tmp_path / "examples.jsonl", None)
    assert list(place.iterdir()) == []


def test_what_learnware_pickles_is_refused_with_what_it_holds(place: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_package(FIXTURES / "pickled.zip", place)
    assert "only the class 'PickleLoadedModel' and" in str(refused.value)
    assert "'model.pkl'" in str(refused.value)
    assert "nothing of it can be served" in str(refused.value)


def test_statistics_of_learnware_are_named_and_not_taken(
    files: dict[str, bytes], tmp_path: Path, place: Path
) -> None:
    yaml = files[YAML] + b"- {class_name: GenerativeModelSpecification, file_name: stat.pth}\n"
    bare = {name: data for name, data in files.items() if name != SPECIFICATION} | {YAML: yaml}
    with pytest.raises(InvalidInput) as refused:
        read_package(as_folder(bare, tmp_path / "p"), place)
    assert str(refused.value) == (
        f"{tmp_path / 'p'}: no specification that can be compared here: RKMETextSpecification (1 x 384, "
        "gamma 0.1), GenerativeModelSpecification in it, of another encoder and kernel or a pickle "
        "(docs/packages.md); give --examples with this one package, or put specification.safetensors, made with "
        "'slmdock spec', into it"
    )


@pytest.mark.parametrize(
    ("said", "name", "card"),
    [
        ({"Name": {"Values": "北冥坞"}}, "fields", {"description": "北冥坞"}),
        (
            {"Name": "x", "Scenario": {"Values": ["Others", 7, "Law"]}},
            "fields",
            {"domain": "Law", "tags": ("Law",)},
        ),
        ({"Name": {"Values": "-a\x1b[2J<b>c"}}, "a-2J-c", {"description": "-a[2J c"}),
        ({"License": {"Values": ["MIT", "BSD-3-Clause"]}}, "fields", {"licence": "MIT, BSD-3-Clause"}),
        ({"License": {"Values": None}, "Task": []}, "fields", {"licence": "unknown", "task_type": ""}),
        ({"Description": {"Values": "x" * 5000}}, "fields", {"description": "x" * 4000}),
        (None, "fields", {"description": "", "tags": ()}),
    ],
)
def test_cards_are_made_of_what_is_there(
    said: dict[str, object] | None, name: str, card: dict[str, object], files: dict[str, bytes], tmp_path: Path,
    place: Path,
) -> None:  # fmt: skip
    others = {key: data for key, data in files.items() if key != SEMANTICS} | {YAML: b"model: {kwargs: {a: 1}}"}
    if said is not None:
        others[SEMANTICS] = json.dumps(said).encode()
    found = read_package(write_archive(tmp_path / "fields.zip", others), place).card.model_dump()
    assert found["name"] == name
    assert {key: found[key] for key in card} == card


def test_entries_that_share_bytes_are_refused_wherever_they_lie(tmp_path: Path, place: Path) -> None:
    data = bytearray(write_archive(tmp_path / "p.zip", {"a.json": b"{}", "b.json": b"{}" * 9}).read_bytes())
    with ZipFile(tmp_path / "p.zip") as opened:
        start = opened.start_dir
    for offset in (1, 2**31, start - 10):
        struct.pack_into("<I", data, start + 42, offset)
        (tmp_path / "p.zip").write_bytes(data)
        with pytest.raises(InvalidInput, match="entries that overlap"):
            unpack(tmp_path / "p.zip", place, frozenset({".json"}))
    assert list(place.iterdir()) == []


def test_bytes_are_counted_as_they_come_out(tmp_path: Path, place: Path) -> None:
    """However many follow, no more are written than the header says."""
    data = bytearray(write_archive(tmp_path / "p.zip", {"a.json": bytes(2**22)}).read_bytes())
    with ZipFile(tmp_path / "p.zip") as opened:
        struct.pack_into("<I", data, opened.start_dir + 24, 10)
    (tmp_path / "p.zip").write_bytes(data)
    with pytest.raises(InvalidInput, match="does not have the 10 bytes"):
        unpack(tmp_path / "p.zip", place, frozenset({".json"}))
    assert (place / "a.json").stat().st_size <= 10


def test_an_archive_behind_other_bytes_is_read(tmp_path: Path, place: Path) -> None:
    """Such as one that unpacks itself; its program is never looked at."""
    data = write_archive(tmp_path / "p.zip", {"a/b.json": b"{}", "a/c.exe": b""}).read_bytes()
    (tmp_path / "p.zip").write_bytes(b"MZ" * 50 + data)
    assert unpack(tmp_path / "p.zip", place, frozenset({".json"})) == ["a/b.json", "a/c.exe"]
    assert (place / "a" / "b.json").read_bytes() == b"{}"


@patient
@given(st.lists(NAMES | st.text("aAſsS/.ﬁfiß\\", max_size=6), max_size=6))
def test_names_that_pass_lie_inside_and_apart(names: list[str]) -> None:
    with perhaps_refused():
        files = check_names(Path("p"), names)
        root = Path("/some/package")
        assert all(root in (root / file).resolve().parents for file in files)
        assert len({file.lower() for file in files}) == len(files)


@patient
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_spoilt_archives(tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[float, int]]) -> None:
    """Whatever bytes are changed, what is unpacked is what was packed, or the archive is refused in one line."""
    place = tmp_path_factory.mktemp("place")
    packed = {"a.json": b'{"a": 1}' * 20, "weights/b.json": b"{}", "c.py": b"exit()"}
    data = bytearray(write_archive(place / "p.zip", packed).read_bytes())
    for where, value in changes:
        data[int(where * len(data))] = value
    (place / "p.zip").write_bytes(data)
    (place / "out").mkdir()
    with perhaps_refused():
        unpack(place / "p.zip", place / "out", frozenset({".json"}))
        assert {path.read_bytes() for path in place.rglob("*.json")} <= set(packed.values())


@patient
@given(objects("id", "model", "stat_specifications", "semantic_specification", "class_name", "file_name") | VALUES)
def test_learnware_yaml(fields: object) -> None:
    with perhaps_refused():
        said = read_yaml(json.dumps({"model": fields, "stat_specifications": [fields]}), "learnware.yaml")
        assert len(_validated(PackageConfig, said, Path("learnware.yaml")).stat_specifications) == 1


@patient
@given(
    objects("type", "z", "beta", "gamma", "num_points", "language"), st.lists(st.lists(st.floats(), max_size=2))
)
def test_text_statistics(fields: dict[str, object], points: list[list[float]]) -> None:
    good = json.loads((FIXTURES / "adapter" / STATISTICS).read_text())
    with perhaps_refused():
        made = _validated(
            TextStatistics, good | {"z": points, "beta": [1.0] * len(points)} | fields, Path(STATISTICS)
        )
        assert str(made).startswith(f"RKMETextSpecification ({len(made.beta)} x")


@patient
@given(objects("Name", "Description", "Task", "License", "Scenario"), VALUES)
def test_semantic_specifications(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], fields: dict[str, object], value: object
) -> None:
    folder = tmp_path_factory.mktemp("package")
    said = {name: {"Values": each} for name, each in fields.items()} | {"Task": value}
    as_folder(files | {SEMANTICS: json.dumps(said).encode()}, folder)
    (folder / "place").mkdir()
    with perhaps_refused():
        assert read_package(folder, folder / "place").card.owner == "unknown"
