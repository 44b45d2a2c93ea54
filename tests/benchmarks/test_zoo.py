"""The whole zoo at its smallest, with real training and a real vLLM: `make slow` runs it, in about ten minutes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

from benchmarks.zoo.results import ORACLE
from benchmarks.zoo.run import Zoo
from benchmarks.zoo.scale import SCALES, TINY
from slmdock.cli import app
from specification.errors import InvalidInput
from tests.benchmarks.world import write_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def made(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run by the command."""
    folder = tmp_path_factory.mktemp("zoo") / "tiny"
    found = CliRunner().invoke(app, ["bench", "zoo", "--data", str(world), "--folder", str(folder)])
    assert found.exit_code == 0, found.output
    printed = json.loads(found.output.splitlines()[-1])
    assert printed["averages"].keys() == json.loads((folder / "results.json").read_bytes())["averages"].keys()
    return folder


def test_everything_was_measured(made: Path) -> None:
    found = json.loads((made / "results.json").read_bytes())
    assert found["learnwares"] == 12
    assert len(found["tasks"]) == 6
    averages = found["averages"]["all tasks"]
    assert averages[ORACLE]["mean"] >= max(each["mean"] for each in averages.values())
    assert (made / "tables.md").read_text().count("|") > 100
    assert all((made / name).read_text().startswith("<?xml") for name in ("zoo-radar.svg", "zoo-bars.svg"))


def test_vllm_answers_as_the_weights_say(made: Path, world: Path) -> None:
    """The judge: an adapter by PEFT, the likeliest of all choices by their whole log-likelihood."""
    zoo = Zoo(made, world, TINY)
    recipe = zoo.shop.recipes[0]
    model = LlamaForCausalLM.from_pretrained(zoo.shop.model(recipe.base), dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, str(zoo.shop.adapter(recipe)))
    said = json.loads((made / "answers" / "test" / f"{recipe.name}.json").read_bytes())["rights"]
    agreed = []
    for task in (each for each in zoo.tasks if each.labels):
        prompts = zoo.shop.tokens.prompts([each.text for each in task.test])
        options = zoo.shop.tokens.answers(task.labels)
        if len({option[0] for option in options}) < len(options):
            continue
        for prompt, example, right in zip(prompts, task.test, said[task.key], strict=True):
            with torch.inference_mode():
                logits = adapted(input_ids=torch.tensor([prompt])).logits[0, -1]
            best = task.labels[int(logits[[option[0] for option in options]].argmax())]
            agreed.append(int(best == example.answer) == right)
    # vLLM computes in bfloat16, so near ties may fall the other way.
    assert len(agreed) >= 60
    assert np.mean(agreed) > 0.95


def test_what_is_done_is_not_done_again(made: Path, world: Path) -> None:
    # Not the dock, which is made anew each time.
    kept = [file for part in ("models", "adapters", "answers") for file in made.glob(f"{part}/*/*.json")]
    assert len(kept) > 50
    before = {file: file.stat().st_mtime_ns for file in kept}
    again = Zoo(made, world, TINY)
    starts = [stage for stage in again.manifest["seconds"] if stage.startswith("start ")]
    spent = {stage: again.manifest["seconds"][stage] for stage in starts}
    again.run()
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert {stage: again.manifest["seconds"][stage] for stage in starts} == spent


def test_other_settings_are_refused(made: Path, world: Path) -> None:
    with pytest.raises(InvalidInput, match="its fingerprint is not today's"):
        Zoo(made, world, SCALES["small"])
