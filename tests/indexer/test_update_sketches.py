"""Sketches of updates: what they are the same for, how well they estimate, and the file they are kept in."""

import hashlib
import sqlite3
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from indexer import update_sketches
from indexer.update_sketches import DOWN, SIZE, UP, Sketch, UpdateSketches, sketch_update

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tensors(adapters: list[Path]) -> list[Tensors]:
    return [load_file(folder / "adapter_model.safetensors") for folder in adapters]


def required(tensors: Tensors) -> Sketch:
    sketch = sketch_update(tensors)
    assert sketch is not None
    return sketch


def update_of(tensors: Tensors) -> torch.Tensor:
    """The update itself, flat and of length 1."""
    parts = [tensors[name.replace(DOWN, UP)] @ tensors[name] for name in sorted(tensors) if name.endswith(DOWN)]
    update: torch.Tensor = torch.cat([part.flatten() for part in parts]).double()
    unit: torch.Tensor = update / torch.linalg.vector_norm(update)
    return unit


def refactored(tensors: Tensors) -> Tensors:
    """Other matrices with the same products: A is multiplied by R⁻¹, B by R."""
    generator = torch.Generator().manual_seed(0)
    changed = {}
    for name in sorted(tensors):
        if name.endswith(DOWN):
            down, up = tensors[name].double(), tensors[name.replace(DOWN, UP)].double()
            mixing = torch.randn(len(down), len(down), generator=generator, dtype=torch.float64)
            changed[name] = (torch.linalg.inv(mixing) @ down).float()
            changed[name.replace(DOWN, UP)] = (up @ mixing).float()
    return changed


def padded(tensors: Tensors) -> Tensors:
    """A higher rank, of which the rest is zero."""
    return {
        name: torch.nn.functional.pad(each, (0, 0, 0, 3) if name.endswith(DOWN) else (0, 3))
        for name, each in tensors.items()
    }


def noisy(share: float) -> Callable[[Tensors], Tensors]:
    generator = torch.Generator().manual_seed(1)
    return lambda tensors: {
        name: each + share * each.std() * torch.randn(each.shape, generator=generator)
        for name, each in tensors.items()
    }


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (refactored, 0.9999),
        (padded, 0.9999),
        (lambda tensors: {name: 1.5 * each for name, each in tensors.items()}, 0.9999),
        (lambda tensors: {name: each.bfloat16() for name, each in tensors.items()}, 0.999),
        (noisy(0.01), 0.999),
        (noisy(0.1), 0.98),
    ],
    ids=["refactored", "padded", "scaled", "bfloat16", "1 % of noise", "10 % of noise"],
)
def test_what_is_almost_the_same_has_almost_the_same_sketch(
    tensors: list[Tensors], change: Callable[[Tensors], Tensors], least: float
) -> None:
    for each in tensors:
        assert float(required(change(each)) @ required(each)) >= least


def test_the_cosine_of_sketches_estimates_that_of_updates(tensors: list[Tensors]) -> None:
    for one, other in combinations(tensors, 2):
        true = float(update_of(one) @ update_of(other))
        assert abs(float(required(one) @ required(other)) - true) < 4 / SIZE**0.5
    # Something of another adapter, in rows of its own: the update is the sum of both.
    first, second = tensors[:2]
    for share in (0.1, 0.3):
        both = {
            name: torch.cat(
                [each, (share if name.endswith(UP) else 1) * second[name]], 0 if name.endswith(DOWN) else 1
            )
            for name, each in first.items()
        }
        true = float(update_of(both) @ update_of(first))
        assert abs(float(required(both) @ required(first)) - true) < 4 * (1 - true**2) / SIZE**0.5


def test_matrices_that_cancel_out_have_no_sketch(tensors: list[Tensors]) -> None:
    assert sketch_update({name: each * name.endswith(UP) for name, each in tensors[0].items()}) is None


@pytest.mark.parametrize("size", [1e38, 1e-45])
def test_huge_and_tiny_numbers_have_sketches(tensors: list[Tensors], size: float) -> None:
    sketch = required({name: torch.full_like(each, size) for name, each in tensors[0].items()})
    assert float(sketch @ sketch) == pytest.approx(1)


def test_the_signs_never_change() -> None:
    signs = update_sketches._signs("base_model.model.layers.0.q_proj", 5)
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    assert hashlib.sha256(signs.tobytes()).hexdigest()[:16] == "9bc40c72f6055db2"


def sketch_at(angle: float, seed: int = 0) -> Sketch:
    """A unit vector at an angle to the first axis."""
    aside = np.random.default_rng(seed).normal(size=SIZE)
    aside[0] = 0
    found: Sketch = (np.cos(angle) * np.eye(SIZE)[0] + np.sin(angle) * aside / np.linalg.norm(aside)).astype(
        np.float32
    )
    return found


def name_of(number: int) -> str:
    return f"{number:064x}"


@pytest.mark.parametrize("part", [1, 2, 1024])
def test_the_near_ones_on_a_base_model_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(update_sketches, "PART", part)
    sketches = UpdateSketches(tmp_path / "sketches.sqlite")
    for number in range(9):
        sketches.add(name_of(number), "base" if number < 7 else "other", sketch_at(0.1 * number, seed=number))
    found = UpdateSketches(tmp_path / "sketches.sqlite").nearest("base", sketch_at(0), 0.9, limit=9)
    # The cosines of 0, 0.1, … 0.4; that of 0.5 is under 0.9.
    assert list(found) == [name_of(number) for number in range(5)]
    assert list(found.values()) == pytest.approx(np.cos([0, 0.1, 0.2, 0.3, 0.4]), abs=0.005)
    assert list(sketches.nearest("base", sketch_at(0), 0.9, limit=2)) == [name_of(0), name_of(1)]
    assert list(sketches.nearest("other", sketch_at(0), 0.7, limit=9)) == [name_of(7)]
    assert sketches.nearest("none", sketch_at(0), 0, limit=9) == {}


def test_a_file_that_is_damaged_says_so(tmp_path: Path) -> None:
    sketches = UpdateSketches(tmp_path / "sketches.sqlite")
    sketches.add(name_of(1), "base", sketch_at(0))
    with sqlite3.connect(sketches.path) as connection:
        connection.execute("UPDATE part SET sketches = x'0102'")
    connection.close()
    with pytest.raises(ValueError, match="reshape"):
        sketches.nearest("base", sketch_at(0), 0.9, limit=9)
    sketches.path.write_bytes(b"no database at all, but text, and enough of it to be taken for a page of one" * 99)
    with pytest.raises(sqlite3.DatabaseError):
        sketches.add(name_of(2), "base", sketch_at(0))
