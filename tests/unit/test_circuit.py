"""The circuit against a model of what it promises."""

from __future__ import annotations

from math import inf

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.dispatch.circuit import FAILURES, MAX_PAUSE_S, MIN_PAUSE_S, Circuit


def opened(now: float = 0.0) -> Circuit:
    circuit = Circuit()
    for _ in range(FAILURES):
        circuit.failed(now, probe=circuit.sending())
    return circuit


def test_ten_failures_in_a_row_open_it() -> None:
    circuit = Circuit()
    for _ in range(FAILURES - 1):
        circuit.failed(0, probe=False)
    assert circuit.closed
    circuit.answered()
    for _ in range(FAILURES - 1):
        circuit.failed(0, probe=False)
    assert circuit.closed
    circuit.failed(0, probe=False)
    assert not circuit.closed
    assert circuit.slots(0) == 0


def test_the_pause_doubles_with_each_failed_probe_up_to_a_minute() -> None:
    circuit, now = opened(), 0.0
    pauses = []
    for _ in range(9):
        ends = circuit.opens_at(now)
        assert ends is not None
        pauses.append(ends - now)
        now = ends
        assert circuit.slots(now) == 1
        assert circuit.sending()
        assert circuit.slots(now) == 0
        circuit.failed(now, probe=True)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_failures_of_requests_sent_before_it_opened_do_not_lengthen_the_pause() -> None:
    circuit = opened()
    circuit.failed(0.5, probe=False)
    assert circuit.opens_at(0.5) == MIN_PAUSE_S


def test_an_answer_closes_it_and_forgets_its_pauses() -> None:
    circuit = opened()
    circuit.sending()
    circuit.failed(1, probe=True)
    circuit.answered()
    assert circuit.slots(1) == inf
    assert opened(1).opens_at(1) == 1 + MIN_PAUSE_S


def test_a_probe_without_an_outcome_may_be_sent_again() -> None:
    circuit = opened()
    assert circuit.sending()
    circuit.unsent()
    assert circuit.slots(MIN_PAUSE_S) == 1


class CircuitMachine(RuleBasedStateMachine):
    """Whatever happens: one probe at a time, pauses within bounds, never stuck."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit()
        self.now = 0.0
        self.out: list[bool] = []

    @precondition(lambda self: self.circuit.slots(self.now) > 0)
    @rule()
    def send(self) -> None:
        self.out.append(self.circuit.sending())

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0))
    def fail(self, which: int) -> None:
        self.circuit.failed(self.now, probe=self.out.pop(which % len(self.out)))

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0))
    def answer(self, which: int) -> None:
        self.out.pop(which % len(self.out))
        self.circuit.answered()

    @rule(wait_s=st.floats(0, 100))
    def wait(self, wait_s: float) -> None:
        self.now += wait_s

    @invariant()
    def pauses_within_bounds(self) -> None:
        opens_at = self.circuit.opens_at(self.now)
        assert opens_at is None or opens_at - self.now <= MAX_PAUSE_S

    @invariant()
    def never_stuck(self) -> None:
        waits_for_probe = any(self.out)
        assert (
            self.circuit.slots(self.now) > 0
            or self.circuit.opens_at(self.now) is not None
            or waits_for_probe
        )


TestCircuit = CircuitMachine.TestCase
