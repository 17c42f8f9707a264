"""Identity: topic, source and id; duplicates, conflicts, `Idempotency-Key`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from support.api import Api, good
from support.cloudevent import event
from support.problem import read_problem


def stored(api: Api, topic: str) -> list[Any]:
    """The data of everything stored."""
    return [message.get("data") for message in api.all_messages(topic)]


def told(answer: httpx.Response) -> tuple[int, bool]:
    """What an answer says about one message: its sequence, and whether it was known."""
    body = good(answer)
    return body["sequence"], body["duplicate"]


def test_known_message_is_not_stored_again(api: Api, topic: str) -> None:
    sequence, _ = told(api.publish(topic, 1, id="m"))

    again = api.publish(topic, 1, id="m")

    assert again.status_code in (200, 201)
    assert told(again) == (sequence, True)
    assert stored(api, topic) == [1]


def test_known_message_is_recognised_in_every_mode(api: Api, topic: str) -> None:
    sequence, _ = told(api.publish_event(topic, event(id="m", data={"a": 1})))

    single = api.publish_event(topic, event(id="m", data={"a": 1}))
    (in_batch,) = good(api.publish_batch(topic, [event(id="m", data={"a": 1})]))["messages"]

    assert told(single) == (sequence, True)
    assert (in_batch["sequence"], in_batch["duplicate"]) == (sequence, True)
    assert stored(api, topic) == [{"a": 1}]


def test_same_id_from_another_source_is_another_message(api: Api, topic: str) -> None:
    first = told(api.publish(topic, 1, id="m", source="/a"))
    second = told(api.publish(topic, 1, id="m", source="/b"))

    assert first != second
    assert not second[1]


def test_same_id_in_another_topic_is_another_message(api: Api, topic: str) -> None:
    other = f"{topic}-other"
    try:
        api.ok_publish(topic, 1, id="m", source="/a")
        assert not told(api.publish(other, 2, id="m", source="/a"))[1]
    finally:
        api.delete_topic(other)


@pytest.mark.parametrize(
    "changed",
    [
        {"data": 2},
        {"type": "other"},
        {"subject": "other"},
        {"partitionkey": "other"},
        {"datacontenttype": "application/vnd.x+json"},
    ],
)
def test_known_identity_with_different_data_is_a_conflict(
    api: Api, topic: str, changed: dict[str, Any]
) -> None:
    first = event(id="m", data=1, subject="s", partitionkey="k", datacontenttype="application/json")
    api.publish_event(topic, first)

    problem = read_problem(api.publish_event(topic, {**first, **changed}), 409)

    assert problem.code == "id_reused"
    assert stored(api, topic) == [1]


@pytest.mark.parametrize(
    "changed",
    [
        {"time": "2021-01-01T00:00:00Z"},
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"tracestate": "a=1"},
    ],
)
def test_time_and_trace_do_not_make_a_message_different(
    api: Api, topic: str, changed: dict[str, Any]
) -> None:
    first = event(id="m", data=1, time="2020-01-01T00:00:00Z")
    sequence, _ = told(api.publish_event(topic, first))

    assert told(api.publish_event(topic, {**first, **changed})) == (sequence, True)


def test_identity_is_forgotten_after_the_dedup_window(api: Api, topic: str) -> None:
    api.put_topic(topic, dedup_window_s=1)
    api.publish(topic, 1, id="m")
    sequences: set[int] = set()

    while len(sequences) < 2:  # the test's own time limit ends it
        sequences.add(told(api.publish(topic, 1, id="m"))[0])

    assert stored(api, topic) == [1, 1]


@pytest.mark.parametrize("key", ["order-17", '"order-17"'])
def test_idempotency_key_sets_the_id(api: Api, topic: str, key: str) -> None:
    first = api.publish(topic, 1, headers={"idempotency-key": key})
    again = api.publish(topic, 1, headers={"idempotency-key": key})

    assert good(first)["id"] == "order-17"
    assert told(again) == (good(first)["sequence"], True)


def test_idempotency_key_quoted_and_bare_are_the_same(api: Api, topic: str) -> None:
    first = api.publish(topic, 1, headers={"idempotency-key": "k"})
    again = api.publish(topic, 1, headers={"idempotency-key": '"k"'})

    assert told(again) == (good(first)["sequence"], True)


def test_idempotency_key_with_other_data_is_a_conflict(api: Api, topic: str) -> None:
    api.publish(topic, 1, headers={"idempotency-key": "k"})

    answer = api.publish(topic, 2, headers={"idempotency-key": "k"})

    assert read_problem(answer, 409).code == "id_reused"


def test_idempotency_key_yields_to_an_id_of_the_event(api: Api, topic: str) -> None:
    binary = api.publish(topic, 1, id="own-1", headers={"idempotency-key": "k"})
    structured = api.publish_event(topic, event(id="own-2"), {"idempotency-key": "k"})

    assert [good(binary)["id"], good(structured)["id"]] == ["own-1", "own-2"]


@pytest.mark.parametrize("key", ["", '""', "a\tb"])
def test_malformed_idempotency_key_is_refused(api: Api, topic: str, key: str) -> None:
    api.put_topic(topic)

    read_problem(api.publish(topic, 1, headers={"idempotency-key": key}), 400, 422)

    assert stored(api, topic) == []


def test_idempotency_key_with_a_batch_is_refused(api: Api, topic: str) -> None:
    api.put_topic(topic)

    read_problem(api.publish_batch(topic, [event()], {"idempotency-key": "k"}), 422)

    assert stored(api, topic) == []


def test_repeat_inside_a_batch_is_a_duplicate(api: Api, topic: str) -> None:
    events = [event(id="a", data=1), event(id="b", data=2), event(id="a", data=1)]

    entries = good(api.publish_batch(topic, events))["messages"]

    assert [entry["duplicate"] for entry in entries] == [False, False, True]
    assert entries[2]["sequence"] == entries[0]["sequence"]
    assert stored(api, topic) == [1, 2]


def test_batch_with_a_known_message_stores_the_others(api: Api, topic: str) -> None:
    known, _ = told(api.publish_event(topic, event(id="b", data=2)))

    entries = good(
        api.publish_batch(topic, [event(id=i, data=d) for i, d in [("a", 1), ("b", 2), ("c", 3)]])
    )["messages"]

    assert [entry["duplicate"] for entry in entries] == [False, True, False]
    assert entries[1]["sequence"] == known
    assert stored(api, topic) == [2, 1, 3]


def test_one_reused_id_refuses_the_whole_batch(api: Api, topic: str) -> None:
    api.publish_event(topic, event(id="b", data=2))

    answer = api.publish_batch(topic, [event(id="a", data=1), event(id="b", data="other")])

    assert read_problem(answer, 409).code == "id_reused"
    assert stored(api, topic) == [2]


def test_id_reused_inside_a_batch_refuses_all_of_it(api: Api, topic: str) -> None:
    api.put_topic(topic)

    answer = api.publish_batch(topic, [event(id="a", data=1), event(id="a", data=2)])

    assert read_problem(answer, 409).code == "id_reused"
    assert stored(api, topic) == []


def test_refused_batch_leaves_its_ids_free(api: Api, topic: str) -> None:
    api.publish_event(topic, event(id="b", data=2))
    api.publish_batch(topic, [event(id="a", data=1), event(id="b", data="other")])

    assert not told(api.publish_event(topic, event(id="a", data="new")))[1]
