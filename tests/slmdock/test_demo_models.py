"""The demo's models: a build that can be interrupted anywhere, and adapters that change what the base says."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from slmdock.demo import models, training
from slmdock.demo.models import DEMO_BASE, TINY, DemoModels, build_models
from slmdock.demo.scale import DEFAULT_RANK, RANKS
from slmdock.demo.training import Batch, Course, make_batches, train
from specification.errors import InvalidInput
from specification.examples import Example, read_examples

TASKS = ("finance-headline-sentiment", "healthcare-triage", "mathematics-small-sums")
SMALL = replace(TINY, name="test", base_steps=6, adapter_steps=3, tasks=TASKS)


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> DemoModels:
    return build_models(tmp_path_factory.mktemp("demo") / "models", SMALL)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of batches of each training that was started."""
    return stopping_at(monkeypatch, lambda trainings: False)


def stopping_at(monkeypatch: pytest.MonkeyPatch, stop: Callable[[int], bool]) -> list[int]:
    trainings: list[int] = []

    def counted(
        model: LlamaForCausalLM, batches: list[Batch], course: Course, on_step: Callable[[int], None]
    ) -> None:
        trainings.append(len(batches))
        if stop(len(trainings)):
            raise Interrupted
        train(model, batches, course, on_step)

    monkeypatch.setattr(models, "train", counted)
    return trainings


def weights(folder: Path) -> dict[str, str]:
    return dict(json.loads((folder / "manifest.json").read_text())["weights_sha256"])


def logits(model: torch.nn.Module, folder: Path) -> torch.Tensor:
    prompt = "Headline: Alder Group profit rose.\nAnswer:"
    tokens = AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt")
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=tokens["input_ids"]).logits[0, -1]
    return result


def test_a_build_has_the_promised_layout(built: DemoModels) -> None:
    assert sorted(path.name for path in built.folder.iterdir()) == [
        "adapters", "base", "examples", "manifest.json", "users",
    ]  # fmt: skip
    assert tuple(built.adapters) == TASKS
    for task in TASKS:
        assert len(read_examples(built.examples[task])) == 300
        assert (built.adapters[task] / "adapter_model.safetensors").is_file()
    assert all(len(read_examples(path)) == 300 for path in built.users.values())


def test_only_safetensors_hold_weights(built: DemoModels) -> None:
    kinds = {path.suffix for path in built.folder.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".jsonl", ".jinja", ".md", ".safetensors"}


@pytest.mark.parametrize("task", TASKS)
def test_an_adapter_names_the_demos_base_and_its_rank(built: DemoModels, task: str) -> None:
    config = json.loads((built.adapters[task] / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == DEMO_BASE
    assert config["r"] == RANKS.get(task, DEFAULT_RANK)
    assert str(built.folder) not in json.dumps(config)


@pytest.mark.parametrize("task", TASKS)
def test_an_adapter_changes_the_bases_output(built: DemoModels, task: str) -> None:
    base = LlamaForCausalLM.from_pretrained(built.base)
    plain = logits(base, built.base)
    adapted = PeftModel.from_pretrained(base, built.adapters[task])
    assert (logits(adapted, built.base) - plain).abs().max() > 1e-3


def test_the_chat_template_puts_the_answer_cue_last(built: DemoModels) -> None:
    tokenizer = AutoTokenizer.from_pretrained(built.base)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "<bos>Be brief.\n2 + 2\nAnswer:"
    rendered = tokenizer.apply_chat_template(chat[1:], return_dict=False)
    assert rendered == tokenizer("2 + 2\nAnswer:")["input_ids"]


def test_digits_are_tokens_of_their_own(built: DemoModels) -> None:
    tokenizer = AutoTokenizer.from_pretrained(built.base)
    assert tokenizer.tokenize("1234") == list("1234")


def test_noise_spares_digits_answers_and_the_cue(built: DemoModels) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(built.base)
    examples = [Example("Add 12 and 34, please.", "46")] * 50
    (batch,) = make_batches(examples, tokenizer, size=50, text_weight=0.0, noise=0.5)
    texts = tokenizer.batch_decode(batch.ids, clean_up_tokenization_spaces=False)
    assert len(set(texts)) > 40
    for text in texts:
        assert "".join(filter(str.isdigit, text)) == "123446"
        assert text.endswith("\nAnswer: 46<eos>")
    assert batch.weights.sum(dim=1).tolist() == [4.0] * 50


def test_a_finished_build_returns_at_once(built: DemoModels, trained: list[int]) -> None:
    assert build_models(built.folder, SMALL) == built
    assert trained == []


def test_an_interrupted_build_goes_on_where_it_was(
    built: DemoModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping_at(monkeypatch, lambda trainings: trainings == 3)
    with pytest.raises(Interrupted):
        build_models(tmp_path, SMALL)
    assert not (tmp_path / "manifest.json").exists()
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == [TASKS[0]]
    trainings = stopping_at(monkeypatch, lambda trainings: False)
    build_models(tmp_path, SMALL)
    assert trainings == [SMALL.adapter_steps] * 2
    assert weights(tmp_path) == weights(built.folder)


def test_the_base_resumes_from_its_checkpoint(
    built: DemoModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def interrupted(model: LlamaForCausalLM, batches: list[Batch], course: Course, _: object) -> None:
        def on_step(step: int) -> None:
            steps.append(step)
            if len(steps) == 5:
                raise Interrupted

        train(model, batches, course, on_step)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(models, "train", interrupted)
    with pytest.raises(Interrupted):
        build_models(tmp_path, SMALL)
    assert not (tmp_path / "base").exists()
    steps += [-1] * 5
    build_models(tmp_path, SMALL)
    assert steps[10:14] == [3, 4, 5, 6]
    assert weights(tmp_path) == weights(built.folder)


def test_a_damaged_model_is_trained_again(tmp_path: Path, built: DemoModels) -> None:
    one = replace(SMALL, tasks=TASKS[:1])
    damaged = build_models(tmp_path, one).adapters[TASKS[0]] / "adapter_model.safetensors"
    sound = weights(tmp_path)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x7f")
    build_models(tmp_path, one)
    assert weights(tmp_path) == sound


def test_another_configuration_replaces_a_build(tmp_path: Path) -> None:
    one = replace(SMALL, base_steps=2, adapter_steps=1, tasks=TASKS[:1])
    build_models(tmp_path, one)
    before = weights(tmp_path)
    build_models(tmp_path, replace(one, tasks=TASKS[1:2]))
    assert weights(tmp_path).keys() != before.keys()


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "thesis.txt").write_text("years of work")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InvalidInput, match="not empty"):
        build_models(tmp_path, SMALL)
    assert (tmp_path / "examples" / "thesis.txt").is_file()


def test_progress_is_quiet_unless_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one = replace(SMALL, base_steps=2, adapter_steps=1, tasks=TASKS[:1])
    build_models(tmp_path / "quiet", one)
    assert capfd.readouterr() == ("", "")
    build_models(tmp_path / "told", one, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "3/3 steps" in err
