"""What is removed is gone from the file, a little at a time; a backlog is given up whole."""

from __future__ import annotations

import sqlite3

import pytest

from support.api import QUICK_RETRY, Api, good
from support.broker_process import BrokerProcess, StartBroker
from support.cloudevent import Json, event
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually

DAY_S = 86400


def publish(api: Api, topic: str, count: int, size: int = 10, **attributes: str) -> list[int]:
    """Publish a batch of `count` messages with `size` bytes of text."""
    events = [event(id=f"{n}-{size}", data="x" * size, **attributes) for n in range(count)]
    told = good(api.publish_batch(topic, events))
    return [each["sequence"] for each in told["messages"]]


def log_of(api: Api, topic: str) -> list[int]:
    """Browse a topic and check that its counts agree; return the sequences."""
    shown = good(api.get_topic(topic))
    assert shown["bytes"] >= 0
    sequences = [message["sequence"] for message in api.all_messages(topic, limit=500)]
    assert shown["message_count"] == len(sequences)
    if sequences:
        assert (shown["first_sequence"], shown["last_sequence"]) == (sequences[0], sequences[-1])
    else:
        assert shown["first_sequence"] == shown["last_sequence"] + 1
        assert shown["bytes"] == 0
    return sequences


def rows_in(broker: BrokerProcess, table: str) -> int:
    """Count the rows of a table, in the file."""
    connection = sqlite3.connect(broker.folder / "broker.db")
    try:
        ((count,),) = connection.execute(f"SELECT count(*) FROM {table}")
        return int(count)
    finally:
        connection.close()


def dead_letter(api: Api, topic: str, sequence: int) -> Json | None:
    """Show a dead letter, if it is one."""
    answer = api.http.get(f"/v1/topics/{topic}/subscriptions/s/dead-letters/{sequence}")
    return None if answer.status_code == 404 else good(answer)


def test_message_goes_from_the_file_with_its_dead_letter(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(422))
    broker = start_broker()
    broker.api.put_topic("t", retention={"max_messages": 1})
    broker.api.ok_subscribe("t", endpoint.url)
    publish(broker.api, "t", 30)
    eventually(lambda: log_of(broker.api, "t") == [30])
    # They have one row, which stays as long as the log has the last of them.
    assert (rows_in(broker, "block"), rows_in(broker, "attempt")) == (1, 30)
    broker.api.ok_publish("t", "behind")
    eventually(lambda: log_of(broker.api, "t") == [31])
    assert (rows_in(broker, "block"), rows_in(broker, "attempt")) == (31, 31)

    for sequence in range(1, 21):
        answer = broker.api.http.delete(f"/v1/topics/t/subscriptions/s/dead-letters/{sequence}")
        assert answer.status_code == 204

    eventually(lambda: rows_in(broker, "block") == 11)
    assert dead_letter(broker.api, "t", 21) is not None
    assert rows_in(broker, "exception") == 11


def not_taking(endpoint: Endpoint) -> dict[str, object]:
    """Each way of not taking what comes."""
    return {
        "no endpoint": {"endpoint": None},
        "failing": {"endpoint": endpoint.url},
        "blocked": {
            "endpoint": endpoint.url,
            "when_exhausted": "block",
            "retry": {"max_attempts": 1},
        },
        "in order": {"endpoint": endpoint.url, "ordering": "topic"},
        "without order": {"endpoint": endpoint.url, "ordering": "none"},
    }


@pytest.mark.parametrize(
    "case", ["no endpoint", "failing", "blocked", "in order", "without order", "paused"]
)
def test_too_old_backlog_becomes_dead_letters(
    api: Api, topic: str, endpoint: Endpoint, case: str
) -> None:
    endpoint.script = always(Answer(404))  # no failure that would open the circuit
    fields: Json = {"endpoint": endpoint.url, "retry": {**QUICK_RETRY, "max_attempts": 0}}
    fields |= not_taking(endpoint).get(case, {})  # type: ignore[arg-type]
    good(api.put_subscription(topic, "s", **fields))
    if case == "paused":
        good(api.http.post(f"/v1/topics/{topic}/subscriptions/s/pause"))
    sequences = publish(api, topic, 700, partitionkey="k") + publish(api, topic, 5, size=11)
    assert api.ok_status(topic)["backlog"] == 705

    good(api.put_subscription(topic, "s", max_backlog_age_s=1))

    eventually(lambda: api.ok_status(topic)["dead_letters"] == 705)
    assert api.ok_status(topic)["backlog"] == 0
    shown = dead_letter(api, topic, sequences[-1])
    assert shown is not None
    assert shown["reason"] == "too_old"

    endpoint.script = always(Answer(200))
    good(api.put_subscription(topic, "s", endpoint=endpoint.url, max_backlog_age_s=None))
    good(api.http.post(f"/v1/topics/{topic}/subscriptions/s/resume"))
    fresh = api.ok_publish(topic, "fresh", key="k")
    eventually(lambda: fresh in endpoint.sequences)


# -- what is deleted


@pytest.mark.parametrize("what", ["subscription", "topic"])
def test_what_is_deleted_frees_what_it_held(
    start_broker: StartBroker, endpoint: Endpoint, what: str
) -> None:
    endpoint.script = always(Answer(422))
    broker = start_broker()
    api = broker.api
    api.ok_subscribe("t", endpoint.url, format="batch", max_batch=1000)
    for part in range(3):
        publish(api, "t", 700, size=20 + part)
    eventually(lambda: api.ok_status("t")["dead_letters"] == 2100)

    if what == "subscription":
        assert api.delete_subscription("t", "s").status_code == 204
        left = {"each_message": 2100, "publish_key": 2100}
    else:
        assert api.delete_topic("t", force=True).status_code == 204
        left = {"each_message": 0, "publish_key": 0}
    broker.kill()
    broker.start()

    counts = {"exception": 0, "attempt": 0, **left}
    eventually(lambda: {table: rows_in(broker, table) for table in counts} == counts)
    if what == "subscription":
        assert log_of(broker.api, "t") == list(range(1, 2101))
        again = broker.api.ok_subscribe("t", endpoint.url)
        assert (again["dead_letters"], again["backlog"]) == (0, 0)


def test_ids_are_forgotten_after_their_window(start_broker: StartBroker) -> None:
    broker = start_broker()
    broker.api.put_topic("short", dedup_window_s=1)
    broker.api.put_topic("long", dedup_window_s=DAY_S)
    for topic in ("short", "long"):
        publish(broker.api, topic, 10)  # ids that rise
        publish(broker.api, topic, 500 if topic == "short" else 12, size=11)  # and others
    assert rows_in(broker, "id_run") == 2

    eventually(lambda: rows_in(broker, "publish_key") == 12)
    eventually(lambda: rows_in(broker, "id_run") == 1)
    assert good(broker.api.publish_event("long", event(id="1-10", data="x" * 10)))["duplicate"]
    assert not good(broker.api.publish_event("short", event(id="1-10", data="y")))["duplicate"]
