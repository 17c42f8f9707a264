"""How long an owner may act, and when another may take over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.store.jetstream.lease import Lease, LeaseTimes, Watch

TIMES = LeaseTimes(lapse_s=5.0, beat_s=1.0, margin_s=1.0)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_owner_that_never_wrote_may_send_nothing() -> None:
    assert Lease(TIMES, Clock()).until() == float("-inf")


def test_lease_lasts_from_the_beginning_of_the_last_write() -> None:
    clock = Clock()
    lease = Lease(TIMES, clock)
    clock.now = 107.0
    lease.renew(began=103.0)

    assert lease.until() == 107.0
    assert lease.beat_in() == 0.0

    lease.renew(began=101.0)  # answered late
    assert lease.until() == 107.0

    lease.renew(began=106.5)
    assert lease.beat_in() == 0.5


def test_journal_may_be_claimed_once_its_owner_has_been_silent() -> None:
    clock = Clock()
    watch = Watch(TIMES, clock)
    clock.now += 4.9
    assert not watch.claimable()
    watch.heard()
    clock.now += 4.9
    assert not watch.claimable()
    clock.now += 0.1
    assert watch.claimable()


def test_journal_may_be_claimed_once_its_owner_has_let_go() -> None:
    watch = Watch(TIMES, Clock())
    watch.heard(released=True)
    assert watch.claimable()
    watch.heard()
    assert not watch.claimable()


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3), st.floats(0, 3)), min_size=1, max_size=20)
)
def test_nobody_may_claim_while_the_owner_may_send(
    steps: list[tuple[float, float, float]],
) -> None:
    clock = Clock()
    lease, watch = Lease(TIMES, clock), Watch(TIMES, clock)
    for stored_after, read_after, idle in steps:
        began = clock.now
        clock.now += stored_after
        clock.now += read_after  # in any order with the answer to the owner
        watch.heard()
        lease.renew(began)
        clock.now += idle
        if watch.claimable():
            assert clock.now >= lease.until() + TIMES.margin_s
            return
