import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.scoring import (
    SCORES,
    choices_of,
    choose_score,
    exact_match,
    number_in,
    numeric_match,
    score,
    token_f1,
)
from specification.errors import InvalidInput


@given(st.text(), st.text())
def test_every_score_lies_in_0_to_1_and_the_same_text_is_right(answer: str, gold: str) -> None:
    for kind in SCORES:
        assert 0 <= score(kind, answer, gold) <= 1
        if kind != "numeric" or number_in(gold) is not None:
            assert score(kind, gold, gold) == 1


@given(st.text(), st.text())
def test_f1_is_symmetric_and_at_least_exact_match(left: str, right: str) -> None:
    assert token_f1(left, right) == pytest.approx(token_f1(right, left))
    assert token_f1(left, right) >= exact_match(left, right)


@given(st.integers(-(10**8), 10**8))
def test_a_number_is_found_in_words(number: int) -> None:
    for text in (
        f"{number}",
        f"so it is {number}.",
        f"3 and 4 make\n#### {number:,}",
        rf"thus \boxed{{{number}}} of 7",
    ):
        assert number_in(text) == number
    assert numeric_match(f"The answer is {number} apples, not 2000000000", str(number)) == 1
    assert numeric_match(str(number + 1), str(number)) == 0


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [("$1,234.50", "1234.5", 1), ("12%", "12", 1), (".5", "0.5", 1), ("none", "3", 0), ("1e3", "1000", 1)],
)
def test_numbers_in_other_clothes(answer: str, gold: str, right: float) -> None:
    assert numeric_match(answer, gold) == right


def test_squad_s_rules() -> None:
    assert exact_match("The  Cat.", "cat") == 1
    assert exact_match("cats", "cat") == 0
    assert token_f1("the black cat", "a cat") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["yes", "no", "Yes", "no", "no", "yes"], "choice"),
        (["1", "0", "1", "0", "1", "0"], "choice"),
        (["12", "$1,300", "7.5%", "4", "5", "6"], "numeric"),
        (["2 + 2 = 4\n#### 4", "#### 11", "so\n#### 7"], "numeric"),
        (["Paris", "New York", "Berlin"], "exact"),
        (["It rained all day in the valley.", "Nobody was there to see it happen."], "f1"),
    ],
)
def test_the_score_follows_the_answers(answers: list[str], kind: str) -> None:
    assert choose_score(answers) == kind


def test_choices_are_the_different_answers() -> None:
    assert choices_of(["no ", "yes", "no"]) == ["no", "yes"]


def test_answers_are_needed() -> None:
    for answers in ([], ["yes", " "]):
        with pytest.raises(InvalidInput, match="'answer'"):
            choose_score(answers)
