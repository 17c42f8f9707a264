"""The plan follows from its seed, and leaves nothing out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from audit.faults import CLUSTER_ONLY, OPERATOR, RECEIVER, Fault, Kind, plan
from audit.subscriptions import AUDITED
from e2e.stack import Service

TARGETS = {*Service, RECEIVER, OPERATOR, *AUDITED}
LONG_S = 3600.0


def all_faults(seed: int, duration_s: float) -> list[Fault]:
    """Give the faults of all targets."""
    return [fault for faults in plan(seed, duration_s).values() for fault in faults]


def test_same_seed_makes_the_same_plan() -> None:
    assert plan(1, 60) == plan(1, 60)


def test_other_seed_makes_another_plan() -> None:
    assert plan(1, 60) != plan(2, 60)


def test_longer_plan_begins_as_a_shorter_one() -> None:
    longer = plan(1, 120)
    for target, faults in plan(1, 60).items():
        assert list(longer[target][: len(faults)]) == list(faults)


def test_every_kind_happens_and_everybody_suffers() -> None:
    faults = all_faults(1, LONG_S)

    assert {fault.kind for fault in faults} == set(Kind) - CLUSTER_ONLY
    assert {fault.target for fault in faults} == TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_faults_of_a_target_come_one_after_another(target: str) -> None:
    faults: Sequence[Fault] = plan(3, LONG_S)[target]

    assert all(a.at_s + a.for_s <= b.at_s for a, b in pairwise(faults))
    assert all(0 <= fault.at_s < LONG_S for fault in faults)


def test_nobody_asks_again_for_what_may_come_once_only() -> None:
    sought = {each.subscription for each in all_faults(1, LONG_S) if each.kind is Kind.SEEK_BACK}

    assert sought == {name for name, audited in AUDITED.items() if audited.retried}
