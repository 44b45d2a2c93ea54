"""Properties of every parser of what strangers hand in: whatever comes, it is taken or refused in one line."""

import contextlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogue import Card, Learnware, parse_card
from indexer import BaseModels, ReadyCheck, ingest, lm_eval_signals, model_card_signals, read_adapter
from indexer.adapter_config import AdapterConfig
from indexer.manifest import ReadyRow, Refusal, open_manifest
from indexer.model_card import completed
from indexer.variants import VARIANTS
from indexer.whole_model import _check_fields
from specification import SentenceEncoder, read_examples
from specification.errors import InvalidInput
from specification.files import parse_json
from tests.conftest import IDENTITY, make_specification

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BLANK = st.sampled_from(["", "\x1b[2J", "a\nb", "\ud800", "\u2028", "0" * 64, "../..", "none", "published"])
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 2**63, 2**64])
LEAVES = st.none() | st.booleans() | NUMBERS | st.text(max_size=20) | BLANK
NAMES = st.text(max_size=8) | BLANK
VALUES = st.recursive(LEAVES, lambda each: st.lists(each, max_size=4) | st.dictionaries(NAMES, each, max_size=4))
# How long one takes depends on what else the machine does.
patient = settings(deadline=None)


def objects(*names: str) -> st.SearchStrategy[dict[str, object]]:
    """Objects with some of these fields, whatever their values, and strange ones."""
    return st.dictionaries(st.sampled_from(names) | NAMES, VALUES, max_size=6)


@contextlib.contextmanager
def perhaps_refused() -> Iterator[None]:
    """Lets a refusal pass whose message is one line of some length."""
    message = "none"
    try:
        yield
    except InvalidInput as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    assert len(message) < 1500


@pytest.fixture(scope="module")
def place(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of an adapter, to be written over."""
    folder = tmp_path_factory.mktemp("place")
    for file in adapter.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@patient
@given(VALUES)
def test_json_comes_back_as_it_was(value: object) -> None:
    text = json.dumps(value)
    assert json.dumps(parse_json(text.encode())) == text


@patient
@given(st.binary(max_size=200))
def test_bytes_are_json_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_json(data)


@patient
@given(st.text(max_size=8), VALUES)
def test_a_field_twice_is_refused_wherever_it_stands(name: str, value: object) -> None:
    field = f"{json.dumps(name)}: {json.dumps(value)}"
    with pytest.raises(ValueError, match="stands twice"):
        parse_json(f'[{{"a": 1, "b": {{{field}, {field}}}}}]'.encode())


@patient
@given(objects(*Card.model_fields) | VALUES)
def test_cards(fields: object) -> None:
    with perhaps_refused():
        card = parse_card(fields)
        assert parse_card(card.model_dump()) == card


@patient
@given(objects(*AdapterConfig.model_fields, *VARIANTS, "init_lora_weights", "target_modules"))
def test_adapter_configurations(place: Path, adapter: Path, bases: BaseModels, fields: dict[str, object]) -> None:
    good = json.loads((adapter / CONFIG).read_text())
    (place / CONFIG).write_text(json.dumps(good | fields))
    with perhaps_refused():
        assert read_adapter(place, bases).base_model == good["base_model_name_or_path"]


@patient
@given(objects("dtype", "shape", "data_offsets"), st.booleans())
def test_safetensors_headers(
    place: Path, adapter: Path, bases: BaseModels, fields: dict[str, object], replaced: bool
) -> None:
    data = (adapter / WEIGHTS).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    name = max(header)
    header[name] = fields if replaced else header[name] | fields
    text = json.dumps(header).encode()
    (place / CONFIG).write_bytes((adapter / CONFIG).read_bytes())
    (place / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    try:
        with perhaps_refused():
            assert len(read_adapter(place, bases).id) == 64
    finally:
        (place / WEIGHTS).write_bytes(data)


@patient
@given(st.recursive(objects("auto_map", "num_hidden_layers", "x_file"), lambda each: st.lists(each, max_size=3)))
def test_fields_of_whole_models(fields: object) -> None:
    with perhaps_refused():
        _check_fields(fields, Path("config.json"))


@patient
@given(st.lists(objects("name", "adapter", "examples", "specification", "id") | VALUES, min_size=1, max_size=4))
def test_manifests_of_adapters(place: Path, encoder: SentenceEncoder, lines: list[object]) -> None:
    source = place / "manifest.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))

    def refuse(*_: object) -> Learnware:
        raise InvalidInput("not taken")

    with perhaps_refused():
        report = ingest(source, encoder, place / "cache", refuse)
        assert len(report.refused) == len(lines)
        assert all(len(reason.splitlines()) == 1 for _, reason in report.refused)


@patient
@given(st.lists(objects(*Learnware.model_fields, "specification") | VALUES, min_size=1, max_size=4))
def test_manifests_of_ready_learnwares(place: Path, lines: list[object]) -> None:
    (place / "good").write_bytes(b"x")
    good = [
        line | {"specification": "good"} if isinstance(line, dict) and len(line) % 2 else line for line in lines
    ]
    source = place / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, good)))
    items = [item for batch in open_manifest(source).batches for item in batch]
    assert [item.number for item in items] == list(range(1, len(lines) + 1))
    check = ReadyCheck(IDENTITY, frozenset(), None)
    said = {"sample_size": 10, "specification_digest": make_specification(1).digest, "privacy": "none"}
    for item in items:
        with perhaps_refused():
            if isinstance(item, Refusal):
                raise InvalidInput(item.reason)
            assert isinstance(item, ReadyRow)
            assert check.record(item.fields, said).sample_size == 10


TASKS = st.dictionaries(NAMES, objects("acc,none", "acc_stderr,none", "alias") | VALUES, max_size=3)


@patient
@given(TASKS | VALUES, VALUES)
def test_results_of_the_evaluation_harness(place: Path, results: object, more: object) -> None:
    tables = {name: dict.fromkeys(("a", "b"), more) for name in ("higher_is_better", "n-samples")}
    (place / "results.json").write_text(json.dumps({**tables, "date": more, "results": results}))
    with perhaps_refused():
        assert lm_eval_signals(place / "results.json")


INDEX = st.lists(objects("name", "results") | VALUES, max_size=2)
RESULTS = st.fixed_dictionaries(
    {
        "task": st.fixed_dictionaries({"type": VALUES}),
        "dataset": st.fixed_dictionaries({"type": VALUES, "name": VALUES}),
        "metrics": st.lists(st.fixed_dictionaries({"type": VALUES, "value": VALUES}), max_size=2),
    }
)
WHOLE_INDEX = st.lists(
    st.fixed_dictionaries({"name": VALUES, "results": st.lists(RESULTS, max_size=2)}), max_size=2
)


@patient
@given(objects("license", "license_name", "language", "tags", "datasets", "metrics", "pipeline_tag") | VALUES)
def test_front_matter_of_model_cards(place: Path, fields: object) -> None:
    (place / "README.md").write_text(f"---\n{json.dumps(fields)}\n---\n")
    with perhaps_refused():
        assert parse_card(completed({"name": "wheat"}, place)).name == "wheat"


@patient
@given(INDEX | WHOLE_INDEX | VALUES)
def test_model_indexes(place: Path, index: object) -> None:
    (place / "README.md").write_text(f"---\n{json.dumps({'model-index': index})}\n---\n")
    with perhaps_refused():
        assert model_card_signals(place / "README.md")


@patient
@given(st.lists(objects("text", "prompt", "answer") | VALUES, min_size=1, max_size=4))
def test_examples(place: Path, lines: list[object]) -> None:
    (place / "examples.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with perhaps_refused():
        for example in read_examples(place / "examples.jsonl"):
            assert f"{example.text}{example.answer}".encode()
