"""The account of what is in memory, against a plain model of vLLM's cache."""

from hypothesis import given
from hypothesis import strategies as st

from serving.residency import USUAL_CAPACITY, Residency

names = st.sampled_from([f"a{number}@{number:016x}" for number in range(8)])


@given(capacity=st.integers(1, 6), uses=st.lists(names, max_size=60))
def test_holds_the_last_used(capacity: int, uses: list[str]) -> None:
    account = Residency(capacity)
    expected: list[str] = []
    for place, name in enumerate(uses):
        assert account.touch(name, float(place)) == (name not in expected)
        expected = [*(one for one in expected if one != name), name][-capacity:]
        assert [one.adapter for one in account.residents()] == expected
        assert account.residents()[-1].used == place
    assert len(account) <= capacity


def test_counts_and_times() -> None:
    account = Residency(2)
    account.touch("a", 1.0)
    account.touch("a", 5.0)
    (one,) = account.residents()
    assert (one.loaded, one.used, one.uses) == (1.0, 5.0, 2)
    account.drop("a")
    account.drop("a")
    assert len(account) == 0


def test_an_adapter_is_in_danger_when_few_loads_would_push_it_out() -> None:
    account = Residency(8)
    for name in "abcdef":
        account.touch(name)
    assert account.endangered("x")
    assert not any(account.endangered(name) for name in "abcdef")
    account.touch("g")
    account.touch("h")
    assert [name for name in "abcdefgh" if account.endangered(name)] == ["a", "b"]


def test_a_capacity_that_is_not_known() -> None:
    assert Residency().capacity == USUAL_CAPACITY
