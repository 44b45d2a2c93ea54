import pytest

from indexer.plain_yaml import MAX_DEPTH, MAX_LENGTH, read_yaml
from specification.errors import InvalidInput

BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [*{old}, *{old}, *{old}]}}\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_plain_values_are_read() -> None:
    assert read_yaml("a: 1\nb: [x, {c: null}]\n", "x") == {"a": 1, "b": ["x", {"c": None}]}
    assert read_yaml("", "x") == {}
    assert read_yaml("# nothing\n", "x") == {}
    assert read_yaml("a: !!python/tuple [1, [2]]\n", "x") == {"a": [1, [2]]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "YAML with an alias"),
        (MERGES, "YAML with an alias"),
        ("a: &a [*a]", "YAML with an alias"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper"),
        ("[" * MAX_LENGTH, "nested deeper"),
        ("- a\n- b\n", "a YAML list, expected a mapping"),
        ("just words", "a YAML str, expected a mapping"),
        ("a: [", "not YAML that can be read"),
        ("a: \x1b[31m", "not YAML that can be read"),
        ("a: 2001-99-99", "not YAML that can be read"),
        ("a: " + "1" * 5000, "not YAML that can be read"),
        ("[a]: b", "not YAML that can be read"),
        ("--- a\n--- b\n", "not YAML that can be read"),
        ("a: !!python/object/apply:os.system ['true']", "not YAML that can be read"),
        ("a: !!python/tuple x", "not YAML that can be read"),
        ("a: !!python/name:os.system", "not YAML that can be read"),
        ("a: " + "x" * MAX_LENGTH, "characters of YAML, the limit is"),
    ],
)
def test_all_else_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match="card") as refused:
        read_yaml(text, "card")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
