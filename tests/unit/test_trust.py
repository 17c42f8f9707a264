"""Whether brokers are given cells again."""

from __future__ import annotations

import pytest

from broker.sharing.trust import DISTRUSTED_S, KEEPS_S, Trust


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


def test_broker_is_tried_again_after_a_while() -> None:
    clock = Clock()
    trust = Trust(clock)
    trust.gave(0, "b")
    trust.look(["a"])
    assert not trust.trusts("b")
    clock.now += DISTRUSTED_S
    assert trust.trusts("b")
