"""An overloaded endpoint that asks to be left alone with `Retry-After`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from support.api import INSTANT_RETRY, QUICK_RETRY, SLOW_RETRY, Api
from support.broker_process import BrokerProcess
from support.endpoint import Answer, Endpoint, always, by_attempt
from support.eventually import eventually
from support.witness import Witness

OK = Answer(200)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_retry_after_is_obeyed_by_every_key(
    api: Api, topic: str, endpoint: Endpoint, status: int, as_date: bool
) -> None:
    until = datetime.now(UTC) + timedelta(seconds=2)
    value = format_datetime(until, usegmt=True) if as_date else "1"
    endpoint.script = lambda request: (
        Answer(status, {"Retry-After": value}) if len(endpoint.requests) == 1 else OK
    )
    api.ok_subscribe(topic, endpoint.url, retry={**QUICK_RETRY, "max_backoff_s": 0.05})
    api.ok_publish(topic, 1, key="a")
    eventually(lambda: endpoint.requests and api.ok_status(topic)["retrying"])
    api.ok_publish(topic, 2, key="b")
    api.ok_publish(topic, 3)

    eventually(lambda: len(endpoint.requests) == 4)

    # A date counts whole seconds, and time has passed since it was made.
    first, *others = [request.at for request in endpoint.requests]
    assert min(others) - first > (0.2 if as_date else 0.95)


@pytest.mark.parametrize("status", [200, 301, 404, 500])
def test_retry_after_counts_with_429_and_503_only(
    api: Api, topic: str, endpoint: Endpoint, status: int
) -> None:
    endpoint.script = by_attempt(Answer(status, {"Retry-After": "3600"}), OK)
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    for n in range(3):
        api.ok_publish(topic, n, key="k")

    eventually(lambda: api.backlog(topic) == 0)

    assert len(endpoint.requests) == (3 if status == 200 else 6)


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "1.5.2", "0", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Foo 2024"]
)
def test_retry_after_that_says_nothing_is_ignored(
    api: Api, topic: str, endpoint: Endpoint, value: str
) -> None:
    endpoint.script = by_attempt(Answer(503, {"Retry-After": value}), OK)
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)


def test_retry_after_holds_one_subscription_only(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.script = lambda request: (
        Answer(429, {"Retry-After": "3600"})
        if request.headers["webhook-subscription"].endswith("/busy")
        else OK
    )
    api.ok_subscribe(topic, endpoint.url, "busy")
    api.ok_subscribe(topic, endpoint.url, "free")
    sequences = [api.ok_publish(topic, n, key=f"k{n}") for n in range(5)]
    eventually(lambda: api.backlog(topic, "free") == 0)
    witness.let_pass(api)

    assert api.backlog(topic, "busy") == 5
    freely = [each for each in endpoint.requests if each.headers["webhook-subscription"][-1] == "e"]
    assert sorted(each.sequence for each in freely) == sequences


@pytest.mark.parametrize("end", [BrokerProcess.kill, BrokerProcess.stop])
def test_hold_survives_a_restart(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint, witness: Witness, end: Any
) -> None:
    endpoint.script = always(Answer(503, {"Retry-After": "3600"}))
    restartable.api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    first = restartable.api.ok_publish(topic, 1, key="a")
    before = eventually(lambda: restartable.api.deliveries(topic, "retrying"))
    endpoint.script = always(OK)

    end(restartable)
    restartable.start()
    for n, key in enumerate(["a", "b", None]):
        restartable.api.ok_publish(topic, n, key=key)
    witness.let_pass(restartable.api)

    assert endpoint.sequences == [first]
    assert restartable.api.backlog(topic) == 4
    assert restartable.api.deliveries(topic, "retrying") == before


@pytest.mark.parametrize("status", [429, 503])
def test_hold_ends_in_time_after_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint, status: int
) -> None:
    endpoint.script = lambda _request: (
        Answer(status, {"Retry-After": "2"}) if len(endpoint.requests) == 1 else OK
    )
    restartable.api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    restartable.api.ok_publish(topic, 1, key="a")
    eventually(lambda: restartable.api.deliveries(topic, "retrying"))

    restartable.kill()
    restartable.start()
    restartable.api.ok_publish(topic, 2, key="b")
    eventually(lambda: restartable.api.backlog(topic) == 0)

    first, *others = [request.at for request in endpoint.requests]
    assert min(others) - first > 1.9


@pytest.mark.parametrize("end", [BrokerProcess.kill, BrokerProcess.stop])
def test_every_schedule_survives_a_restart(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint, end: Any
) -> None:
    endpoint.script = always(Answer(404))
    api = restartable.api
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    for n in range(20):
        api.ok_publish(topic, n, key=f"k{n}" if n % 2 else None)
    before = eventually(lambda: (found := api.deliveries(topic, "retrying"))[19:] and found)

    end(restartable)
    restartable.start()

    assert restartable.api.deliveries(topic, "retrying") == before
    assert len({each["next_attempt_at"] for each in before}) > 10
    assert len(endpoint.requests) == 20
