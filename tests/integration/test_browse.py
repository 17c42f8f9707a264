"""Browsing: pages, filters by key and type, one message."""

from __future__ import annotations

from typing import Any

import pytest

from support.api import Api, good
from support.problem import read_problem


def test_empty_topic_has_no_messages(api: Api, topic: str) -> None:
    api.put_topic(topic)

    assert good(api.browse(topic)) == {"messages": [], "next": None}


def test_browse_shows_messages_oldest_first(api: Api, topic: str) -> None:
    sequences = [api.ok_publish(topic, n) for n in range(5)]

    page = good(api.browse(topic))

    assert [message["sequence"] for message in page["messages"]] == sequences
    assert [message["data"] for message in page["messages"]] == list(range(5))
    assert page["next"] is None


def test_browse_pages_through_everything_once(api: Api, topic: str) -> None:
    sequences = [api.ok_publish(topic, n) for n in range(7)]

    first = good(api.browse(topic, limit=3))
    everything = [message["sequence"] for message in api.all_messages(topic, limit=3)]

    assert len(first["messages"]) == 3
    assert isinstance(first["next"], int)
    assert everything == sequences


def test_browse_gives_a_hundred_unless_told(api: Api, topic: str) -> None:
    events = [{"specversion": "1.0", "id": str(n), "source": "/", "type": "t"} for n in range(101)]
    good(api.publish_batch(topic, events))

    page = good(api.browse(topic))

    assert len(page["messages"]) == 100
    assert page["next"] == page["messages"][-1]["sequence"]


def test_browse_after_leaves_out_that_sequence_and_lower(api: Api, topic: str) -> None:
    sequences = [api.ok_publish(topic, n) for n in range(4)]

    page = good(api.browse(topic, after=sequences[1]))

    assert [message["sequence"] for message in page["messages"]] == sequences[2:]


def test_browse_after_the_end_is_empty(api: Api, topic: str) -> None:
    last = api.ok_publish(topic, 1)

    assert good(api.browse(topic, after=last)) == {"messages": [], "next": None}


def test_browse_by_key_and_type(api: Api, topic: str) -> None:
    a1 = api.ok_publish(topic, 1, key="a", type="red")
    a2 = api.ok_publish(topic, 2, key="a", type="blue")
    b1 = api.ok_publish(topic, 3, key="b", type="red")
    api.ok_publish(topic, 4, type="blue")

    def found(**params: Any) -> list[int]:
        return [message["sequence"] for message in api.all_messages(topic, **params)]

    assert found(key="a") == [a1, a2]
    assert found(type="red") == [a1, b1]
    assert found(key="a", type="red") == [a1]
    assert found(key="c") == []


def test_browse_by_key_pages_over_other_keys(api: Api, topic: str) -> None:
    wanted = [api.ok_publish(topic, n, key="ab"[n % 2]) for n in range(10)][::2]

    paged = [message["sequence"] for message in api.all_messages(topic, key="a", limit=2)]

    assert paged == wanted


def test_browse_by_key_takes_any_text(api: Api, topic: str) -> None:
    key = "clé & =?/ 😀"
    sequence = api.ok_publish(topic, 1, key=key)

    page = good(api.browse(topic, key=key))

    assert [message["sequence"] for message in page["messages"]] == [sequence]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("after", "x"),
        ("after", "-1"),
        ("after", "1.5"),
        ("limit", "x"),
        ("limit", "0"),
        ("limit", "-5"),
    ],
)
def test_wrong_browse_parameter_is_refused(api: Api, topic: str, name: str, value: str) -> None:
    api.ok_publish(topic, 1)

    problem = read_problem(api.browse(topic, **{name: value}), 400, 422)

    assert name in problem.text or problem.names(name)


def test_one_message_is_a_structured_event_with_its_sequence(api: Api, topic: str) -> None:
    sequence = api.ok_publish(
        topic, {"a": 1}, id="m-1", source="/shop", type="sold", subject="hat", key="k"
    )

    message = good(api.get_message(topic, sequence))

    assert message.pop("time")
    assert message == {
        "specversion": "1.0",
        "id": "m-1",
        "source": "/shop",
        "type": "sold",
        "subject": "hat",
        "partitionkey": "k",
        "datacontenttype": "application/json",
        "data": {"a": 1},
        "sequence": sequence,
    }


def test_one_message_equals_the_one_browsed(api: Api, topic: str) -> None:
    sequence = api.ok_publish(topic, [1, "é", None])

    assert good(api.browse(topic))["messages"] == [good(api.get_message(topic, sequence))]


@pytest.mark.parametrize("sequence", ["999999999", "0"])
def test_unknown_message_is_not_found(api: Api, topic: str, sequence: str) -> None:
    api.ok_publish(topic, 1)

    assert read_problem(api.get_message(topic, sequence), 404).code == "message_not_found"


@pytest.mark.parametrize("sequence", ["x", "-1", "1.0", "99999999999999999999999"])
def test_malformed_sequence_is_refused(api: Api, topic: str, sequence: str) -> None:
    api.ok_publish(topic, 1)

    read_problem(api.get_message(topic, sequence), 400, 404, 422)


def test_message_of_another_topic_is_not_found(api: Api, topic: str) -> None:
    other = f"{topic}-other"
    for n in range(3):
        api.ok_publish(topic, n)
    last = api.ok_publish(topic, 3)
    api.ok_publish(other, 0)
    try:
        shown = api.get_message(other, last)
        assert shown.status_code == 404 or shown.json()["data"] == 0
        assert [message["data"] for message in api.all_messages(other)] == [0]
    finally:
        api.delete_topic(other)
