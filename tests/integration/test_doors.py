"""One suite, every door: HTTP and gRPC do the same and refuse the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.api import INSTANT_RETRY, SLOW_RETRY
from support.broker_process import BrokerProcess
from support.doors import Door, HttpDoor, Refused, RpcDoor
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually

LATER = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(params=["http", "grpc"])
def door(request: pytest.FixtureRequest, broker: BrokerProcess) -> Iterator[Door]:
    """A way into the shared broker."""
    if request.param == "http":
        yield HttpDoor(broker.api)
        return
    opened = RpcDoor(broker.grpc_port)
    yield opened
    opened.close()


def test_events_are_stored_in_order_and_repeats_recognised(door: Door, topic: str) -> None:
    told = door.publish(topic, {"id": "a"}, {"id": "b"}, {"id": "a"})

    assert told == [
        {"id": "a", "sequence": 1, "duplicate": False},
        {"id": "b", "sequence": 2, "duplicate": False},
        {"id": "a", "sequence": 1, "duplicate": True},
    ]
    assert door.publish(topic, {"id": "b"}) == [{"id": "b", "sequence": 2, "duplicate": True}]


def test_reused_id_is_refused_and_nothing_is_stored(door: Door, topic: str) -> None:
    door.publish(topic, {"id": "a"})

    with pytest.raises(Refused) as refused:
        door.publish(topic, {"id": "new"}, {"id": "a", "subject": "other"})

    assert refused.value.code == "id_reused"
    assert door.call("get_topic", topic=topic)["message_count"] == 1


@pytest.mark.parametrize(
    ("attributes", "field"),
    [
        ({"source": "a b"}, "source"),
        ({"time": "yesterday"}, "time"),
        ({"deliverat": "2026-13-01T00:00:00Z"}, "deliverat"),
        ({"UPPER": "x"}, "UPPER"),
        ({"subject": ""}, "subject"),
    ],
)
def test_wrong_event_is_refused_with_its_field(
    door: Door, topic: str, attributes: dict[str, str], field: str
) -> None:
    door.call("put_topic", topic=topic, config={})

    with pytest.raises(Refused) as refused:
        door.publish(topic, {}, attributes)

    assert refused.value.code == "invalid_request"
    (named,) = refused.value.fields
    assert named.endswith(f"[1].{field}")
    assert door.call("get_topic", topic=topic)["message_count"] == 0


def test_topic_is_made_changed_and_removed(door: Door, topic: str) -> None:
    door.call("put_topic", topic=topic, config={"dedup_window_s": 60})
    door.call("put_topic", topic=topic, config={"retention": {"max_messages": 5}})

    shown = door.call("get_topic", topic=topic)
    assert shown["dedup_window_s"] == 60
    assert shown["retention"]["max_messages"] == 5
    door.call("delete_topic", topic=topic)
    with pytest.raises(Refused) as refused:
        door.call("get_topic", topic=topic)
    assert refused.value.code == "topic_not_found"


def test_topic_in_use_is_kept_unless_forced(door: Door, topic: str) -> None:
    door.call("put_subscription", topic=topic, subscription="s", config={})

    with pytest.raises(Refused) as refused:
        door.call("delete_topic", topic=topic)
    assert refused.value.code == "topic_in_use"
    door.call("delete_topic", topic=topic, force=True)


def test_all_faults_of_a_configuration_are_told(door: Door, topic: str) -> None:
    config = {"ordering": "both", "timeout_s": -1, "colour": "red"}

    with pytest.raises(Refused) as refused:
        door.call("put_subscription", topic=topic, subscription="s", config=config)

    assert set(refused.value.fields) == {"ordering", "timeout_s", "colour"}


def test_messages_are_browsed_by_key_and_page(door: Door, topic: str) -> None:
    door.publish(topic, *({"id": str(n), "partitionkey": "ab"[n % 2]} for n in range(6)))

    page = door.call("list_messages", topic=topic, after=1, limit=2)
    assert [each["sequence"] for each in page["messages"]] == [2, 3]
    assert page["next"] == 3
    keyed = door.call("list_messages", topic=topic, key="b")
    assert [each["sequence"] for each in keyed["messages"]] == [2, 4, 6]
    assert door.call("get_message", topic=topic, sequence=4)["sequence"] == 4
    with pytest.raises(Refused) as refused:
        door.call("get_message", topic=topic, sequence=7)
    assert refused.value.code == "message_not_found"


@pytest.mark.parametrize("limit", [-1, 1001])
def test_page_that_is_too_long_is_refused(door: Door, topic: str, limit: int) -> None:
    door.call("put_topic", topic=topic, config={})

    with pytest.raises(Refused) as refused:
        door.call("list_messages", topic=topic, limit=limit)

    assert refused.value.fields == ["limit"]


def test_message_that_waits_is_shown_and_cancelled(door: Door, topic: str) -> None:
    (told,) = door.publish(topic, {"id": "w", "deliverat": LATER})
    place: dict[str, Any] = {"topic": topic, "id": "w", "source": "/tests"}

    assert told == {"id": "w", "sequence": None, "duplicate": False}
    assert len(door.call("list_scheduled", topic=topic)["messages"]) == 1
    assert door.call("get_scheduled", **place)
    door.call("cancel_scheduled", **place)
    with pytest.raises(Refused) as refused:
        door.call("get_scheduled", **place)
    assert refused.value.code == "message_not_found"


def test_subscription_is_made_paused_sought_and_removed(
    door: Door, topic: str, endpoint: Endpoint
) -> None:
    place = {"topic": topic, "subscription": "s"}
    door.publish(topic, *({"id": str(n)} for n in range(3)))
    door.call("put_subscription", **place, config={"endpoint": endpoint.url})

    assert door.call("pause", **place)["state"] == "paused"
    assert door.call("seek", **place, place="beginning", dry_run=True)["backlog"] == 3
    assert door.call("get_subscription", **place)["backlog"] == 0
    assert door.call("seek", **place, sequence=2)["backlog"] == 2
    assert door.call("get_subscription", **place)["backlog"] == 2
    assert door.call("rotate_secret", **place, overlap_s=5)["overlap_s"] == 5
    assert [s["name"] for s in door.call("list_subscriptions", topic=topic)["subscriptions"]] == [
        "s"
    ]
    assert door.call("resume", **place)["state"] == "active"
    eventually(lambda: door.call("get_subscription", **place)["backlog"] == 0)
    door.call("delete_subscription", **place)
    with pytest.raises(Refused) as refused:
        door.call("get_subscription", **place)
    assert refused.value.code == "subscription_not_found"


def test_dead_letters_are_seen_replayed_and_removed(
    door: Door, topic: str, endpoint: Endpoint
) -> None:
    place = {"topic": topic, "subscription": "s"}
    endpoint.script = always(Answer(422))
    config = {"endpoint": endpoint.url, "retry": INSTANT_RETRY, "start": "beginning"}
    door.publish(topic, {"id": "a"}, {"id": "b"})
    door.call("put_subscription", **place, config=config)

    def dead() -> list[int]:
        found = door.call("list_dead_letters", **place).get("dead_letters", [])
        return [each["sequence"] for each in found]

    eventually(lambda: dead() == [1, 2])
    letter = door.call("get_dead_letter", **place, sequence=1)
    assert "422" in letter["reason"]
    assert len(letter["failed_attempts"]) == 1
    assert len(door.call("list_attempts", **place, sequence=1)["attempts"]) == 1
    door.call("delete_dead_letter", **place, sequence=2)
    endpoint.script = always(Answer(200))
    assert door.call("replay_dead_letters", **place, all=True)["replayed"] == 1
    eventually(lambda: dead() == [])
    with pytest.raises(Refused) as refused:
        door.call("replay_dead_letters", **place)
    assert refused.value.fields == ["sequences"]


def test_delivery_that_waits_is_retried_or_given_up(
    door: Door, topic: str, endpoint: Endpoint
) -> None:
    place = {"topic": topic, "subscription": "s"}
    endpoint.script = always(Answer(500))
    config = {"endpoint": endpoint.url, "retry": SLOW_RETRY, "start": "beginning"}
    door.publish(topic, {"id": "a"}, {"id": "b"})
    door.call("put_subscription", **place, config=config)

    def retrying() -> list[int]:
        found = door.call("list_deliveries", **place, state="retrying").get("deliveries", [])
        return [each["sequence"] for each in found]

    eventually(lambda: retrying() == [1, 2])
    door.call("dead_letter_delivery", **place, sequence=1)
    endpoint.script = always(Answer(200))
    door.call("retry_delivery", **place, sequence=2)
    eventually(lambda: endpoint.requests[-1].sequence == 2)

    def again() -> str:
        with pytest.raises(Refused) as refused:
            door.call("retry_delivery", **place, sequence=2)
        return refused.value.code

    eventually(lambda: again() == "message_not_found")  # until its outcome is in: delivery_busy
    assert retrying() == []


@pytest.mark.parametrize(
    ("call", "request_"),
    [
        ("get_topic", {"topic": "none-such"}),
        ("list_messages", {"topic": "none-such"}),
        ("list_subscriptions", {"topic": "none-such"}),
        ("get_subscription", {"topic": "none-such", "subscription": "s"}),
        ("pause", {"topic": "none-such", "subscription": "s"}),
    ],
)
def test_unknown_topic_is_told(door: Door, call: str, request_: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        door.call(call, **request_)

    assert refused.value.code == "topic_not_found"
    assert "none-such" in refused.value.detail
