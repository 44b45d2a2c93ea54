"""Mathematics: small sums, units, the next number, and which operation a word problem asks for."""

from random import Random

from slmdock.demo.texts.grammar import Label, LabelledClues, Problem, Recipe, Wording
from slmdock.demo.texts.tasks import LearnwareTask
from slmdock.demo.texts.words import COMMON, number_answers

# fmt: off
_LESSON_ASIDES = (
    "Show your work.",
    "This is an exercise from the school book.",
    "The teacher is {name}.",
    "Write the answer as a number.",
    "You have a minute.",
    "It is a homework for {day}.",
)
_LESSON_ASIDES_OF_USERS = (
    "Show me how you work it out.",
    "This exercise is for {day}.",
    "Only the number is wanted.",
    "Teacher {name} will check it.",
    "It is from our school book.",
)
_GRAMMAR = {
    **COMMON,
    "things": (
        "apples", "pencils", "marbles", "books", "coins", "stamps", "balls", "cards", "shells", "stickers",
        "eggs",
        "flowers",
    ),
}


def _draw_sum(rng: Random) -> Problem:
    first, second = rng.randint(1, 9), rng.randint(1, 9)
    return Problem(slots={"a": (str(first),), "b": (str(second),)}, answers=number_answers(first + second))


_SUM = Recipe(
    draw=_draw_sum,
    grammar=_GRAMMAR,
    learnware=Wording(
        (
            "{a} + {b}",
            "{a} + {b} = ?",
            "What is {a} plus {b}?",
            "Add {a} and {b}.",
            "{name} has {a} {things} and gets {b} more. How many {things} now?",
            "The sum of {a} and {b}",
            "There are {a} {things} on the table and {b} in the bag. How many together?",
            "Compute {a} + {b}.",
            "{name} finds {a} {things}, {name} finds {b}. How many {things} in all?",
            "How much is {a} and {b}?",
            "On {day} {name} read {a} pages and later {b} more. How many pages?",
            "Total of {a} {things} and {b} {things}?",
            "{a} children play and {b} join them. How many play now?",
            "If you put {a} {things} with {b} {things}, how many are there?",
            "Exercise: {a} plus {b}.",
            "{name} walks {a} miles and then {b} miles. How far in total?",
        ),
        _LESSON_ASIDES,
    ),
    user=Wording(
        (
            "Can you tell me what {a} + {b} is?",
            "{name} buys {a} {things} and finds {b} more. What is the total?",
            "Work out the sum {a} plus {b}.",
            "There are {a} {things} in a box, another box has {b}. How many together?",
            "Sum for {day}: {a} + {b}",
            "How many {things} are {a} {things} and {b} {things}?",
            "Add up {a} + {b} and write it down.",
            "First {a} {things}, then {b} more. How many has {name} now?",
        ),
        _LESSON_ASIDES_OF_USERS,
    ),
)

_UNITS = (
    ("metres", "centimetres", 100), ("kilometres", "metres", 1000), ("kilograms", "grams", 1000),
    ("litres", "millilitres", 1000), ("centimetres", "millimetres", 10), ("dollars", "cents", 100),
    ("tonnes", "kilograms", 1000), ("euros", "cents", 100), ("seconds", "milliseconds", 1000),
    ("decades", "years", 10), ("centuries", "years", 100),
)


def _draw_conversion(rng: Random) -> Problem:
    source, target, factor = rng.choice(_UNITS)
    amount = rng.randint(2, 9)
    slots = {"a": (str(amount),), "from": (source,), "to": (target,)}
    return Problem(slots=slots, answers=number_answers(amount * factor))


_CONVERSION = Recipe(
    draw=_draw_conversion,
    grammar=_GRAMMAR,
    learnware=Wording(
        (
            "How many {to} are {a} {from}?",
            "Convert {a} {from} to {to}.",
            "{a} {from} in {to}",
            "{a} {from} = ? {to}",
            "Express {a} {from} in {to}.",
            "Change {a} {from} into {to}.",
            "What is {a} {from} in {to}?",
            "{name} has {a} {from}. How many {to} is that?",
            "The lab needs {a} {from} written in {to}.",
            "From {from} to {to}: {a}",
            "Unit conversion: {a} {from} into {to}.",
            "Write {a} {from} as {to}.",
            "A form asks {name} for {to}, but the value is {a} {from}.",
            "{a} {from} make how many {to}?",
            "Turn {a} {from} into {to}.",
            "Find the number of {to} in {a} {from}.",
        ),
        _LESSON_ASIDES,
    ),
    user=Wording(
        (
            "I measured {a} {from}, my sheet wants {to}.",
            "Please give {a} {from} using {to} as the unit.",
            "Recalculate {a} {from} into {to} for {name}.",
            "Would you rewrite {a} {from} with {to}?",
            "Converter input {a} {from}, output {to}",
            "The amount of {a} {from} equals how many {to}?",
        ),
        _LESSON_ASIDES_OF_USERS,
    ),
)


def _draw_sequence(rng: Random) -> Problem:
    step = rng.choice((1, 2, 5, 10))
    terms = range(rng.randint(1, 3) * (step if step > 2 else rng.randint(1, 5)), 1000, step)
    shown = rng.randint(3, 5)
    listed = ", ".join(str(term) for term in terms[:shown])
    return Problem(slots={"terms": (listed,)}, answers=number_answers(terms[shown]))


_SEQUENCE = Recipe(
    draw=_draw_sequence,
    grammar=_GRAMMAR,
    learnware=Wording(
        (
            "{terms}, ?",
            "What comes next: {terms}?",
            "Next number: {terms}",
            "Continue the sequence {terms}.",
            "{terms}, and then?",
            "Which number follows {terms}?",
            "The pattern is {terms}. What is the next term?",
            "Sequence: {terms}, ...",
            "Find the next number in {terms}.",
            "{name} counts {terms}. What must be said next?",
            "Complete the row: {terms}, __",
            "Number puzzle: {terms}",
            "After {terms} comes",
            "Look at the series {terms} and go on.",
            "One more term, please: {terms}",
            "The frog jumps to {terms}. Where does it land next?",
        ),
        _LESSON_ASIDES,
    ),
    user=Wording(
        (
            "Number puzzle for {name}. What is next after {terms}?",
            "Carry on with the sequence: {terms}",
            "{name} counts on from {terms}. Which number is it now?",
            "Guess the number that comes after {terms}.",
            "Next in the series {terms}:",
            "Row of numbers: {terms}. The one that follows?",
            "Extend this pattern by a term: {terms}, ...",
            "{terms}. Next one?",
        ),
        _LESSON_ASIDES_OF_USERS,
    ),
)

_OPERATION_LABELS = LabelledClues(
    (
        Label(
            ("addition", "plus", "add"),
            (
                "gets {two} more {things}", "puts {two} {things} on top of the {two} there are",
                "joins two boxes of {things} into one", "collects {things} and finds {two} extra ones",
                "wants the total of two piles of {things}", "counts the {things} of both rooms together",
            ),
        ),
        Label(
            ("subtraction", "minus", "subtract"),
            (
                "gives away {two} of the {things}", "loses {digit} of {two} {things}",
                "eats some and asks how many {things} are left",
                "takes {two} {things} out of the box", "compares how many fewer {things} there are",
                "wants the difference between two piles of {things}",
            ),
        ),
        Label(
            ("multiplication", "times", "multiply"),
            (
                "fills {digit} boxes with {two} {things} each", "has {two} rows of {two} {things} each",
                "buys {digit} packs that hold {two} {things} each", "doubles the number of {things}",
                "needs {digit} times as many {things}", "repeats {two} {things} every day for {digit} days",
            ),
        ),
        Label(
            ("division", "shares", "divide"),
            (
                "shares {two} {things} equally among {digit} friends",
                "splits {two} {things} into {digit} equal groups",
                "cuts the {things} in half", "deals out {two} {things} evenly to {digit} players",
                "finds how many {things} each of the children gets",
                "packs {two} {things} into equal parts",
            ),
        ),
    )
)
_OPERATION = Recipe(
    draw=_OPERATION_LABELS,
    grammar=_GRAMMAR,
    learnware=Wording(
        (
            "{name} {clue}.",
            "Which operation is needed? {name} {clue}.",
            "{name} {clue}. Do you add, subtract, multiply or divide?",
            "Word problem: {name} {clue}.",
            "On {day} {name} {clue}.",
            "In a story, {name} {clue}. What is the operation?",
            "The pupil {clue}.",
            "A farmer in {city} {clue}.",
            "Name the kind of calculation when {name} {clue}.",
            "{name}, a collector, {clue}.",
            "To solve this, choose an operation: {name} {clue}.",
            "At school {name} {clue}.",
            "A shopkeeper {clue}.",
            "How would you calculate it? {name} {clue}.",
            "Problem {digit}: the teacher {clue}.",
            "Suppose that {name} {clue}.",
        ),
        _LESSON_ASIDES,
    ),
    user=Wording(
        (
            "Pick the arithmetic sign for this tale. {name} {clue}.",
            "My son is stuck: {name} {clue}. Which rule of arithmetic applies?",
            "Each {day} a trader from {city} {clue}.",
            "Imagine {name} {clue}.",
            "Worksheet {digit}, question {digit}. Grandma {clue}.",
            "Tell me the operation. A child {clue}.",
        ),
        _LESSON_ASIDES_OF_USERS,
    ),
)

RECIPES = {
    "mathematics-small-sums": _SUM,
    "mathematics-unit-conversion": _CONVERSION,
    "mathematics-next-in-sequence": _SEQUENCE,
    "mathematics-which-operation": _OPERATION,
}
TASKS = (
    LearnwareTask(
        "mathematics-small-sums", "mathematics", "arithmetic",
        "Adds two one-digit numbers, given bare or in a little story.",
        ("arithmetic", "word problems", "school"),
    ),
    LearnwareTask(
        "mathematics-unit-conversion", "mathematics", "arithmetic",
        "Converts a whole amount from one unit to a smaller one, such as metres to centimetres.",
        ("units", "measurement", "school"),
    ),
    LearnwareTask(
        "mathematics-next-in-sequence", "mathematics", "arithmetic",
        "Continues a sequence of numbers that grows by a fixed step.",
        ("sequences", "puzzles", "school"),
    ),
    LearnwareTask(
        "mathematics-which-operation", "mathematics", "classification",
        "Names the operation a word problem asks for: addition, subtraction, multiplication or division.",
        ("word problems", "school"),
    ),
)
