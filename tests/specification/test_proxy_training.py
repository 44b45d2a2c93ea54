from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from specification import Recipe, Tuning
from specification.errors import InvalidExamples, ProxyError
from specification.examples import Example
from specification.proxy import Adapted, Proxy, Row
from specification.proxy_training import adaptive, gradient, specify_parameters, tuned
from tests.serving import tiny

EXAMPLES = [Example(f"seven wizards make {word}", f"brew {word}") for word in ("toxic", "lazy", "quick", "dog")]
SMALL = Recipe(rank=2, form="gradient")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Proxy:
    return Proxy(str(tiny.build_base(tmp_path_factory.mktemp("proxy") / "base")), max_tokens=64)


def loss_at(adapted: Adapted, rows: list[Row], values: np.ndarray) -> float:
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(torch.from_numpy(values), adapted.matrices)
        return float(adapted.losses(rows).double().mean())


def test_the_gradient_form_is_the_slope_of_the_loss(proxy: Proxy) -> None:
    adapted, rows = proxy.adapted(SMALL), proxy.rows(EXAMPLES, answers=True)
    direction = gradient(proxy, adapted, rows)
    assert len(direction) == adapted.size == 2 * 3 * 64 * 2
    step = (1e-2 * direction / np.linalg.norm(direction)).astype(np.float32)
    slope = (loss_at(adapted, rows, step) - loss_at(adapted, rows, -step)) / 2e-2
    assert slope == pytest.approx(-np.linalg.norm(direction), rel=0.02)


def test_the_gradient_form_is_one_step_of_descent(proxy: Proxy) -> None:
    rows = proxy.rows(EXAMPLES, answers=True)
    direction = gradient(proxy, proxy.adapted(SMALL), rows)
    adapted = proxy.adapted(SMALL)
    adapted.losses(rows).mean().backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(adapted.matrices, lr=1e-3).step()
    moved = torch.nn.utils.parameters_to_vector(adapted.matrices).detach().numpy()
    assert moved == pytest.approx(1e-3 * direction, abs=1e-7)


def test_the_adaptive_form_divides_by_the_root_mean_square(proxy: Proxy) -> None:
    rows = proxy.rows(EXAMPLES, answers=True)
    each = np.stack([gradient(proxy, proxy.adapted(SMALL), [row]) for row in rows])
    expected = each.mean(axis=0) / np.sqrt(np.maximum((each**2).mean(axis=0), 1e-30))
    assert adaptive(proxy.adapted(SMALL), rows) == pytest.approx(expected, abs=1e-3)


def test_training_begins_where_the_gradient_points(proxy: Proxy) -> None:
    rows = proxy.rows(EXAMPLES, answers=True)
    direction = gradient(proxy, proxy.adapted(SMALL), rows)
    once = tuned(proxy.adapted(SMALL), rows, Tuning(steps=1, rate=1e-4, l1=0, batch=len(rows)))
    assert np.array_equal(np.sign(once), np.sign(direction))


def test_penalties_shrink(proxy: Proxy) -> None:
    rows = proxy.rows(EXAMPLES, answers=True)

    def size(l1: float, l2: float) -> float:
        tuning = Tuning(steps=20, rate=1e-2, l1=l1, l2=l2)
        return float(np.abs(tuned(proxy.adapted(SMALL), rows, tuning)).sum())

    free = size(0, 0)
    assert size(1, 0) < 0.9 * free
    assert size(0, 5) < 0.9 * free


def test_the_seed_alone_decides_a(proxy: Proxy) -> None:
    def drawn(seed: int) -> torch.Tensor:
        model = proxy.adapted(replace_seed(seed)).model
        return torch.cat([value.flatten() for name, value in model.named_parameters() if "lora_A" in name])

    first = drawn(0).clone()
    torch.manual_seed(99)
    other = drawn(1).clone()
    assert torch.equal(drawn(0), first)
    assert not torch.equal(other, first)
    assert float(first.abs().max()) <= 1 / 8
    assert float(first.std()) == pytest.approx(1 / 8 / np.sqrt(3), rel=0.1)
    # Written out: vectors made with another A would be compared in silence.
    assert first[:4].tolist() == pytest.approx([-0.09386133, -0.05291731, 0.02153077, 0.01352263], abs=1e-7)


def replace_seed(seed: int) -> Recipe:
    return SMALL.model_copy(update={"seed": seed})


@pytest.mark.parametrize("form", ["gradient", "adaptive", "tuned"])
def test_a_task_is_described_the_same_way_twice(proxy: Proxy, form: str) -> None:
    tuning = Tuning(steps=3) if form == "tuned" else None
    recipe = Recipe(rank=2, form=form, tuning=tuning)  # type: ignore[arg-type]
    seen: list[tuple[int, int]] = []
    one = specify_parameters(EXAMPLES, proxy, recipe, lambda done, total: seen.append((done, total)))
    two = specify_parameters(EXAMPLES, Proxy(proxy.name, max_tokens=64), recipe)
    assert np.array_equal(one.values, two.values)
    assert one.cosine(two) == pytest.approx(1)
    assert seen[-1][0] == seen[-1][1]
    assert (one.section.loss, one.section.sample_size) == ("answers", 4)
    assert one.section.proxy.name == "base"


def test_answers_are_predicted_where_they_exist_and_whole_texts_elsewhere(proxy: Proxy) -> None:
    bare = [replace(example, answer="") for example in EXAMPLES]
    assert specify_parameters(bare, proxy, SMALL).section.loss == "texts"
    mostly = specify_parameters([*EXAMPLES, bare[0]], proxy, SMALL)
    assert (mostly.section.loss, mostly.section.sample_size) == ("answers", 4)
    (row,) = proxy.rows([EXAMPLES[0]], answers=True)
    assert proxy._tokenizer.decode(row.ids[row.start :]) == " brew toxic</s>"
    assert str(proxy._tokenizer.decode(row.ids[: row.start])).endswith("assistant:")
    (row,) = proxy.rows([bare[0]], answers=False)
    assert row.start == 1


def test_long_texts_are_cut(proxy: Proxy) -> None:
    long = Example("fox " * 5000 + "quick?", "dog " * 5000)
    for answers in (True, False):
        (row,) = proxy.rows([long], answers)
        assert len(row.ids) == 64
    (row,) = proxy.rows([long], answers=True)
    assert row.start == 32


def test_a_proxy_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ProxyError, match=r"'no/such-model' is no folder, and could not be fetched"):
        Proxy("no/such-model").identity  # noqa: B018
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ProxyError, match="cannot be loaded"):
        specify_parameters(EXAMPLES, Proxy(str(tmp_path)))


def test_modules_that_are_not_there_are_named(proxy: Proxy) -> None:
    with pytest.raises(ProxyError, match="cannot be adapted"):
        Proxy(proxy.name).adapted(Recipe(targets=("query_key_value",)))


def test_nothing_to_predict_is_said(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "_ids", lambda text, special=False: [])
    with pytest.raises(InvalidExamples, match="no example has a token"):
        proxy.rows([Example("x")], answers=False)
    with pytest.raises(InvalidExamples, match="1 example, at least 2"):
        specify_parameters(EXAMPLES[:1], proxy, SMALL)
