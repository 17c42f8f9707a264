"""Today's broker takes over a store of schema 1, on which its broker was killed."""

from __future__ import annotations

import json
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import good
from support.broker_process import BrokerProcess
from support.cloudevent import Json
from support.command import run_broker
from support.endpoint import Endpoint
from support.eventually import eventually
from support.signature import new_secret, verify

ARCHIVE = Path(__file__).with_name("schema_1.tar.xz")
AGE_S = 2 * 3600  # long enough ago for every retry to be due


@pytest.fixture
def left(tmp_path: Path) -> Json:
    """What the old broker showed last; its store is in `tmp_path`, as if killed two hours ago."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    seen: Json = json.loads((tmp_path / "seen.json").read_text())
    later = time.time() - AGE_S - seen["made_at"]
    connection = sqlite3.connect(tmp_path / "broker.db", isolation_level=None)
    for change in (
        "UPDATE message SET stored_at = stored_at + ?",
        "UPDATE publish_key SET stored_at = stored_at + ?",
        "UPDATE exception SET due_at = due_at + ? WHERE due_at > 0",
        "UPDATE attempt SET at = at + ?",
    ):
        connection.execute(change, (later,))
    connection.close()
    return seen


@pytest.fixture
def moved(tmp_path: Path, left: Json, endpoint: Endpoint) -> None:
    """Every subscription's endpoint, moved to where the test listens."""
    assert left["subscriptions"]
    connection = sqlite3.connect(tmp_path / "broker.db", isolation_level=None)
    change = "UPDATE document SET body = json_set(body, '$.endpoint', ?) WHERE key LIKE ?"
    connection.execute(change, (endpoint.url, "subscription/%"))
    connection.close()


@pytest.fixture
def broker(tmp_path: Path, left: Json) -> Iterator[BrokerProcess]:
    """Today's broker on that store."""
    running = BrokerProcess(tmp_path)
    yield running.start()
    running.close()
    print(running.log()[-20_000:])


def test_topics_and_messages_are_as_they_were(broker: BrokerProcess, left: Json) -> None:
    for before in left["topics"]:
        now = good(broker.api.get_topic(before["name"]))
        assert now.items() >= before.items()
        assert list(broker.api.all_messages(before["name"])) == left["messages"][before["name"]]


def test_subscriptions_are_as_they_were(broker: BrokerProcess, left: Json) -> None:
    configured = ("endpoint", "ordering", "format", "max_batch", "max_in_flight", "retry")
    counted = ("backlog", "dead_letters", "created_at")
    for topic, subscriptions in left["subscriptions"].items():
        assert subscriptions
        for before in subscriptions:
            now = broker.api.ok_status(topic, before["name"])
            assert {n: now[n] for n in configured + counted} == {
                n: before[n] for n in configured + counted
            }


def test_known_ids_are_recognised(broker: BrokerProcess, left: Json) -> None:
    attributes = left["messages"]["orders"][0]
    event = {name: value for name, value in attributes.items() if name != "sequence"}

    again = good(broker.api.publish_event("orders", event))

    assert (again["sequence"], again["duplicate"]) == (1, True)


@pytest.mark.usefixtures("moved")
def test_everything_owed_is_delivered_and_nothing_else(
    broker: BrokerProcess, endpoint: Endpoint
) -> None:
    for topic, name in (
        ("orders", "mail"),
        ("orders", "audit"),
        ("orders", "sloppy"),
        ("quiet", "reader"),
    ):
        eventually(lambda t=topic, n=name: broker.api.ok_status(t, n)["backlog"] == 0)
    got = {
        name: [
            sequence
            for request in endpoint.requests
            if request.headers["webhook-subscription"] == name
            for sequence in request.sequences
        ]
        for name in ("orders/mail", "orders/audit", "orders/sloppy", "quiet/reader")
    }

    assert sorted(got["orders/mail"]) == [2, 6, 7, 9, 12, 16, 17, 19]
    for key in ([2, 6, 12, 16], [7, 9, 17, 19]):
        assert [sequence for sequence in got["orders/mail"] if sequence in key] == key
    assert got["orders/audit"] == list(range(1, 23))
    assert sorted(got["orders/sloppy"]) == [2, 6, 7, *range(9, 23)]
    assert sorted(got["quiet/reader"]) == [1, 2, 3, 4, 5]
    assert broker.api.ok_status("orders", "mail")["dead_letters"] == 2


@pytest.mark.usefixtures("moved")
def test_requests_are_numbered_named_and_signed_as_before(
    broker: BrokerProcess, endpoint: Endpoint
) -> None:
    eventually(lambda: broker.api.ok_status("orders", "mail")["backlog"] == 0)

    requests = [
        request
        for request in endpoint.requests
        if request.headers["webhook-subscription"] == "orders/mail"
    ]
    attempts = {request.sequence: request.attempt for request in requests}
    assert attempts == {2: 2} | dict.fromkeys([6, 7, 9, 12, 16, 17, 19], 1)
    for request in requests:
        assert request.webhook_id == f"msg_5ef3efe0_1_{request.sequence}"
        assert request.headers["x-a"] == "b"
        verify(request, new_secret(2))


@pytest.mark.usefixtures("left")
def test_store_of_schema_1_is_told_to_be_one(tmp_path: Path) -> None:
    done = run_broker("check", tmp_path)

    assert done.returncode == 0
    assert "schema 1" in done.stdout


@pytest.mark.usefixtures("moved")
def test_store_is_in_order_afterwards(broker: BrokerProcess) -> None:
    for topic, name in (("orders", "mail"), ("orders", "audit"), ("quiet", "reader")):
        eventually(lambda t=topic, n=name: broker.api.ok_status(t, n)["backlog"] == 0)
    broker.kill()

    done = run_broker("check", broker.folder)

    assert done.returncode == 0, done.stdout


def test_new_messages_follow_the_old_ones(broker: BrokerProcess) -> None:
    assert broker.api.ok_publish("orders", "new") == 23
    assert broker.api.ok_publish("quiet", "new") == 6
    broker.kill()
    broker.start()
    assert good(broker.api.get_topic("orders"))["message_count"] == 23
