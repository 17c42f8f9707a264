"""What is past its time goes; what anybody is owed stays."""

from __future__ import annotations

import sqlite3
import threading
from itertools import count

import httpx
import pytest

from support.api import QUICK_RETRY, Api, good
from support.broker_process import BrokerProcess, StartBroker
from support.cloudevent import Json, event
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually
from support.problem import read_problem

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


# -- topics


def test_no_more_messages_stay_than_the_topic_is_to_keep(api: Api, topic: str) -> None:
    api.put_topic(topic, retention={"max_messages": 7})
    publish(api, topic, 100)

    assert eventually(lambda: (log := log_of(api, topic)) == list(range(94, 101)) and log)
    read_problem(api.get_message(topic, 93), 404)
    assert good(api.get_message(topic, 94))["sequence"] == 94
    assert api.ok_publish(topic, "next") == 101


def test_no_more_bytes_stay_than_the_topic_is_to_keep(api: Api, topic: str) -> None:
    api.put_topic(topic, retention={"max_bytes": 20_000})
    publish(api, topic, 50, size=1000)

    eventually(lambda: good(api.get_topic(topic))["bytes"] <= 20_000)
    left = log_of(api, topic)
    assert left == list(range(left[0], 51))
    assert good(api.get_topic(topic))["bytes"] > 18_000


def test_messages_go_when_they_are_too_old(api: Api, topic: str) -> None:
    api.put_topic(topic, retention={"max_age_s": 2})
    publish(api, topic, 3)

    eventually(lambda: log_of(api, topic) == [])
    assert api.ok_publish(topic, "next") == 4
    assert log_of(api, topic) == [4]


def test_retention_may_be_shortened_later(api: Api, topic: str) -> None:
    publish(api, topic, 20)
    assert log_of(api, topic) == list(range(1, 21))

    api.put_topic(topic, retention={"max_messages": 1})

    eventually(lambda: log_of(api, topic) == [20])


def test_what_a_subscription_is_owed_stays(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: Answer(500 if request.key == "bad" else 200)
    api.put_topic(topic, retention={"max_messages": 1})
    api.ok_subscribe(topic, endpoint.url, retry={**QUICK_RETRY, "max_attempts": 0})
    good(api.put_subscription(topic, "later", start="beginning"))
    publish(api, topic, 10)
    bad = publish(api, topic, 1, size=11, partitionkey="bad")
    publish(api, topic, 10, size=12)

    eventually(lambda: len(set(endpoint.sequences)) == 21)
    assert log_of(api, topic) == list(range(1, 22))
    api.delete_subscription(topic, "later")
    eventually(lambda: log_of(api, topic) == list(range(bad[0], 22)))

    endpoint.script = always(Answer(200))
    eventually(lambda: log_of(api, topic) == [21])
    assert api.ok_status(topic)["backlog"] == 0


def test_new_subscription_starts_where_the_log_does(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.put_topic(topic, retention={"max_messages": 3})
    publish(api, topic, 20)
    eventually(lambda: len(log_of(api, topic)) == 3)

    for name, start in (("a", "beginning"), ("b", 2)):
        shown = good(api.put_subscription(topic, name, start=start))
        assert shown["backlog"] == 3
    api.ok_subscribe(topic, endpoint.url, start="beginning")

    eventually(lambda: api.ok_status(topic)["backlog"] == 0)
    assert sorted(endpoint.sequences) == [18, 19, 20]


def test_seek_goes_back_as_far_as_the_log(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.put_topic(topic, retention={"max_messages": 3})
    api.ok_subscribe(topic, endpoint.url)
    publish(api, topic, 20)
    eventually(lambda: log_of(api, topic) == [18, 19, 20])
    endpoint.wait_for(20)
    before = len(endpoint.sequences)

    for to in ("beginning", 1):
        sought = api.http.post(f"/v1/topics/{topic}/subscriptions/s/seek", json={"to": to})
        assert good(sought)["backlog"] == 3

    eventually(lambda: api.ok_status(topic)["backlog"] == 0)
    assert set(endpoint.sequences[before:]) == {18, 19, 20}


# -- dead letters


def dead_letter(api: Api, topic: str, sequence: int) -> Json | None:
    """Show a dead letter, if it is one."""
    answer = api.http.get(f"/v1/topics/{topic}/subscriptions/s/dead-letters/{sequence}")
    return None if answer.status_code == 404 else good(answer)


@pytest.fixture
def dead(api: Api, topic: str, endpoint: Endpoint) -> int:
    """A dead letter whose message is no longer in the log."""
    endpoint.script = lambda request: Answer(422 if request.key == "bad" else 200)
    api.put_topic(topic, retention={"max_messages": 1})
    api.ok_subscribe(topic, endpoint.url)
    (sequence,) = publish(api, topic, 1, size=11, partitionkey="bad")
    publish(api, topic, 10)
    eventually(lambda: log_of(api, topic) == [11])
    return sequence


def test_dead_letter_outlives_its_place_in_the_log(api: Api, topic: str, dead: int) -> None:
    shown = dead_letter(api, topic, dead)

    assert shown is not None
    assert shown["message"]["data"] == "x" * 11
    read_problem(api.get_message(topic, dead), 404)
    assert api.ok_status(topic)["dead_letters"] == 1
    assert api.ok_status(topic)["backlog"] == 0


def test_dead_letter_out_of_the_log_can_be_replayed(
    api: Api, topic: str, dead: int, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(200))
    replayed = api.http.post(
        f"/v1/topics/{topic}/subscriptions/s/dead-letters/replay", json={"all": True}
    )

    assert good(replayed)["replayed"] == 1
    eventually(lambda: endpoint.sequences.count(dead) == 2)
    eventually(lambda: api.ok_status(topic)["backlog"] == 0)
    assert dead_letter(api, topic, dead) is None


def test_dead_letter_goes_when_its_own_time_is_up(api: Api, topic: str, dead: int) -> None:
    assert dead_letter(api, topic, dead) is not None

    api.ok_subscribe(topic, api.ok_status(topic)["endpoint"], dead_letter_retention_s=1)

    eventually(lambda: dead_letter(api, topic, dead) is None)
    assert api.ok_status(topic)["dead_letters"] == 0


def test_message_goes_from_the_file_with_its_dead_letter(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(422))
    broker = start_broker()
    broker.api.put_topic("t", retention={"max_messages": 1})
    broker.api.ok_subscribe("t", endpoint.url)
    publish(broker.api, "t", 30)
    eventually(lambda: log_of(broker.api, "t") == [30])
    assert (rows_in(broker, "message"), rows_in(broker, "attempt")) == (30, 30)

    for sequence in range(1, 21):
        answer = broker.api.http.delete(f"/v1/topics/t/subscriptions/s/dead-letters/{sequence}")
        assert answer.status_code == 204

    eventually(lambda: rows_in(broker, "message") == 10)
    assert dead_letter(broker.api, "t", 21) is not None
    assert rows_in(broker, "exception") == 10


# -- backlogs


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
    endpoint.script = always(Answer(500))
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


def test_backlog_may_grow_old_where_no_age_is_set(api: Api, topic: str, endpoint: Endpoint) -> None:
    good(api.put_subscription(topic, "s", max_backlog_age_s=None))
    good(api.put_subscription(topic, "other", max_backlog_age_s=1))
    publish(api, topic, 10)

    eventually(lambda: api.ok_status(topic, "other")["dead_letters"] == 10)
    assert api.ok_status(topic)["backlog"] == 10


def test_younger_message_of_a_key_is_delivered_once_the_old_one_is_given_up(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: Answer(200 if request.sequence > 1 else 500)
    api.ok_subscribe(
        topic, endpoint.url, retry={**QUICK_RETRY, "max_attempts": 0}, max_backlog_age_s=3
    )
    old = api.ok_publish(topic, 1, key="k")
    eventually(lambda: api.ok_status(topic)["retrying"] == 1)
    eventually(lambda: (api.ok_status(topic)["oldest_unsettled_s"] or 0) > 1.5)
    young = api.ok_publish(topic, 2, key="k")

    eventually(lambda: young in endpoint.sequences)
    assert dead_letter(api, topic, old) is not None
    assert api.ok_status(topic)["dead_letters"] == 1


def test_old_backlog_that_is_given_up_leaves_the_log(api: Api, topic: str) -> None:
    api.put_topic(topic, retention={"max_messages": 1})
    good(api.put_subscription(topic, "s", max_backlog_age_s=2))
    publish(api, topic, 10)
    assert log_of(api, topic) == list(range(1, 11))

    eventually(lambda: log_of(api, topic) == [10])
    assert dead_letter(api, topic, 1) is not None


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
        left = {"message": 2100, "publish_key": 2100}
    else:
        assert api.delete_topic("t", force=True).status_code == 204
        left = {"message": 0, "publish_key": 0}
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
    publish(broker.api, "short", 500)
    publish(broker.api, "long", 10)

    eventually(lambda: rows_in(broker, "publish_key") == 10)
    assert good(broker.api.publish_event("long", event(id="1-10", data="x" * 10)))["duplicate"]
    assert not good(broker.api.publish_event("short", event(id="1-10", data="y")))["duplicate"]


# -- under load


def test_counts_are_right_after_kills_while_it_trims(start_broker: StartBroker) -> None:
    broker = start_broker()
    broker.api.put_topic("t", retention={"max_messages": 100})
    stop, serial = threading.Event(), count(1)
    told: list[int] = []

    def publishing() -> None:
        with Api(broker.base_url) as api:
            while not stop.is_set():
                events = [event(id=str(next(serial))) for _ in range(100)]
                try:
                    answer = api.publish_batch("t", events)
                except httpx.TransportError:
                    continue
                if answer.is_success:
                    told.append(max(each["sequence"] for each in answer.json()["messages"]))

    for _ in range(3):
        stop.clear()
        reached = len(told) + 40
        thread = threading.Thread(target=publishing)
        thread.start()
        eventually(lambda n=reached: len(told) >= n, within_s=60)
        broker.kill()
        stop.set()
        thread.join()
        broker.start()
        assert eventually(lambda: log_of(broker.api, "t"))

    assert told
    eventually(lambda: len(log_of(broker.api, "t")) == 100)
    assert log_of(broker.api, "t")[-1] >= told[-1]
