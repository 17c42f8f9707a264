"""How long a topic remembers an identity."""

from __future__ import annotations

from typing import Any

import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.eventually import eventually


def publish(api: Api, topic: str, id: str = "m", **attributes: Any) -> tuple[int, bool]:
    """Publish an event; give its sequence, and whether it was known."""
    told = good(api.publish_event(topic, event(id=id, **attributes)))
    return told["sequence"], told["duplicate"]


def forgotten(api: Api, topic: str, id: str = "m", **attributes: Any) -> int:
    """Publish the same event until it is stored anew; give its new sequence."""

    def look() -> int | None:
        sequence, duplicate = publish(api, topic, id, **attributes)
        return None if duplicate else sequence

    return eventually(look)


def test_identity_is_known_within_the_window(api: Api, topic: str) -> None:
    api.put_topic(topic, dedup_window_s=3600)
    sequence, duplicate = publish(api, topic)

    assert not duplicate
    assert publish(api, topic) == (sequence, True)
    assert len(list(api.all_messages(topic))) == 1


def test_identity_is_free_after_the_window_though_it_was_repeated(api: Api, topic: str) -> None:
    api.put_topic(topic, dedup_window_s=0.5)
    first, _ = publish(api, topic)

    second = forgotten(api, topic)

    assert second > first
    assert [message["id"] for message in api.all_messages(topic)] == ["m", "m"]
    assert publish(api, topic) == (second, True)


def test_identity_may_have_other_data_after_the_window(api: Api, topic: str) -> None:
    api.put_topic(topic, dedup_window_s=0.5)
    publish(api, topic, data=1)
    assert api.publish_event(topic, event(id="m", data=2)).status_code == 409

    eventually(lambda: api.publish_event(topic, event(id="m", data=2)).status_code == 201)

    assert [message["data"] for message in api.all_messages(topic)] == [1, 2]


def test_each_topic_has_its_own_window(api: Api, topic: str) -> None:
    other = f"{topic}-long"
    try:
        api.put_topic(topic, dedup_window_s=0.5)
        api.put_topic(other, dedup_window_s=3600)
        publish(api, topic)
        publish(api, other)

        forgotten(api, topic)

        assert publish(api, other)[1]
    finally:
        api.delete_topic(other)


def test_batch_recognises_the_known_and_stores_the_forgotten(api: Api, topic: str) -> None:
    api.put_topic(topic, dedup_window_s=0.5)
    publish(api, topic, "old")
    forgotten(api, topic, "old")
    api.put_topic(topic, dedup_window_s=3600)
    sequence, _ = publish(api, topic, "known")

    events = [event(id="known"), event(id="new"), event(id="new")]
    told = good(api.publish_batch(topic, events))["messages"]

    assert [each["duplicate"] for each in told] == [True, False, True]
    assert told[0]["sequence"] == sequence
    assert told[1]["sequence"] == told[2]["sequence"]


def test_identity_outlives_its_message(api: Api, topic: str) -> None:
    api.put_topic(topic, retention={"max_messages": 1})
    sequence, _ = publish(api, topic)
    for n in range(5):
        publish(api, topic, f"other-{n}")
    eventually(lambda: api.get_message(topic, sequence).status_code == 404)

    assert publish(api, topic) == (sequence, True)


@pytest.mark.parametrize("end", [BrokerProcess.kill, BrokerProcess.stop])
def test_window_goes_on_over_a_restart(restartable: BrokerProcess, topic: str, end: Any) -> None:
    restartable.api.put_topic(topic, dedup_window_s=3600)
    restartable.api.put_topic(f"{topic}-short", dedup_window_s=1)
    sequence, _ = publish(restartable.api, topic)
    first, _ = publish(restartable.api, f"{topic}-short")

    end(restartable)
    restartable.start()

    assert publish(restartable.api, topic) == (sequence, True)
    assert restartable.api.publish_event(topic, event(id="m", data=2)).status_code == 409
    assert forgotten(restartable.api, f"{topic}-short") > first
