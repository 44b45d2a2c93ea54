from pathlib import Path

import pytest

from catalogue import Card
from indexer.model_card import card_prompts, completed, hub_card
from specification.errors import InvalidInput

COMMIT = "0123456789" * 4
SOURCE = f"huggingface:some-one/wheat@{COMMIT}"

README = """---
license: apache-2.0
language: [en, no]
base_model: tiny-base
pipeline_tag: text-generation
tags:
- lora
- 7
- {a: b}
- farming
---
# Wheat

<img src='x' onerror='y'>

[More Information Needed]

## About
Knows <b>wheat</b>
and <script>rye</script>.

More.
"""


def card(folder: Path, text: str | bytes, model: str = "some-one/wheat") -> Card:
    file = folder / "README.md"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return hub_card(model, COMMIT, file)


def test_what_the_front_matter_and_the_first_prose_say(tmp_path: Path) -> None:
    assert card(tmp_path, README.replace("\n", "\r\n")) == card(tmp_path, README)
    assert card(tmp_path, README) == Card(
        name="some-one--wheat",
        description="Knows wheat and rye .",
        task_type="text-generation",
        licence="apache-2.0",
        languages=("en", "no"),
        tags=(SOURCE, "base_model:tiny-base", "lora", "farming"),
        owner="some-one",
    )


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: [mit, apache-2.0]", "mit, apache-2.0"),
        ("license: other\nlicense_name: our-own", "our-own"),
        ("license: other", "other"),
        ("license: {a: b}", "unknown"),
        ("license:", "unknown"),
        ("license: ''", "unknown"),
        ('license: "<b>m</b>i\\e[31mt\\0"', "m i[31mt"),
        ("license: " + "x" * 500, "x" * 200),
        ("", "unknown"),
    ],
)
def test_licences(tmp_path: Path, front: str, licence: str) -> None:
    assert card(tmp_path, f"---\n{front}\n---\n").licence == licence


def test_without_a_model_card_or_front_matter_the_source_is_known(tmp_path: Path) -> None:
    bare = Card(name="wheat", licence="unknown", tags=(f"huggingface:wheat@{COMMIT}",), owner="unknown")
    assert hub_card("wheat", COMMIT, tmp_path / "none") == bare
    assert card(tmp_path, "Only words.", "_wheat").model_copy(update={"tags": bare.tags}) == bare.model_copy(
        update={"description": "Only words."}
    )


def test_long_and_strange_texts_are_cut_and_cleaned(tmp_path: Path) -> None:
    found = card(tmp_path, "---\ntags: [" + "a, " * 500 + "]\n---\n" + "<" * 1000 + "words \x1b" * 2000)
    assert len(found.tags) == 50
    assert len(found.description) == 4000
    assert found.description.startswith("words words")
    assert card(tmp_path, b"---\nlicense: m\xfft\n---\n\xff\xfe").licence == "m\ufffdt"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("---\n- a\n---\n", "a YAML list, expected a mapping"),
        ("---\na: &a [x]\nb: [*a, *a]\n---\n", "YAML with an alias"),
        ("---\na: [\n---\n", "not YAML"),
        ("x" * (2**20 + 1), "more than 1048576 bytes"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        card(tmp_path, text)
    assert "README.md" in str(refused.value)


def test_a_name_that_learnwares_cannot_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'auto' is reserved"):
        card(tmp_path, "", "auto")


@pytest.mark.parametrize(
    ("front", "prompts"),
    [
        ("widget: [{text: ' How much wheat? '}, {text: 7}, {}, x, {text: '  '}]", ["How much wheat?"]),
        ("widget: [{messages: [{role: user, content: 'Rye?'}]}, {messages: []}, {messages: x}]", ["Rye?"]),
        ("widget: wheat", []),
        ("license: mit", []),
        (f"widget: [{', '.join(f'{{text: w{number}}}' for number in range(200))}]", [f"w{n}" for n in range(100)]),
    ],
)
def test_prompts_are_those_of_the_widgets(tmp_path: Path, front: str, prompts: list[str]) -> None:
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# Wheat\n")
    assert card_prompts(tmp_path / "README.md") == prompts


def test_without_a_card_there_are_no_prompts(tmp_path: Path) -> None:
    assert card_prompts(tmp_path / "README.md") == []
    (tmp_path / "README.md").write_text("---\n[\n---\n")
    with pytest.raises(InvalidInput, match="front matter of the model card"):
        card_prompts(tmp_path / "README.md")


FRONT = """---
base_model: /home/somebody/base
license: apache-2.0
language: en
datasets: [some-one/fields, {a: b}]
metrics:
- accuracy
tags: [base_model:adapter:/home/somebody/base, farming]
pipeline_tag: text-generation
---
# Wheat

Knows wheat.
"""
FACTS = {
    "licence": "apache-2.0",
    "languages": ["en"],
    "tags": ["farming", "dataset:some-one/fields", "metric:accuracy"],
    "task_type": "text-generation",
}


def test_a_model_card_fills_what_a_card_leaves_empty(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(FRONT)
    assert completed({"name": "wheat"}, tmp_path) == {"name": "wheat", **FACTS}
    empty = {"name": "wheat", "licence": "", "languages": [], "tags": [], "task_type": ""}
    assert completed(empty, tmp_path) == {"name": "wheat", **FACTS}
    said = {"name": "wheat", "licence": "mit", "languages": ["de"], "tags": ["crops"], "task_type": "qa"}
    assert completed(said, tmp_path) == said
    # What is no card is for the card's own check to refuse.
    assert completed({"licence": None, "tags": 7}, tmp_path) == {**FACTS, "licence": None, "tags": 7}
    # The hub's own cards tell the base model, and say the rest alike.
    found = hub_card("some-one/wheat", COMMIT, tmp_path / "README.md")
    assert found.tags[1:3] == ("base_model:/home/somebody/base", "base_model:adapter:/home/somebody/base")
    assert found.tags[3:] == tuple(FACTS["tags"])


def test_without_a_model_card_a_card_stays_as_it_is(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        assert completed({"name": "wheat"}, folder) == {"name": "wheat"}
    (tmp_path / "README.md").write_text("Only words.")
    assert completed({"name": "wheat"}, tmp_path)["licence"] == "unknown"


def test_a_model_card_that_cannot_be_read_is_refused_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(InvalidInput, match=rf"{tmp_path}/README.md: front matter of the model card: not YAML"):
        completed({"name": "wheat"}, tmp_path)
