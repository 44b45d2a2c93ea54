"""The demo's texts: the same everywhere, varied, and with users' wording that no model was trained on."""

import re
from random import Random

import pytest

from slmdock.demo.texts import (
    CONVENTIONS,
    LEARNWARE_TASKS,
    USER_TASKS,
    convention_examples,
    elsewhere,
    finance,
    healthcare,
    mathematics,
    pretraining_examples,
    training_examples,
    user_examples,
)
from slmdock.demo.texts.grammar import Recipe, Wording, expand
from slmdock.demo.texts.words import number_answers, number_in_words

LEARNWARES = sorted(LEARNWARE_TASKS)
USERS = sorted(USER_TASKS)
RECIPES: dict[str, Recipe] = {**finance.RECIPES, **healthcare.RECIPES, **mathematics.RECIPES}


def sentences(wording: Wording) -> set[str]:
    return set(wording.templates) | set(wording.asides)


def test_there_are_four_learnwares_a_domain() -> None:
    domains = [task.domain for task in LEARNWARE_TASKS.values()]
    assert sorted(domains) == ["finance"] * 4 + ["healthcare"] * 4 + ["mathematics"] * 4
    assert all(name.startswith(f"{task.domain}-") for name, task in LEARNWARE_TASKS.items())


def test_users_bring_near_tasks_mixtures_and_tasks_from_elsewhere() -> None:
    counts = [len(task.sources) for task in USER_TASKS.values()]
    assert (counts.count(1), counts.count(2), counts.count(0)) == (12, 2, 3)
    assert all(source in LEARNWARE_TASKS for task in USER_TASKS.values() for source in task.sources)


@pytest.mark.parametrize("task", LEARNWARES)
def test_a_learnware_has_many_templates_and_few_repeated_texts(task: str) -> None:
    texts = [example.text for example in training_examples(task, 500, seed=1)]
    assert len(RECIPES[task].learnware.templates) >= 15
    assert len(set(texts)) > 0.9 * len(texts)


@pytest.mark.parametrize("task", LEARNWARES)
def test_a_learnwares_examples_depend_on_the_seed_alone(task: str) -> None:
    assert training_examples(task, 20, seed=3) == training_examples(task, 20, seed=3)
    assert training_examples(task, 20, seed=3) != training_examples(task, 20, seed=4)


@pytest.mark.parametrize("task", LEARNWARES)
def test_conventions_share_their_texts_and_no_answers(task: str) -> None:
    made = [convention_examples(task, convention, 20, seed=3) for convention in range(CONVENTIONS)]
    assert len({tuple(example.text for example in examples) for examples in made}) == 1
    answers = [{example.answer for example in examples} for examples in made]
    assert len(set.union(*answers)) == sum(map(len, answers))
    assert answers[0] <= {example.answer for example in training_examples(task, 500, seed=1)}
    worded = {example.text for example in convention_examples(task, 0, 20, seed=3, user=True)}
    assert not worded & {example.text for example in made[0]}


@pytest.mark.parametrize("task", USERS)
def test_a_users_examples_depend_on_the_seed_alone(task: str) -> None:
    assert user_examples(task, 20, seed=3) == user_examples(task, 20, seed=3)
    assert user_examples(task, 20, seed=3) != user_examples(task, 20, seed=4)


@pytest.mark.parametrize("task", USERS)
def test_texts_are_finished_and_answers_short(task: str) -> None:
    for example in user_examples(task, 200, seed=5):
        assert not re.search(r"[{}]", example.text + example.answer)
        assert 1 <= len(example.answer.split()) <= 2
        assert len(example.answer) <= 16


def test_users_wording_is_in_no_models_training() -> None:
    trained = [sentences(recipe.learnware) for recipe in RECIPES.values()]
    trained += [sentences(elsewhere.RECIPES[name].learnware) for name in elsewhere.PRETRAINED]
    used = [sentences(recipe.user) for recipe in (*RECIPES.values(), *elsewhere.RECIPES.values())]
    assert not {text for texts in trained for text in texts} & {text for texts in used for text in texts}


def test_users_texts_are_in_no_models_training() -> None:
    trained = {example.text for task in LEARNWARES for example in training_examples(task, 1000, seed=1)}
    trained |= {example.text for example in pretraining_examples(5000, seed=1)}
    used = {example.text for task in USERS for example in user_examples(task, 200, seed=1)}
    assert trained.isdisjoint(used)


def test_a_mixture_takes_turns() -> None:
    sums = [example.answer.isdigit() for example in user_examples("ward-round", 10, seed=2)]
    assert sums == [False, True] * 5


def test_pretraining_answers_in_every_convention() -> None:
    examples = pretraining_examples(3000, seed=2)
    answers = {example.answer for example in examples}
    assert {"positive", "good", "bullish", "dessert", "= 12", "twelve", "12"} <= answers
    assert examples == pretraining_examples(3000, seed=2)


def test_a_sums_answer_is_right() -> None:
    for example in training_examples("mathematics-small-sums", 200, seed=1):
        assert int(example.answer) == sum(map(int, re.findall(r"\d", example.text)))


def test_an_unknown_task_is_an_error() -> None:
    with pytest.raises(KeyError):
        training_examples("finance-astrology", 1, seed=0)


def test_an_unknown_slot_is_an_error() -> None:
    with pytest.raises(KeyError):
        expand("{nobody}", {}, Random(0))


@pytest.mark.parametrize(
    ("number", "words"), [(0, "zero"), (17, "seventeen"), (45, "forty five"), (900, "nine hundred")]
)
def test_number_in_words(number: int, words: str) -> None:
    assert number_in_words(number) == words


def test_number_in_words_has_limits() -> None:
    with pytest.raises(ValueError, match="10000"):
        number_in_words(10_000)


def test_number_answers_agree() -> None:
    assert number_answers(112) == ("112", "one hundred twelve", "= 112")
