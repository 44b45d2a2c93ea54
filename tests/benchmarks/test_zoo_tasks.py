"""The zoo's tasks and texts: what is a choice, who is right, what counts, and what nobody is trained on."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.zoo.answering import along
from benchmarks.zoo.recipes import Recipe, recipes
from benchmarks.zoo.run import Zoo
from benchmarks.zoo.scale import ANSWER_TOKENS, SMALL, STRONG, TINY
from benchmarks.zoo.tasks import Task, final, held_out_tasks, is_right, labels_of, make_task, possible, read_tasks
from benchmarks.zoo.texts import (
    Tokens,
    TrainingSet,
    pretraining_batches,
    prompt_of,
    read_sets,
    train_tokenizer,
    tuning_batches,
)
from slmdock.bench_command import bench_app
from specification import Example
from specification.errors import InvalidInput
from tests.benchmarks.world import write_world

TEXTS = [f"The customer number {n} asks about item {n * 7} and its price" for n in range(300)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens(train_tokenizer(TEXTS, 400), 128)


@pytest.mark.parametrize(
    ("answers", "labels"),
    [
        (["yes", "no", "no", "maybe"] * 20, ("maybe", "no", "yes")),
        (["A", "C", "B", "D"] * 20, ("A", "B", "C", "D")),
        (["B. a fever", "A. the liver", "C. 5 mg"] * 9, ("A", "B", "C")),
        (["B: a fever", "A: the liver"] * 9, ("A", "B")),
        (["A", "B", "AD"] + ["C"] * 40, ("A", "B", "C")),
        ([str(number) for number in range(100)], ()),
        (["the same"] * 50, ()),
        (["once", "twice", "thrice"], ()),
    ],
)
def test_answers_that_are_choices(answers: list[str], labels: tuple[str, ...]) -> None:
    assert labels_of(answers) == labels


@pytest.mark.parametrize(
    ("said", "gold", "right"),
    [
        (" 42", "6*7=<<6*7=42>>42 in all\n#### 42", True),
        ("so he has 6 * 7 = 42 dollars.", "42", True),
        ("1,250", "1250.0", True),
        ("the answer is $\\boxed{\\frac{1}{2}}$.", "thus $\\boxed{\\frac{1}{2}}$", True),
        ("the answer is $\\boxed{\\frac{1}{3}}$.", "thus $\\boxed{\\frac{1}{2}}$", False),
        ("41", "42", False),
        ("", "42", False),
        ("no idea", "#### 42", False),
        ("Borrower, PER Bank, ORG", "Borrower, PER\nBank, ORG", True),
        ("Borrower, PER", "Borrower, PER\nBank, ORG", False),
        ("", "", False),
    ],
)
def test_short_answers(said: str, gold: str, right: bool) -> None:
    assert is_right(said, gold) is right


@given(st.text())
def test_what_an_answer_comes_to_is_part_of_it(answer: str) -> None:
    squeezed = "".join(answer.split())
    assert "".join(final(answer).split()) in squeezed


def test_sketch_and_test_have_nothing_in_common(world: Path) -> None:
    tasks = read_tasks(world, SMALL)
    assert {task.domain for task in tasks} == {"finance", "medical", "math"}
    for task in tasks:
        assert task.sketch
        assert not {each.text for each in task.sketch} & {each.text for each in task.test}
        assert all(each.answer in task.labels for each in task.test) or not task.labels


def test_letters_are_cut_from_whole_answers() -> None:
    task = make_task("medical", "one", [Example(f"q{n}", f"{'ABC'[n % 3]}. some words") for n in range(90)], TINY)
    assert task.labels == ("A", "B", "C")
    assert {each.answer for each in (*task.sketch, *task.test)} == {"A", "B", "C"}
    assert task.constant == pytest.approx(
        max(np.unique([e.answer for e in task.test], return_counts=True)[1]) / 32
    )


def test_nobody_is_trained_on_what_is_held_out(world: Path) -> None:
    sets = read_sets(world, SMALL)
    assert len(sets) == 12
    for each in sets:
        assert len(each.held_out) == SMALL.held_out
        assert not {one.text for one in each.held_out} & {one.text for one in each.train}
    drawn = [one.text for recipe in recipes(sets, SMALL) for one in recipe.drawn(sets)]
    assert not set(drawn) & {one.text for each in sets for one in each.held_out}
    assert {task.key for task in held_out_tasks(sets, SMALL)} <= {each.key for each in sets}


def test_too_few_examples_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"finance: no training set of 144 examples"):
        read_sets(write_world(tmp_path, examples=100), SMALL)


def test_a_task_counts_if_any_model_can_do_it() -> None:
    examples = tuple(Example(str(n), "yes" if n < 60 else "no") for n in range(100))
    task = Task("finance", "one", ("no", "yes"), (), examples)
    assert not possible(task, [60, 62, 40])
    assert possible(task, [60, 62, 80])
    # One of a hundred models is that lucky.
    assert possible(task, [72])
    assert not possible(task, [72] + [60] * 99)
    numbers = tuple(Example(str(n), str(n % 20)) for n in range(100))
    short = Task("math", "two", (), (), numbers)
    assert short.constant == 0.05
    assert possible(short, [15])
    assert not possible(short, [8, 0])


def test_recipes_are_the_same_each_time_and_as_poor_as_they_say() -> None:
    train = tuple(Example(f"text {n}", f"answer {n % 5}") for n in range(200))
    one = TrainingSet("finance", "one", train, ())
    recipe = Recipe("finance-one-4", STRONG, (one.key,), 8, 1e-3, 300, share=0.5, noise=0.8, poor=True)
    drawn = recipe.drawn([one])
    assert drawn == recipe.drawn([one])
    assert len(drawn) == len({each.text for each in drawn}) == 100
    right = {each.text: each.answer for each in train}
    wrong = sum(right[each.text] != each.answer for each in drawn)
    # Of 80 exchanged answers about one in five falls on the same label.
    assert 50 <= wrong <= 80
    assert recipe.group == "finance-one"


def test_recipes_of_a_hundred(world: Path) -> None:
    sets = read_sets(world, SMALL)
    found = recipes(sets, SMALL)
    assert len({each.name for each in found}) == len(found) == 4 * len(sets)
    assert len({each.fingerprint for each in found}) == len(found)
    assert sum(each.poor for each in found) == len(sets)


def test_long_prompts_lose_their_middle(tokens: Tokens) -> None:
    text = " ".join(f"price {n}" for n in range(200))
    (row,) = tokens.prompts([text])
    (whole,) = tokens.tokenizer([prompt_of(text)])["input_ids"]
    assert len(row) == 128 - ANSWER_TOKENS < len(whole)
    head = len(row) // 3
    assert row[:head] == whole[:head]
    assert row[head:] == whole[head - len(row) :]
    assert str(tokens.tokenizer.decode(row)).endswith("Answer:")
    (short,) = tokens.prompts(["the price:"])
    assert tokens.tokenizer.decode(short, skip_special_tokens=True) == "the price:"


def test_only_answers_count_in_tuning(tokens: Tokens) -> None:
    batches = tuning_batches([Example(text, "42") for text in TEXTS[:40]], tokens, 6, 256)
    (answer,) = tokens.answers(["42"])
    for batch in batches:
        for row, weights in zip(batch.ids, batch.weights, strict=True):
            assert row[1:][weights > 0].tolist() == answer
    assert len(batches) == 6
    assert all(batch.ids.numel() <= 256 for batch in batches)


def test_pretraining_reads_as_many_tokens_as_it_should(tokens: Tokens) -> None:
    batches = pretraining_batches(TEXTS, tokens, 50_000, 128, seed=0)
    assert 0 <= 50_000 - sum(batch.ids.numel() for batch in batches) < 2 * batches[0].ids.numel()
    assert all(bool((batch.weights == 1).all()) for batch in batches)


def test_options_are_followed_where_there_is_no_choice() -> None:
    options = [(1, 2, 3), (1, 2, 4, 5), (9,)]
    assert along(options, ()) == ()
    assert along(options, (1,)) == (1, 2)
    assert along(options, (1, 2, 4)) == (1, 2, 4, 5)
    assert along(options, (9,)) == (9,)


def test_a_folder_of_something_else_is_left_alone(world: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InvalidInput, match="no zoo"):
        Zoo(tmp_path, world, TINY)


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    found = CliRunner().invoke(bench_app, ["zoo", "--data", str(tmp_path), "--scale", "huge"])
    assert "choose one of tiny, small, paper" in str(found.exception)
