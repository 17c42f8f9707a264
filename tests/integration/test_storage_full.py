"""A disk that runs full: publishing is refused in time, deliveries go on, room brings it back."""

from __future__ import annotations

import os
import shutil

import pytest

from support.api import SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess, StartBroker
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually
from support.moments import ahead
from support.problem import read_problem

MIB = 1024 * 1024
HUGE = str(10**15)


def restart_full(broker: BrokerProcess) -> Api:
    """Start a broker again on a disk that can only be too small; it need not be ready."""
    broker.stop()
    broker.set(BROKER_MIN_FREE_BYTES=HUGE)
    broker.launch()
    eventually(broker.is_answering)
    return broker.api


def test_every_way_to_publish_is_refused_with_507(start_broker: StartBroker) -> None:
    broker = start_broker()
    broker.api.ok_publish("t", "before")
    api = restart_full(broker)

    answers = [
        api.publish("t", 1),
        api.publish_event("t", event()),
        api.publish_event("t", event(deliverat=ahead(3600))),
        api.publish_batch("t", [event(id=str(n)) for n in range(3)]),
    ]

    problems = [read_problem(answer, 507) for answer in answers]
    assert {problem.code for problem in problems} == {"storage_full"}
    assert [message["data"] for message in api.all_messages("t")] == ["before"]
    assert api.scheduled("t") == []


def test_deliveries_go_on_and_can_be_acted_on(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(500))
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url, retry=SLOW_RETRY)
    waiting = broker.api.ok_publish("t", 1, key="k")
    eventually(lambda: broker.api.ok_status("t")["retrying"] == 1)
    broker.api.pause("t")
    behind = [broker.api.ok_publish("t", n, key="k") for n in range(3)]
    api = restart_full(broker)
    endpoint.script = always(Answer(200))

    api.resume("t")
    assert api.act("t", f"deliveries/{waiting}/retry").is_success
    eventually(lambda: api.backlog("t") == 0)

    assert endpoint.sequences == [waiting, waiting, *behind]
    read_problem(api.publish("t", 1), 507)


def test_more_room_at_the_next_start_takes_what_was_refused(start_broker: StartBroker) -> None:
    broker = start_broker()
    api = restart_full(broker)
    given = event(id="m", data=1)
    read_problem(api.publish_event("t", given), 507)

    broker.stop()
    broker.set(BROKER_MIN_FREE_BYTES=None)
    broker.start()

    assert good(broker.api.publish_event("t", given))["duplicate"] is False
    assert good(broker.api.publish_event("t", given))["duplicate"] is True


def test_room_that_comes_and_goes_is_noticed_without_a_restart(
    start_broker: StartBroker,
) -> None:
    probe = start_broker()
    free = shutil.disk_usage(probe.folder).free
    if free < 1500 * MIB:
        pytest.skip("there is too little room on this disk to fill some of it up")
    probe.stop()
    probe.set(BROKER_MIN_FREE_BYTES=str(free - 500 * MIB))
    probe.start()
    probe.api.ok_publish("t", "fits")

    ballast = probe.folder / "ballast"
    try:
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 1000 * MIB)
        eventually(lambda: probe.api.publish("t", "does not").status_code == 507)
    finally:
        ballast.unlink()

    eventually(lambda: probe.api.publish("t", "fits again").status_code == 201)
