"""What a courier tells, and who hears of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.dispatch.courier_line import CourierLine
from broker.dispatch.frames import Introduction, Job, Outcome, framed
from broker.tls import Tls
from unit.pump_world import SUBSCRIPTION


class Hearing:
    """A sender that notes what it hears, in one list with all others."""

    subscription = SUBSCRIPTION

    def __init__(self, name: str, heard: list[tuple[str, int]]) -> None:
        self._name = name
        self._heard = heard

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        self._heard += [(self._name, outcome.job) for outcome in outcomes]

    def lost(self, job: int) -> None:
        self._heard.append((f"{self._name} lost", job))


class Failing(Hearing):
    """A sender that cannot bear what it hears."""

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        raise RuntimeError("too much")


def line() -> CourierLine:
    """Make a line without a process."""
    return CourierLine(Introduction([], "broker", Tls()), None, lambda: 0.0)


def send(line: CourierLine, sender: Hearing, *jobs: int) -> None:
    """Have a sender send jobs."""
    line.send(sender, [Job(job, 1, 1, []) for job in jobs])


@given(
    frames=st.lists(st.lists(st.sampled_from("abc"), max_size=6), max_size=4),
    cuts=st.lists(st.integers(0, 200), max_size=4),
)
def test_each_sender_hears_of_its_jobs_in_the_order_in_which_they_ended(
    frames: list[list[str]], cuts: list[int]
) -> None:
    heard: list[tuple[str, int]] = []
    senders = {name: Hearing(name, heard) for name in "abc"}
    courier = line()
    expected: list[tuple[str, int]] = []
    stream = b""
    for names in frames:
        jobs = range(len(expected) + 1, len(expected) + 1 + len(names))
        for name, job in zip(names, jobs, strict=True):
            send(courier, senders[name], job)
            expected.append((name, job))
        stream += framed([Outcome(job, 200) for job in jobs])
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]

    for start, end in itertools.pairwise(places):
        courier.data_received(stream[start:end])

    assert heard == expected
    assert not courier._senders


def test_what_others_sent_is_kept_where_one_fails() -> None:
    heard: list[tuple[str, int]] = []
    courier = line()
    good, bad = Hearing("good", heard), Failing("bad", heard)
    send(courier, good, 1, 4)
    send(courier, bad, 2, 3)

    with pytest.raises(RuntimeError):
        courier.data_received(framed([Outcome(job, 200) for job in (1, 2, 3, 4)]))

    assert heard == [("good", 1)]
    assert list(courier._senders) == [4]
