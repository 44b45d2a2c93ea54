import pytest
from pydantic import ValidationError

from catalogue import Signal, join_signals
from catalogue.quality import MAX_SIGNALS
from specification.errors import TooLarge


def signal(**fields: object) -> Signal:
    return Signal.model_validate({"kind": "capability", "task": "fpb", "value": 0.5, "source": "a file", **fields})


def test_a_newer_result_replaces_the_older_of_the_same_key() -> None:
    known = (signal(), signal(subject="base"), signal(task="ner"))
    joined = join_signals(known, [signal(value=0.7)])
    assert [(item.subject, item.task, item.value) for item in joined] == [
        ("base", "fpb", 0.5),
        ("learnware", "fpb", 0.7),
        ("learnware", "ner", 0.5),
    ]


def test_votes_are_added_up() -> None:
    votes: tuple[Signal, ...] = ()
    for value in (1.0, 1.0, 0.0):
        votes = join_signals(votes, [signal(kind="feedback", value=value, examples=1)])
    (vote,) = votes
    assert (vote.value, vote.examples) == (0.666667, 3)


def test_there_is_a_limit() -> None:
    with pytest.raises(TooLarge, match="201 quality signals"):
        join_signals((), [signal(task=f"t{number}") for number in range(MAX_SIGNALS + 1)])


@pytest.mark.parametrize(
    "fields", [{"value": float("nan")}, {"value": 1e12}, {"source": ""}, {"task": "\x1b"}, {"kind": "rumour"}]
)
def test_nonsense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        signal(**fields)
