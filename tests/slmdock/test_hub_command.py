"""``slmdock ingest-hub`` against a double of the hub's HTTP interface."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session

from indexer.hub import LIMITS
from specification import SentenceEncoder, specify
from tests.indexer.fake_hub import FakeHub, fake_hub
from tests.serving import tiny
from tests.slmdock.test_cli import CommandLine, sentences, write_examples

README = "---\nlicense: mit\nlanguage: en\ntags: [farming]\n---\n# Wheat\n\nKnows wheat.\n"
FETCHED = ["adapter_config.json", "README.md", "specification.safetensors", "adapter_model.safetensors"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as hub:
        # What huggingface_hub makes of HF_ENDPOINT when it is imported.
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        close_session()
        yield hub
        close_session()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, encoder: SentenceEncoder) -> Path:
    """A base model, two adapters on it as repositories, and a specification for the first."""
    home = tmp_path_factory.mktemp("home")
    base = tiny.build_base(home / "base")
    for seed, topic in enumerate(("farming", "medicine")):
        folder = tiny.build_adapter(base, home / topic, seed)
        (folder / "README.md").write_text(README)
        (folder / "optimizer.pt").write_bytes(b"a pickle")
        specify(sentences(topic, "Tell me about"), encoder, calibrated=False).save(
            folder / "specification.safetensors"
        )
    return home


@pytest.fixture
def cli(home: Path, tmp_path: Path, encoder: SentenceEncoder) -> Iterator[CommandLine]:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("context", "dock"):
            patch.setattr(f"slmdock.{module}.SentenceEncoder", lambda name: encoder)
        dock = CommandLine(tmp_path)
        dock("base", "add", tiny.BASE_NAME, home / "base")
        yield dock


def files(folder: Path, **changed: bytes | None) -> dict[str, bytes]:
    """A repository's files, some exchanged or left out."""
    found = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    found |= {name.replace("__", "."): data for name, data in changed.items() if data is not None}
    return {name: data for name, data in found.items() if changed.get(name.replace(".", "__"), b"") is not None}


def test_ids_are_taken_in_at_a_commit_and_found(cli: CommandLine, home: Path, hub: FakeHub) -> None:
    commit = hub.push("us/wheat", files(home / "farming"))
    report = json.loads(cli("ingest-hub", "us/wheat", "--json").stdout)
    (taken,) = report["accepted"]
    assert report["refused"] == []
    assert (taken["name"], taken["owner"], taken["licence"]) == ("us--wheat", "us", "mit")
    assert taken["tags"] == [f"huggingface:us/wheat@{commit}", "farming"]
    assert taken["description"] == "Knows wheat."
    cli("submit", home / "farming", "--rename", "--specification", home / "farming" / "specification.safetensors")
    assert json.loads(cli("show", "farming", "--json").stdout)["id"] == taken["id"]
    task = write_examples(cli.home / "task.jsonl", sentences("farming", "What do I do with"))
    assert json.loads(cli("search", task, "--json").stdout)["ranked"][0]["learnware"]["id"] == taken["id"]
    assert hub.downloads() == FETCHED
    for _, path, headers in hub.asked:
        assert "authorization" not in headers
        assert "torch" not in headers["user-agent"]
        assert "/resolve/" not in path or f"/resolve/{commit}/" in path


def test_a_second_run_downloads_nothing_and_a_new_commit_is_a_new_version(
    cli: CommandLine, home: Path, hub: FakeHub
) -> None:
    old = hub.push("us/wheat", files(home / "farming"))
    first = json.loads(cli("ingest-hub", "us/wheat", "--json").stdout)
    assert json.loads(cli("ingest-hub", "us/wheat", "--json").stdout) == first
    assert hub.downloads() == FETCHED
    new = hub.push("us/wheat", files(home / "medicine"))
    (taken,) = json.loads(cli("ingest-hub", "us/wheat", "--json").stdout)["accepted"]
    assert (taken["version"], taken["tags"][0]) == (2, f"huggingface:us/wheat@{new}")
    # Pinned, the old one is taken in as it was.
    assert json.loads(cli("ingest-hub", f"us/wheat@{old}", "--json").stdout) == first


def test_a_search_takes_in_what_it_finds_and_an_interrupted_one_goes_on(
    cli: CommandLine, home: Path, hub: FakeHub
) -> None:
    tags = (f"base_model:adapter:{tiny.BASE_NAME}", "farming")
    hub.push("us/wheat", files(home / "farming"), *tags)
    hub.push("us/other-base", files(home / "farming"), "base_model:adapter:other")
    hub.push("us/untagged", files(home / "farming"), tags[0])
    hub.push("us/unspecified", files(home / "farming", specification__safetensors=None), *tags)
    hub.push("us/bones", files(home / "medicine"), *tags)
    hub.broken = {"adapter_model.safetensors"}
    done = cli("ingest-hub", "--base", tiny.BASE_NAME, "--tag", "farming", code=2).stdout
    assert done.count("could not be had (HfHubHTTPError: 403") == 2
    assert "us/unspecified: has no specification.safetensors; give --examples" in done
    assert "0 in, 3 refused" in done
    hub.broken, hub.asked = set(), []
    report = json.loads(cli("ingest-hub", "--base", tiny.BASE_NAME, "--tag", "farming", "--json", code=2).stdout)
    assert [each["name"] for each in report["accepted"]] == ["us--wheat", "us--bones"]
    assert [each["item"] for each in report["refused"]] == ["us/unspecified"]
    assert hub.downloads() == ["adapter_model.safetensors"] * 2
    limited = json.loads(cli("ingest-hub", "--base", tiny.BASE_NAME, "--limit", 1, "--json").stdout)
    assert [each["name"] for each in limited["accepted"]] == ["us--wheat"]
    assert "has no such adapter" in cli.fails("ingest-hub", "--base", "none")


def test_examples_stand_in_for_a_specification(
    cli: CommandLine, home: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = files(home / "farming", specification__safetensors=None, README__md=None)
    hub.push("wheat", bare)
    examples = write_examples(cli.home / "wheat.jsonl", sentences("farming", "Tell me about"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    (taken,) = json.loads(cli("ingest-hub", "wheat", "--examples", examples, "--json").stdout)["accepted"]
    assert (taken["name"], taken["owner"], taken["licence"]) == ("wheat", "unknown", "unknown")
    assert taken["sample_size"] == 24
    assert {headers["authorization"] for _, _, headers in hub.asked} == {"Bearer hf_secret"}


@pytest.mark.parametrize(
    ("changed", "said", "words"),
    [
        ({"adapter_config__json": None}, {}, "no adapter that PEFT saved"),
        ({"adapter_model__safetensors": None}, {}, "only optimizer.pt, which can run code"),
        ({"specification__safetensors": b"?"}, {}, "specification"),
        ({"adapter_model__safetensors": b"?"}, {}, "not a readable safetensors file"),
        ({"adapter_config__json": b"[]"}, {}, "adapter_config.json: a JSON list"),
        ({"README__md": b"---\n- a\n---\n"}, {}, "README.md: front matter of the model card: a YAML list"),
        ({"README__md": b"---\na: &a [x]\nb: *a\n---\n"}, {}, "YAML with an alias"),
        ({}, {"sha": "../../etc"}, "names no commit"),
        (
            {},
            {"siblings": [{"rfilename": "adapter_config.json"}]},
            "no weights; adapter_model.safetensors is needed",
        ),
        ({}, {"siblings": 7}, "could not be had"),
    ],
)
def test_one_bad_repository_is_refused_in_words(
    cli: CommandLine, home: Path, hub: FakeHub, changed: dict[str, bytes | None], said: dict[str, Any], words: str
) -> None:
    hub.push("us/bad", files(home / "farming", **changed))
    hub.said = said
    (refused,) = json.loads(cli("ingest-hub", "us/bad", "--json", code=2).stdout)["refused"]
    assert refused["item"] == "us/bad"
    assert words in refused["reason"]


@pytest.mark.parametrize("name", list(LIMITS))
def test_sizes_are_checked_before_any_download(cli: CommandLine, home: Path, hub: FakeHub, name: str) -> None:
    hub.push("us/large", files(home / "farming"))
    for size, words in (
        (LIMITS[name] + 1, f"{name} of {LIMITS[name] + 1} bytes, the limit"),
        (None, "does not say"),
    ):
        hub.said = {"siblings": [{"rfilename": each, "size": size if each == name else 1} for each in LIMITS]}
        (refused,) = json.loads(cli("ingest-hub", "us/large", "--json", code=2).stdout)["refused"]
        assert words in refused["reason"]
    assert hub.downloads() == []


def test_what_is_not_there_is_refused_in_words(cli: CommandLine, home: Path, hub: FakeHub) -> None:
    hub.push("us/wheat", files(home / "farming"))
    said = cli("ingest-hub", "us/none", "us/wheat@none", "../etc", "a/b/c", code=2).stdout
    assert "us/none at http://127.0.0.1" in said
    assert "not there, or private; check the id, or set HF_TOKEN" in said
    assert "has no such revision there" in said
    assert said.count("could not be had (HFValidationError") == 2
    assert "0 in, 4 refused" in said


def test_a_hub_that_is_none_or_cannot_be_reached_is_named(
    cli: CommandLine, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    done = cli("ingest-hub", "us/wheat", code=2)
    assert "us/wheat at http://127.0.0.1:9: could not be had (ConnectError" in done.stdout
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    close_session()
    assert "HF_HUB_OFFLINE is set; unset it" in cli("ingest-hub", "us/wheat", code=2).stdout


def test_options_that_do_not_belong_together_are_refused(cli: CommandLine, hub: FakeHub) -> None:
    for words in ((), ("us/wheat", "--base", "b")):
        assert "give either ids or a search" in cli.fails("ingest-hub", *words)
    assert "--limit is for a search" in cli.fails("ingest-hub", "us/wheat", "--limit", 3)
    assert "--examples is for one id" in cli.fails("ingest-hub", "a", "b", "--examples", "x")
    assert "--examples is for one id" in cli.fails("ingest-hub", "--tag", "b", "--examples", "x")
    assert hub.asked == []
