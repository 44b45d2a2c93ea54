"""``slmdock ingest-package`` on packages with files that learnware wrote."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from specification import SentenceEncoder, specify
from tests.indexer.hostile_packages import FIXTURES, SPECIFICATION, package_files, write_archive
from tests.serving import tiny
from tests.slmdock.test_cli import CommandLine, sentences, write_examples


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, encoder: SentenceEncoder) -> Path:
    """A base model, a package as an archive, and the same without a specification as a folder."""
    home = tmp_path_factory.mktemp("home")
    adapter = tiny.build_adapter(tiny.build_base(home / "base"), home / "adapter", 0)
    made = specify(sentences("farming", "Tell me about"), encoder, calibrated=False)
    files = package_files(adapter, made.to_bytes())
    write_archive(home / "wheat.zip", files)
    for name in files.keys() - {SPECIFICATION}:
        (home / "wheat" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "wheat" / name).write_bytes(files[name])
    return home


@pytest.fixture
def cli(home: Path, tmp_path: Path, encoder: SentenceEncoder) -> Iterator[CommandLine]:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("context", "dock"):
            patch.setattr(f"slmdock.{module}.SentenceEncoder", lambda name: encoder)
        (tmp_path / "temporary").mkdir()
        patch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        dock = CommandLine(tmp_path)
        dock("base", "add", tiny.BASE_NAME, home / "base")
        yield dock
        assert list((tmp_path / "temporary").iterdir()) == []


def test_packages_are_taken_in_and_found(cli: CommandLine, home: Path) -> None:
    done = cli("ingest-package", home / "wheat.zip", home / "wheat", FIXTURES / "pickled.zip", "--json", code=2)
    report = json.loads(done.stdout)
    (taken,) = report["accepted"]
    assert (taken["name"], taken["licence"], taken["languages"]) == ("Wheat-barley", "Apache-2.0", ["en"])
    refused = {each["item"]: each["reason"] for each in report["refused"]}
    assert list(refused) == [str(home / "wheat"), str(FIXTURES / "pickled.zip")]
    assert "RKMETextSpecification (1 x 384, gamma 0.1) in it, of another encoder" in refused[str(home / "wheat")]
    assert "'PickleLoadedModel'" in refused[str(FIXTURES / "pickled.zip")]
    task = write_examples(cli.home / "task.jsonl", sentences("farming", "What do I do with"))
    assert json.loads(cli("search", task, "--json").stdout)["ranked"][0]["learnware"]["id"] == taken["id"]
    assert json.loads(cli("ingest-package", home / "wheat.zip", "--json").stdout)["accepted"] == [taken]


def test_a_refusal_names_the_file_in_the_archive_and_no_temporary_folder(cli: CommandLine, home: Path) -> None:
    with ZipFile(home / "wheat.zip") as good, ZipFile(home / "broken.zip", "w") as broken:
        for name in good.namelist():
            broken.writestr(name, b"?" * 100 if name.endswith("adapter_model.safetensors") else good.read(name))
    said = cli("ingest-package", home / "broken.zip", code=2).stdout
    assert "adapter_model.safetensors: not a readable safetensors file" in said
    assert tempfile.gettempdir() not in said.replace(str(home), "")


def test_examples_make_up_for_statistics_that_cannot_be_compared(cli: CommandLine, home: Path) -> None:
    examples = write_examples(cli.home / "wheat.jsonl", sentences("farming", "Tell me about"))
    done = cli("ingest-package", home / "wheat", "--examples", examples)
    assert "1 in, 0 refused" in done.stdout
    assert json.loads(cli("show", "Wheat-barley", "--json").stdout)["sample_size"] == 24


def test_what_does_not_belong_together_or_is_not_there_is_refused(cli: CommandLine, home: Path) -> None:
    words = cli.fails("ingest-package", home / "wheat", home / "wheat.zip", "--examples", "x")
    assert "--examples is for one package" in words
    assert "no.zip: no such file" in cli("ingest-package", "no.zip", code=2).stdout
