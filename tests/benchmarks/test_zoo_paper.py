"""The plan of the paper's configuration: counted sizes, the right names, and nothing asked of a network."""

import socket
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.zoo.dry_run import Amount, Sizes, Work, dry_run, gpus_for, measure, vllm_command
from benchmarks.zoo.hub import BASES, INSTRUCT, LARGE, LLAMA, QWEN, TRAINING_SETS, USER_TASKS, Base
from benchmarks.zoo.paper import plan
from benchmarks.zoo.recipes import COMBINED
from serving.vllm_options import LORA_RANKS
from slmdock import cli
from specification import Example
from specification.errors import InvalidInput
from tests.benchmarks.world import write

RANK = 16
FILES = {"finance": ("fpb", "fpb"), "medical": ("medqa_train", "anatomy"), "math": ("made_up", "gsm8k")}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three domains, a training set and a task each; 200 examples, 152 of which are trained on."""
    for domain, (trained, asked) in FILES.items():
        for part, name, count in (("train", trained, 200), ("user", asked, 4)):
            examples = [Example(f"{domain}, question number {each:03}:", "yes") for each in range(count)]
            write(tmp_path / domain / part / f"{name}.jsonl", examples)
    return tmp_path


@pytest.fixture(scope="module")
def sizes() -> dict[str, Sizes]:
    return {base.hub: measure(base, RANK, adapters=40) for base in (QWEN, LLAMA)}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Whatever is asked of a network, which is refused."""
    found: list[object] = []

    def refuse(*asked: object, **options: object) -> None:
        found.append(asked)
        raise OSError("no network in this test")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return found


def numbers_by_layer(base: Base) -> list[tuple[int, int]]:
    """Inputs and outputs of a layer's seven linear modules, from the architecture's description."""
    key_width = base.hidden // base.heads * base.kv_heads
    attention = [(base.hidden, base.hidden)] * 2 + [(base.hidden, key_width)] * 2
    return attention + [(base.hidden, base.intermediate)] * 2 + [(base.intermediate, base.hidden)]


@pytest.mark.parametrize(("base", "published"), [(QWEN, 7.62e9), (LLAMA, 8.03e9)], ids=["qwen", "llama"])
def test_parameters_are_those_that_the_models_are_known_for(
    base: Base, published: float, sizes: dict[str, Sizes]
) -> None:
    found = sizes[base.hub]
    assert found.parameters == pytest.approx(published, rel=1e-3)
    layer = numbers_by_layer(base)
    assert found.adapter_parameters == base.layers * RANK * sum(map(sum, layer))
    assert found.gpu.weight_bytes == pytest.approx(2 * found.parameters, rel=1e-3)
    assert found.gpu.adapter_bytes == 2 * found.adapter_parameters
    assert found.gpu.kv_bytes_a_token == 2 * 2 * base.layers * base.hidden // base.heads * base.kv_heads


def test_everything_fits_the_gpu(sizes: dict[str, Sizes]) -> None:
    for found in (each.gpu for each in sizes.values()):
        parts = found.weight_bytes + found.activation_bytes + found.reserve_bytes
        assert parts + found.slots_bytes + found.kv_bytes == found.usable_bytes
        assert found.max_loras >= 40


def test_vllm_is_started_for_a_gpu(sizes: dict[str, Sizes]) -> None:
    words = vllm_command(QWEN.hub, sizes[QWEN.hub].gpu)
    options = dict(pairwise(words))
    assert options["--served-model-name"] == QWEN.hub
    assert int(options["--max-lora-rank"]) in LORA_RANKS
    assert int(options["--max-loras"]) == sizes[QWEN.hub].gpu.max_loras
    assert "--enable-lora" in words
    assert "--enforce-eager" not in words


def test_tokens_and_hours() -> None:
    found = Amount.of([Example("12 + 3 = ", "15")])
    assert found == Amount(1, 5 + 6 / 4)
    assert Amount.total([found, found]) == Amount(2, 2 * found.tokens)
    one = Work("", parameters=1e9, tokens=1e6, flops=4)
    assert one.hours == pytest.approx(4e15 / (0.4 * 312e12) / 3600)


def test_large_models_need_several_gpus() -> None:
    assert {each.hub: gpus_for(each.parameters) for each in LARGE} == {
        "Qwen/Qwen1.5-110B": 3, "Qwen/Qwen2.5-72B": 2, "meta-llama/Llama-3.1-70B-Instruct": 2,
    }  # fmt: skip


def test_the_dry_run_makes_the_zoos_recipes(data: Path) -> None:
    found = dry_run(data)
    assert {key: each.examples for key, each in found.trained.items()} == {
        "finance-fpb": 152, "medical-medqa_train": 152, "math-made_up": 152,
    }  # fmt: skip
    assert len(found.adapters) == 4 * len(FILES)
    assert not found.recipes[INSTRUCT.hub]
    assert sorted({each.rate for each in found.adapters}) == pytest.approx([1e-4, 2e-4])
    trained = [each for each in found.work() if each.name.startswith("train")]
    # Three digits, and 29 or 26 other bytes.
    tokens = {"finance": 3 + 29 / 4, "medical": 3 + 29 / 4, "math": 3 + 26 / 4}
    seen = sum(16 * each.steps * tokens[each.name.partition("-")[0]] for each in found.adapters)
    assert sum(each.tokens for each in trained) == pytest.approx(seen)
    read = [each for each in found.work() if each not in trained]
    asked = sum(each.tokens for tasks in found.users.values() for each in tasks.values())
    assert sum(each.tokens for each in read) == pytest.approx(
        (len(found.adapters) + len(BASES) + len(LARGE)) * asked
    )


def test_every_set_of_the_zoos_combinations_has_a_hub_id() -> None:
    known = {f"{domain}-{name}" for domain, sets in TRAINING_SETS.items() for name in sets}
    assert known.issuperset(part for parts in COMBINED.values() for part in parts)


def test_the_plan_names_everything_and_says_what_it_is(data: Path, calls: list[object]) -> None:
    text = plan(data)
    assert not calls
    assert text.startswith("The paper's configuration: a plan. Nothing is downloaded, trained or asked.")
    hubs = [each.hub for each in (*BASES, *LARGE)]
    hubs += [hub for sets in TRAINING_SETS.values() for hub in sets.values()]
    hubs += [hub.partition(",")[0] for tasks in USER_TASKS.values() for hub in tasks.values()]
    assert not [hub for hub in hubs if hub not in text]
    for part in ("7,615,616,512", "8,030,261,248", "not of the paper", "--max-lora-rank 16", "assumed"):
        assert part in text
    told = " ".join(text.split())
    assert "12 adapters, 3 of them poor on purpose" in told
    assert "PyTorch finds" in told.partition("Whether a hub can be reached was not tried.")[0]
    assert str(data) not in text
    assert max(map(len, text.splitlines())) <= 115


def test_the_command_prints_the_plan(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["slmdock", "bench", "zoo", "--data", str(data), "--scale", "paper"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert capsys.readouterr().out.startswith("The paper's configuration: a plan.")


def test_a_missing_folder_is_named(data: Path) -> None:
    (data / "math").rename(data / "maths")
    with pytest.raises(SystemExit, match=r"error: no folder 'math' in .*; domains there: .*maths"):
        plan(data)


def test_too_few_examples_are_refused(data: Path) -> None:
    file = data / "medical" / "train" / "medqa_train.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[:100]))
    with pytest.raises(InvalidInput, match="medical: no training set of 144 examples"):
        plan(data)
