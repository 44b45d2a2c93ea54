"""How right an answer is, in [0, 1], beside the gold answer: on the user's side, where the labels are.

Exact match and token F1 as in SQuAD (Rajpurkar et al., EMNLP 2016): lower case, no punctuation, no articles.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from specification.errors import InvalidInput

Score = Literal["exact", "f1", "choice", "numeric"]
SCORES: tuple[Score, ...] = get_args(Score)

MAX_CHOICES = 8
EXAMPLES_A_CHOICE = 3
SHORT_ANSWER_WORDS = 4
NUMBER = re.compile(r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
MARKED = re.compile(r"(?:####|\\boxed\{|answer is:?)\s*\$?\s*([^\s}]+)", re.IGNORECASE)
TOLERANCE = 1e-9
PUNCTUATION = str.maketrans("", "", string.punctuation)


def choose_score(answers: Sequence[str]) -> Score:
    """Returns the score that fits the gold answers.

    Two to 8 different answers, each three times on average: ``choice``. Numbers only: ``numeric``. At most four
    words each: ``exact``. Anything else: ``f1``.

    Raises:
        InvalidInput: no answers, or an empty one.
    """
    if not answers or not all(answer.strip() for answer in answers):
        raise InvalidInput("every example of a trial needs an 'answer'")
    if 2 <= len(choices_of(answers)) <= min(MAX_CHOICES, len(answers) // EXAMPLES_A_CHOICE):
        return "choice"
    if all(_whole_number(answer) is not None for answer in answers):
        return "numeric"
    return "exact" if all(len(answer.split()) <= SHORT_ANSWER_WORDS for answer in answers) else "f1"


def choices_of(answers: Sequence[str]) -> list[str]:
    """Returns the answers that differ after ``normalise``, each as it is first written, in alphabetical order."""
    first: dict[str, str] = {}
    for answer in answers:
        first.setdefault(normalise(answer), answer.strip())
    return sorted(first.values())


def score(kind: Score, answer: str, gold: str) -> float:
    """Returns how right ``answer`` is; a choice is compared as text, after the likeliest was taken."""
    if kind == "numeric":
        return numeric_match(answer, gold)
    return token_f1(answer, gold) if kind == "f1" else exact_match(answer, gold)


def normalise(text: str) -> str:
    """Returns the text in lower case without punctuation, articles and needless blanks."""
    words = text.lower().translate(PUNCTUATION).split()
    return " ".join(word for word in words if word not in ("a", "an", "the")) or " ".join(words) or text.strip()


def exact_match(answer: str, gold: str) -> float:
    """1.0 if both are the same after ``normalise``, else 0.0."""
    return float(normalise(answer) == normalise(gold))


def token_f1(answer: str, gold: str) -> float:
    """The harmonic mean of precision and recall of the answer's words, after ``normalise``."""
    said, meant = normalise(answer).split(), normalise(gold).split()
    if not said or not meant:
        return float(said == meant)
    common = (Counter(said) & Counter(meant)).total()
    return 2 * common / (len(said) + len(meant))


def numeric_match(answer: str, gold: str) -> float:
    """1.0 if the number that the answer gives equals the gold one, to a billionth of it.

    The number behind ``####``, ``\\boxed{`` or "answer is" counts, else the last one in the text.
    """
    said, meant = number_in(answer), number_in(gold)
    if said is None or meant is None:
        return 0.0
    return float(abs(said - meant) <= TOLERANCE * max(1.0, abs(meant)))


def number_in(text: str) -> float | None:
    """Returns the number that a text ends in or marks as its answer, None if there is none."""
    marked = [found for mark in MARKED.findall(text) if (found := _numbers(mark))]
    numbers = marked[-1] if marked else _numbers(text)
    return numbers[-1] if numbers else None


def _numbers(text: str) -> list[float]:
    found = (match.group().replace(",", "") for match in NUMBER.finditer(text))
    return [float(each) for each in found]


def _whole_number(text: str) -> float | None:
    """The number that the text is, but for signs of currency, percent or a mark before it."""
    bare = re.sub(r"^.*####", "", text, flags=re.DOTALL).strip().strip("$€£%. ")
    match = NUMBER.fullmatch(bare)
    return number_in(bare) if match and bare else None
