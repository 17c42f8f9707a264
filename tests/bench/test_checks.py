"""A case whose counts differ does not report a rate."""

import pytest
from bench.latency import latency_of
from bench.percentiles import Spread
from bench.publishing import check_stored
from bench.result import CountsDiffer
from bench.schedule import PublishTimes

MS = 1_000_000


@pytest.mark.parametrize("stored", [100, 164])
def test_dropped_requests_may_be_stored(stored: int) -> None:
    check_stored(accepted=100, stored=stored, unanswered=64)


@pytest.mark.parametrize(("accepted", "stored"), [(100, 99), (100, 165), (0, 0)])
def test_lost_or_surplus_messages_fail(accepted: int, stored: int) -> None:
    with pytest.raises(CountsDiffer):
        check_stored(accepted, stored, unanswered=64)


def test_latency_runs_from_the_due_time() -> None:
    times = PublishTimes([0, 10 * MS], [1 * MS, 14 * MS], {0: 2 * MS, 1: 15 * MS})
    found = latency_of(times, {0: 90 * MS, 1: 17 * MS}, first=1)
    assert found.to_webhook == Spread(7.0, 7.0, 7.0)
    assert found.to_answer == Spread(5.0, 5.0, 5.0)
    assert found.to_send == Spread(4.0, 4.0, 4.0)


def test_message_that_did_not_arrive_fails() -> None:
    times = PublishTimes([0, 1], [0, 1], {0: 2, 1: 3})
    with pytest.raises(CountsDiffer, match="1 of 2"):
        latency_of(times, {0: 5}, first=0)
