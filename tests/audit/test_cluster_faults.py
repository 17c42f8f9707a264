"""What is done to a cluster follows from its seed, and never to two NATS servers at once."""

from __future__ import annotations

from itertools import islice

from audit.cluster_faults import KINDS, LASTS_S, LATE_S, PAIRS, SERVERS, TWO, Strike, strikes
from audit.faults import Kind


def first(seed: int, count: int = 2000) -> list[Strike]:
    """Give the first strikes of a seed."""
    return list(islice(strikes(seed), count))


def test_same_seed_makes_the_same_strikes() -> None:
    assert first(1) == first(1)


def test_other_seed_makes_other_strikes() -> None:
    assert first(1) != first(2)


def test_everybody_suffers_everything() -> None:
    found = {(fault.target, fault.kind) for strike in first(1) for fault in strike.faults}

    assert found == {(role, kind) for role, kinds in KINDS.items() for kind in kinds}


def test_two_come_together_sometimes_and_are_of_different_kinds() -> None:
    pairs = [strike.faults for strike in first(1) if len(strike.faults) > 1]

    assert {frozenset(fault.target for fault in pair) for pair in pairs} == set(
        map(frozenset, PAIRS)
    )
    assert all(len({fault.kind for fault in pair}) == 2 for pair in pairs)
    assert 0 < len(pairs) < len(first(1)) / 2


def test_two_servers_never_suffer_at_once() -> None:
    assert all(sum(fault.target in SERVERS for fault in strike.faults) <= 1 for strike in first(1))


def test_what_lasts_lasts_as_long_as_planned() -> None:
    for strike in first(1):
        for fault in strike.faults:
            shortest, longest = LASTS_S.get(fault.kind, (0.0, 0.0))
            assert shortest <= fault.for_s <= longest


def test_disk_answers_late_only_where_it_is_slow() -> None:
    for strike in first(1):
        for fault in strike.faults:
            shortest, longest = LATE_S if fault.kind is Kind.SLOW_DISK else (0.0, 0.0)
            assert shortest <= fault.late_s <= longest


def test_what_is_not_possible_is_left_out() -> None:
    without = islice(strikes(1, [Kind.SLOW_DISK]), 2000)
    kinds = {fault.kind for strike in without for fault in strike.faults}

    assert kinds == {kind for of_role in KINDS.values() for kind in of_role} - {Kind.SLOW_DISK}


def test_brokers_that_share_a_store_are_restarted_more_often() -> None:
    def restarts(*, shared: bool) -> int:
        some = islice(strikes(1, shared=shared), 2000)
        kinds = [fault.kind for strike in some for fault in strike.faults]
        return kinds.count(Kind.RESTART)

    assert restarts(shared=True) > 1.5 * restarts(shared=False) > 0


def test_strike_is_counted_by_whom_it_met_and_how() -> None:
    names = {strike.name for strike in first(1)}

    assert TWO in names
    assert f"the owner: {Kind.PAUSE}" in names
