"""Whether brokers are given cells again."""

from __future__ import annotations

import pytest

from broker.sharing.trust import FIRST_S, KEEPS_S, LONGEST_S, Trust

CELLS = 3


class Clock:
    """A clock that moves when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.mark.parametrize(
    ("owners", "after_s", "trusted"),
    [
        ([None], 1.0, True),  # on its way
        (["b"], 1.0, True),
        (["c"], 6.0, False),  # another has taken it over
        (["a"], 6.0, False),
        (["c"], KEEPS_S + 1, True),  # it had it long enough
    ],
)
def test_broker_that_does_not_keep_a_cell_is_given_none(
    owners: list[str | None], after_s: float, trusted: bool
) -> None:
    clock = Clock()
    trust = Trust(clock)
    trust.gave(0, "b")
    clock.now += after_s
    trust.look(owners)
    assert trust.trusts("b") is trusted
    assert trust.trusts("c")


def failing(trust: Trust, clock: Clock, *cells: int) -> float:
    """Give a broker cells that it does not keep; return after how long it is tried again."""
    for cell in cells:
        trust.gave(cell, "b")
    trust.look(["a"] * CELLS)
    began = clock.now
    while not trust.trusts("b"):
        clock.now += FIRST_S
    return clock.now - began


def test_broker_is_tried_again_soon_and_later_each_time() -> None:
    clock = Clock()
    trust = Trust(clock)
    found = [failing(trust, clock, 0) for _ in range(8)]
    assert found[:3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert found[-2:] == [LONGEST_S, LONGEST_S]


def test_broker_that_loses_several_cells_at_once_has_failed_once() -> None:
    assert failing(Trust(clock := Clock()), clock, 0, 1, 2) == FIRST_S


def test_broker_that_keeps_a_cell_is_as_trusted_as_before() -> None:
    clock = Clock()
    trust = Trust(clock)
    failing(trust, clock, 0)
    trust.gave(1, "b")
    clock.now += KEEPS_S + 1
    trust.look([None, "b"])
    assert failing(trust, clock, 0) == FIRST_S
