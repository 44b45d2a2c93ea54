"""From tokens to text: stops, unfinished characters, limits. A token is its index into a list of bytes."""

from collections.abc import Sequence

import pytest

from serving.generation import GenerationRequest, Piece, parse_request, pieces
from specification.errors import InvalidInput

SYLLABLES = (b"<end>", b"one ", b"two ", b"STO", b"P", b"\xc3", b"\xbc")
END = frozenset({0})


def run(tokens: Sequence[int], limit: int = 99, **fields: object) -> list[Piece]:
    def decode(seen: Sequence[int]) -> str:
        return b"".join(SYLLABLES[token] for token in seen if token).decode("utf-8", "replace")

    request = GenerationRequest.model_validate({"model": "m", "prompt": "p", **fields})
    return list(pieces(tokens, decode, request, END, limit))


def text_of(found: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in found)


def test_ends_at_the_limit() -> None:
    found = run([1, 2, 1], limit=2)
    assert [(piece.token, piece.text, piece.finish) for piece in found] == [
        (1, "one ", None),
        (2, "two ", "length"),
    ]


def test_ends_at_an_end_token() -> None:
    found = run([1, 0, 2])
    assert (text_of(found), found[-1].token, found[-1].finish) == ("one ", 0, "stop")


def test_end_token_can_be_ignored() -> None:
    assert text_of(run([1, 0, 2], limit=3, ignore_eos=True)) == "one two "


def test_stop_text_is_cut_off_even_across_tokens() -> None:
    found = run([1, 3, 4, 2], stop="STOP")
    assert (text_of(found), found[-1].finish) == ("one ", "stop")
    assert "S" not in text_of(found)


def test_the_first_of_several_stops_counts() -> None:
    assert text_of(run([1, 2], stop=["two", "one"])) == ""


def test_a_half_stop_text_comes_out_in_the_end() -> None:
    assert text_of(run([1, 3, 2], limit=3, stop="STOP")) == "one STOtwo "


def test_an_unfinished_character_waits() -> None:
    assert [piece.text for piece in run([1, 5, 6, 1], limit=4)] == ["one ", "", "ü", "one "]


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"top_p": 0.5},
        {"logprobs": 3},
        {"tools": []},
        {"max_tokens": 0},
        {"temperature": -1},
        {"stop": [""]},
        {"messages": [{"role": "user"}]},
        {"prompt": None},
        {"prompt": ["a", "b"]},
        {"echo": True},
    ],
)
def test_what_it_cannot_do_is_refused_by_name(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_request("completions", {"model": "m", "prompt": "p", **fields})
    assert next(iter(fields)) in str(caught.value)


def test_neutral_values_pass() -> None:
    fields = {"n": 1, "top_p": 1, "presence_penalty": 0.0, "logprobs": None, "user": "me", "stop": None}
    assert parse_request("completions", {"model": "m", "prompt": "p", **fields}).token_limit == 16


def test_route_and_input_belong_together() -> None:
    with pytest.raises(InvalidInput, match="needs 'messages'"):
        parse_request("chat/completions", {"model": "m", "prompt": "p"})
