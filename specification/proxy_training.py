"""From examples to a parameter vector: one pass over them, or training of the proxy's B matrices."""

from collections.abc import Iterator, Sequence
from math import cos, pi

import numpy as np
import torch

from specification.encoder import Progress, no_progress
from specification.examples import Example, check_examples
from specification.kernel import Floats
from specification.parameter_vector import ParameterSection, ParameterVector, Recipe, Tuning
from specification.proxy import Adapted, Proxy, Row

MAX_SAMPLE = 512
WARM_UP = 0.03
MAX_GRADIENT = 1.0


def specify_parameters(
    examples: Sequence[Example], proxy: Proxy, recipe: Recipe | None = None, progress: Progress = no_progress
) -> ParameterVector:
    """Describes a task by what a proxy model would learn from it; deterministic on one machine.

    At most MAX_SAMPLE examples are used, an even sample. If at least half of them have an answer, those answers
    are predicted from their prompts, and otherwise whole texts. Stopped anywhere, nothing is left behind.
    ``progress`` counts examples in the one-pass form and steps in the tuned one.

    Raises:
        ProxyError: the proxy cannot be loaded. InvalidExamples: fewer than two examples, or nothing
            to predict.
        InvalidSpecification: the vector is zero or not finite.
    """
    recipe = recipe or Recipe()
    check_examples(list(examples), "parameter vector")
    chosen = [examples[int(i)] for i in np.linspace(0, len(examples) - 1, min(len(examples), MAX_SAMPLE))]
    answered = [example for example in chosen if example.answer.strip()]
    answers = len(answered) >= max(2, len(chosen) / 2)
    chosen = answered if answers else chosen
    rows = proxy.rows(chosen, answers)
    adapted = proxy.adapted(recipe)
    if recipe.tuning:
        values = tuned(adapted, rows, recipe.tuning, recipe.seed, progress)
    elif recipe.form == "adaptive":
        values = adaptive(adapted, rows, progress)
    else:
        values = gradient(proxy, adapted, rows, progress)
    section = ParameterSection(
        proxy=proxy.identity, recipe=recipe, loss="answers" if answers else "texts", sample_size=len(chosen)
    )
    return ParameterVector.of(values, section)


def gradient(proxy: Proxy, adapted: Adapted, rows: Sequence[Row], progress: Progress = no_progress) -> Floats:
    """Returns the negative mean of the per-example gradients by B at B = 0, float32 [p].

    By the neural tangent kernel this is where training begins to go: the first step of gradient descent.
    """
    done = 0
    for batch in proxy.batches(rows):
        (adapted.losses(batch).sum() / len(rows)).backward()  # type: ignore[no-untyped-call]
        done += len(batch)
        progress(done, len(rows))
    return -_gradient(adapted)


def adaptive(adapted: Adapted, rows: Sequence[Row], progress: Progress = no_progress) -> Floats:
    """Returns -mean(g) / √mean(g²) of the per-example gradients g at B = 0, value by value, float32 [p].

    Adam (Kingma & Ba, ICLR 2015) goes there while B is small and its averages have settled. Unlike the plain
    mean it is not ruled by the few examples with the largest losses.
    """
    total, squares = np.zeros(adapted.size), np.zeros(adapted.size)
    for done, row in enumerate(rows, 1):
        adapted.losses([row]).sum().backward()  # type: ignore[no-untyped-call]
        each = _gradient(adapted)
        total += each
        squares += each.astype(np.float64) ** 2
        for matrix in adapted.matrices:
            matrix.grad = None
        progress(done, len(rows))
    result: Floats = (-total / np.sqrt(np.maximum(squares * len(rows), 1e-30))).astype(np.float32)
    return result


def tuned(
    adapted: Adapted, rows: Sequence[Row], tuning: Tuning, seed: int = 0, progress: Progress = no_progress
) -> Floats:
    """Returns B after training from 0, float32 [p]; ``seed`` draws the order of the examples."""
    optimizer = torch.optim.AdamW(adapted.matrices, lr=tuning.rate, weight_decay=tuning.l2)
    order = _endless(len(rows), seed)
    for step in range(tuning.steps):
        optimizer.param_groups[0]["lr"] = tuning.rate * _schedule(step, tuning.steps)
        batch = [rows[next(order)] for _ in range(min(tuning.batch, len(rows)))]
        penalty = torch.stack([matrix.abs().sum() for matrix in adapted.matrices]).mean()
        (adapted.losses(batch).mean() + tuning.l1 * penalty).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(adapted.matrices, MAX_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
        progress(step + 1, tuning.steps)
    return _flat([matrix.detach() for matrix in adapted.matrices])


def _gradient(adapted: Adapted) -> Floats:
    return _flat([torch.zeros_like(each) if each.grad is None else each.grad for each in adapted.matrices])


def _endless(count: int, seed: int) -> Iterator[int]:
    generator = np.random.default_rng(seed)
    while True:
        yield from generator.permutation(count).tolist()


def _schedule(step: int, steps: int) -> float:
    warm = max(1, round(WARM_UP * steps))
    return (step + 1) / warm if step < warm else 0.5 * (1 + cos(pi * (step - warm) / max(1, steps - warm)))


def _flat(tensors: Sequence[torch.Tensor]) -> Floats:
    values: Floats = torch.cat([tensor.reshape(-1) for tensor in tensors]).numpy()
    return values
