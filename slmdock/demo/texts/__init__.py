"""The demo's texts: twelve learnwares' tasks, the users who may need them, and what the base model reads.

All text is written by the grammars of this package; none comes from elsewhere. The same name, count and seed
give the same examples everywhere. A user's wording (templates and asides) occurs in no learnware's training text
and not in the base model's; clue words, names and numbers are common to both.
"""

from random import Random

from slmdock.demo.texts import elsewhere, finance, healthcare, mathematics
from slmdock.demo.texts.grammar import Recipe
from slmdock.demo.texts.tasks import LearnwareTask, UserTask
from slmdock.demo.texts.users import USER_TASKS
from specification.examples import Example

__all__ = [
    "CONVENTIONS",
    "LEARNWARE_TASKS",
    "USER_TASKS",
    "LearnwareTask",
    "UserTask",
    "convention_examples",
    "pretraining_examples",
    "training_examples",
    "user_examples",
]

CONVENTIONS = 3

_RECIPES: dict[str, Recipe] = {**finance.RECIPES, **healthcare.RECIPES, **mathematics.RECIPES}
LEARNWARE_TASKS: dict[str, LearnwareTask] = {
    task.name: task for task in (*finance.TASKS, *healthcare.TASKS, *mathematics.TASKS)
}


def training_examples(task: str, count: int, seed: int) -> list[Example]:
    """`count` examples in a learnware's own wording and convention. Raises KeyError for an unknown task."""
    recipe = _RECIPES[task]
    rng = Random(f"training {task} {seed}")
    return [recipe.write(rng, recipe.learnware) for _ in range(count)]


def user_examples(task: str, count: int, seed: int) -> list[Example]:
    """`count` examples of a user's task, its sources taking turns. Raises KeyError for an unknown task."""
    sources = USER_TASKS[task].sources
    recipes = [_RECIPES[source] for source in sources] or [elsewhere.RECIPES[task]]
    rng = Random(f"user {task} {seed}")
    return [recipes[i % len(recipes)].write(rng, recipes[i % len(recipes)].user) for i in range(count)]


def convention_examples(task: str, convention: int, count: int, seed: int, user: bool = False) -> list[Example]:
    """`count` examples of a learnware's task, answered in one of the `CONVENTIONS`; `user` is in users' wording.

    Convention 0 is the learnware's own. The same seed gives the same texts in every convention. Raises KeyError.
    """
    recipe = _RECIPES[task]
    rng = Random(f"convention {task} {user} {seed}")
    return [recipe.write(rng, recipe.user if user else recipe.learnware, convention) for _ in range(count)]


def pretraining_examples(count: int, seed: int) -> list[Example]:
    """`count` examples for the base model, shuffled over all learnwares' tasks and two that no learnware has.

    The wording is the learnwares'; each answer is given in a convention drawn at random from three (for a number:
    digits, words, "= digits"), so the base model learns what texts mean but no one's way of answering.
    """
    recipes = [*_RECIPES.values(), *(elsewhere.RECIPES[name] for name in elsewhere.PRETRAINED)]
    rng = Random(f"pretraining {seed}")
    drawn = (rng.choice(recipes) for _ in range(count))
    return [recipe.write(rng, recipe.learnware, convention=rng.randrange(CONVENTIONS)) for recipe in drawn]
