"""Which cells are handed over."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from broker.sharing.balance import HandOver, heirs_of, next_hand_over

BROKERS = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=7, unique=True)


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[str | None], list[str]]:
    brokers = draw(BROKERS)
    return draw(st.lists(st.sampled_from(brokers), min_size=1, max_size=64)), brokers


def difference(owners: list[str | None], brokers: list[str]) -> int:
    counts = Counter(owners)
    return max(counts[each] for each in brokers) - min(counts[each] for each in brokers)


@given(clusters())
def test_shares_even_out_and_then_rest(cluster: tuple[list[str | None], list[str]]) -> None:
    owners, brokers = cluster
    able = {each: frozenset(range(len(owners))) for each in brokers}
    for _ in range(len(owners) + 1):
        step = next_hand_over(owners, able)
        if step is None:
            break
        counts = Counter(owners)
        assert owners[step.cell] == step.giver
        assert counts[step.giver] == max(counts.values())
        assert counts[step.follower] == min(counts[each] for each in brokers)
        owners[step.cell] = step.follower
    assert next_hand_over(owners, able) is None
    assert difference(owners, brokers) <= 1


@given(clusters(), st.data())
def test_nothing_goes_to_who_could_not_take_it(
    cluster: tuple[list[str | None], list[str]], data: st.DataObject
) -> None:
    owners, brokers = cluster
    some = st.frozensets(st.integers(0, len(owners) - 1))
    able = {each: data.draw(some) for each in brokers}
    step = next_hand_over(owners, able)
    if step is not None:
        assert step.cell in able[step.follower]
        counts = Counter(owners)
        assert counts[step.giver] - counts[step.follower] >= 2
    for cell, heir in heirs_of(range(len(owners)), brokers[0], owners, able).items():
        assert heir != brokers[0]
        assert cell in able[heir]


@given(clusters())
def test_nothing_goes_while_a_cell_has_no_owner_that_is_alive(
    cluster: tuple[list[str | None], list[str]],
) -> None:
    owners, brokers = cluster
    able = {each: frozenset(range(len(owners))) for each in brokers}
    for missing in (None, "z"):
        assert next_hand_over([*owners, missing], able) is None


def test_first_cell_stays_where_it_is() -> None:
    able = {"a": frozenset[int](), "b": frozenset({0, 1, 2})}
    assert next_hand_over(["a", "a", "a"], able) == HandOver(2, "a", "b")
    able["b"] = frozenset({0})
    assert next_hand_over(["a", "a", "a"], able) is None


def test_what_a_broker_leaves_is_spread_over_the_others() -> None:
    every = frozenset(range(6))
    able = {"a": every, "b": every, "c": every}
    heirs = heirs_of((0, 1, 2, 3), "a", ["a", "a", "a", "a", "b", "b"], able)
    assert heirs == {0: "c", 1: "c", 2: "b", 3: "c"}
    assert heirs_of((0,), "a", ["a"], {"a": every}) == {}
