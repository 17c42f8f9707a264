"""Leases that are added, extended, lost and ended, in every order."""

from __future__ import annotations

import threading
from collections.abc import Collection

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker_client import BrokerUnavailable
from broker_client.leases import Leases
from support.eventually import eventually

DEADLINE_S = 30.0
IDS = st.sampled_from("abc")


class LeasesMachine(RuleBasedStateMachine):
    """Compares with what each lease's end should be; the clock stands still between the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.lost: set[str] = set()
        self.away = False
        self.until: dict[str, float] = {}
        self.asked: list[set[str]] = []
        self.leases = Leases((), DEADLINE_S, self.extend, lambda: self.now)

    def extend(self, ack_ids: Collection[str]) -> Collection[str]:
        """Answer as the broker would."""
        self.asked.append(set(ack_ids))
        if self.away:
            raise BrokerUnavailable
        return [each for each in ack_ids if each in self.lost]

    @rule(ack_ids=st.lists(IDS))
    def add(self, ack_ids: list[str]) -> None:
        self.leases.add(ack_ids)
        self.until.update(dict.fromkeys(ack_ids, self.now + DEADLINE_S))

    @rule(ack_id=IDS)
    def end(self, ack_id: str) -> None:
        self.leases.end(ack_id)
        self.until.pop(ack_id, None)

    @rule(lost=st.sets(IDS), away=st.booleans())
    def ask_for_more_time(self, lost: set[str], away: bool) -> None:
        self.lost, self.away = lost, away

        self.leases._extend_all(list(self.until))

        assert self.asked[-1] == set(self.until)
        if not away:
            for ack_id in list(self.until):
                if ack_id in lost:
                    del self.until[ack_id]
                else:
                    self.until[ack_id] = self.now + DEADLINE_S

    @rule(seconds=st.sampled_from([1.0, 10.0, DEADLINE_S]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def holds_what_has_time_left(self) -> None:
        held = {each for each in "abc" if self.leases.hold(each)}
        assert held == {each for each, until in self.until.items() if self.now < until}


TestLeases = LeasesMachine.TestCase


def test_one_that_ends_while_more_time_is_asked_for_stays_ended() -> None:
    asking, go_on = threading.Event(), threading.Event()
    asked: list[set[str]] = []

    def extend(ack_ids: Collection[str]) -> Collection[str]:
        asked.append(set(ack_ids))
        asking.set()
        assert go_on.wait(20)
        return ()

    with Leases(["a", "b"], 0.03, extend, lambda: 0.0) as leases:
        assert asking.wait(20)
        leases.end("a")
        go_on.set()
        eventually(lambda: len(asked) > 1)

    assert asked[:2] == [{"a", "b"}, {"b"}]


def test_all_that_are_held_are_kept_until_the_end() -> None:
    asked: list[set[str]] = []

    def extend(ack_ids: Collection[str]) -> Collection[str]:
        asked.append(set(ack_ids))
        return ()

    with Leases(["a"], 0.03, extend, lambda: 0.0) as leases:
        eventually(lambda: {"a"} in asked)
        leases.add(["b"])
        eventually(lambda: {"a", "b"} in asked)
        leases.end("a")
        eventually(lambda: {"b"} in asked)
    count = len(asked)

    assert not any(thread.name == "leases" for thread in threading.enumerate())
    assert len(asked) == count
