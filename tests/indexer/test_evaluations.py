import json
from pathlib import Path

import pytest

from indexer import lm_eval_signals, model_card_signals
from specification.errors import InvalidInput

RESULTS = {
    "results": {
        "fpb": {"alias": "fpb", "acc,none": 0.8422680412371134, "acc_stderr,none": 0.0117, "f1,none": "N/A"},
        "wikitext": {"alias": "wikitext", "word_perplexity,none": 12.3, "word_perplexity_stderr,none": "N/A"},
    },
    "group_subtasks": {"fpb": [], "wikitext": []},
    "higher_is_better": {"fpb": {"acc": True, "f1": True}, "wikitext": {"word_perplexity": False}},
    "n-samples": {"fpb": {"original": 970, "effective": 970}, "wikitext": {"original": 62, "effective": 62}},
    "model_name": "peft=adapter",
    "date": 1763660000.1,
}
CARD = """---
library_name: peft
license: apache-2.0
model-index:
- name: fpb-2
  results:
  - task:
      type: text-classification
    dataset:
      name: Financial PhraseBank
      type: takala/financial_phrasebank
      config: sentences_50agree
      split: test
    metrics:
    - type: accuracy
      value: 0.8443
      name: Accuracy
    - type: loss
      value: 0.41
  - task:
      type: text-classification
    dataset:
      name: FiQA
      type: fiqa
    metrics:
    - type: accuracy
      value: not measured
---
# A card
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "file"
    file.write_text(text)
    return file


def test_results_of_the_evaluation_harness(tmp_path: Path) -> None:
    fpb, wikitext = lm_eval_signals(write(tmp_path, json.dumps(RESULTS)), "base")
    assert (fpb.kind, fpb.subject, fpb.task, fpb.metric) == ("capability", "base", "fpb", "acc,none")
    assert (fpb.value, fpb.examples, fpb.higher_is_better) == (0.842268, 970, True)
    assert fpb.source == "lm-eval file 1763660000.1"
    assert (wikitext.task, wikitext.higher_is_better) == ("wikitext", False)


def test_older_results_without_the_extra_tables(tmp_path: Path) -> None:
    plain = {"results": RESULTS["results"]}
    fpb, wikitext = lm_eval_signals(write(tmp_path, json.dumps(plain)))
    assert (fpb.examples, fpb.higher_is_better) == (None, True)
    assert not wikitext.higher_is_better


def test_the_model_index_of_a_card(tmp_path: Path) -> None:
    accuracy, loss = model_card_signals(write(tmp_path, CARD))
    assert (accuracy.task, accuracy.metric) == ("takala/financial_phrasebank sentences_50agree test", "Accuracy")
    assert (accuracy.value, accuracy.higher_is_better) == (0.8443, True)
    assert (loss.metric, loss.higher_is_better) == ("loss", False)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"results": {}}', '{"results": {"a": {"acc,none": 1e300}}}'])
def test_what_is_no_results_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="file: "):
        lm_eval_signals(write(tmp_path, text))


@pytest.mark.parametrize("text", ["", "# only words", "---\nmodel-index: 7\n---\n", "---\n[: {\n---\n", "\0"])
def test_a_card_without_metrics_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"model card|model-index"):
        model_card_signals(write(tmp_path, text))


@pytest.mark.parametrize(
    ("front", "words"),
    [
        ("model-index: 7", "model-index of its model card cannot be read .TypeError"),
        ("model-index: [{name: a, results: [{}]}]", r"cannot be read .KeyError 'task'"),
        ("model-index: [[]]", "cannot be read"),
        ("model-index: []", "has no model-index with numbers"),
        ("a: &a [x, x]\nmodel-index: [*a, *a]", "file: front matter of the model card: YAML with an alias"),
        ("model-index: !!binary a", "not YAML that can be read"),
    ],
)
def test_a_model_index_that_is_none_is_refused_in_one_line(tmp_path: Path, front: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        model_card_signals(write(tmp_path, f"---\n{front}\n---\n"))
    assert len(str(refused.value).splitlines()) == 1


def test_an_error_without_words_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise StopIteration

    monkeypatch.setattr("indexer.evaluations.model_index_to_eval_results", fail)
    with pytest.raises(InvalidInput, match=r"cannot be read \(StopIteration\)"):
        model_card_signals(write(tmp_path, CARD))


def test_a_metric_whose_type_is_a_number(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="field 'metric'"):
        model_card_signals(write(tmp_path, CARD.replace("type: loss", "type: 7")))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        lm_eval_signals(tmp_path / "nothing")
