"""What publish refuses: malformed bodies, broken rules, wrong types, too much."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import BATCH, STRUCTURED, event, same_data
from support.problem import read_problem

MIB = 1024 * 1024

MALFORMED = [
    b"",
    b"{",
    b"not json",
    b'{"a": 1,}',
    b"\xff\xfe",
    b'{"specversion": "1.0", "id": "\xff", "source": "/", "type": "t"}',
    b'{"specversion": "1.0"} trailing',
    b"\xef\xbb\xbf",
]

WRONG_EVENTS: list[tuple[dict[str, Any], str]] = [
    ({"specversion": None}, "specversion"),
    ({"specversion": "0.3"}, "specversion"),
    ({"specversion": 1.0}, "specversion"),
    ({"id": ""}, "id"),
    ({"id": 5}, "id"),
    ({"id": ["x"]}, "id"),
    ({"source": ""}, "source"),
    ({"source": {}}, "source"),
    ({"type": ""}, "type"),
    ({"type": False}, "type"),
    ({"subject": ""}, "subject"),
    ({"subject": []}, "subject"),
    ({"time": "yesterday"}, "time"),
    ({"time": "2020-13-01T00:00:00Z"}, "time"),
    ({"time": "2020-01-01"}, "time"),
    ({"time": 1577836800}, "time"),
    ({"datacontenttype": 5}, "datacontenttype"),
    ({"dataschema": ""}, "dataschema"),
    ({"partitionkey": ""}, "partitionkey"),
    ({"partitionkey": {}}, "partitionkey"),
    ({"deliverat": "soon"}, "deliverat"),
    ({"expirytime": "never"}, "expirytime"),
    ({"extension": {"a": 1}}, "extension"),
    ({"extension": [1]}, "extension"),
    ({"extension": 1.5}, "extension"),
    ({"Extension": "x"}, "Extension"),
    ({"my_extension": "x"}, "my_extension"),
    ({"my-extension": "x"}, "my-extension"),
    ({"data": 1, "data_base64": "AA=="}, "data_base64"),
    ({"data_base64": "not base64!"}, "data_base64"),
    ({"data_base64": "AAA"}, "data_base64"),
    ({"data_base64": 5}, "data_base64"),
]

WRONG_HEADERS = [
    ("ce-specversion", "0.3"),
    ("ce-id", ""),
    ("ce-source", ""),
    ("ce-type", ""),
    ("ce-time", "yesterday"),
    ("ce-deliverat", "soon"),
    ("ce-expirytime", "never"),
    ("ce-my-extension", "x"),
    ("ce-subject", "%FF%FE"),
]


@pytest.fixture
def untouched(api: Api, topic: str) -> Iterator[str]:
    """A topic that must be empty when the test is over."""
    api.put_topic(topic)
    yield topic
    assert good(api.browse(topic))["messages"] == []


@pytest.fixture(scope="module")
def small_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker with low limits, so that a test can reach them."""
    running = BrokerProcess(
        tmp_path_factory.mktemp("small"),
        BROKER_MAX_MESSAGE_BYTES="2000",
        BROKER_MAX_BATCH_BYTES="10000",
    )
    try:
        yield running.start()
    finally:
        running.close()


@pytest.mark.parametrize("content_type", [STRUCTURED, BATCH])
@pytest.mark.parametrize("body", MALFORMED)
def test_malformed_json_is_refused(
    api: Api, untouched: str, content_type: str, body: bytes
) -> None:
    problem = read_problem(api.post(untouched, body, {"content-type": content_type}), 400)

    assert "json" in problem.text


@pytest.mark.parametrize("value", ["[]", '"x"', "5", "null", "true"])
def test_structured_event_must_be_an_object(api: Api, untouched: str, value: str) -> None:
    read_problem(api.post(untouched, value.encode(), {"content-type": STRUCTURED}), 400, 422)


@pytest.mark.parametrize("value", ["{}", '"x"', "5", "null", "true"])
def test_batch_must_be_an_array(api: Api, untouched: str, value: str) -> None:
    read_problem(api.post(untouched, value.encode(), {"content-type": BATCH}), 400, 422)


@pytest.mark.parametrize("member", [[], "x", 5, None, True])
def test_batch_member_must_be_an_object(api: Api, untouched: str, member: object) -> None:
    read_problem(api.publish_batch(untouched, [event(id="ok"), member]), 400, 422)


@pytest.mark.parametrize(("wrong", "field"), WRONG_EVENTS)
def test_wrong_attribute_is_refused_by_name(
    api: Api, untouched: str, wrong: dict[str, Any], field: str
) -> None:
    problem = read_problem(api.publish_event(untouched, event(**wrong)), 422)

    assert problem.names(field), problem.fields


@pytest.mark.parametrize(("header", "value"), WRONG_HEADERS)
def test_wrong_header_is_refused_by_name(api: Api, untouched: str, header: str, value: str) -> None:
    problem = read_problem(api.post(untouched, b"x", {header: value}), 400, 422)

    assert problem.names(header) or problem.names(header.removeprefix("ce-")), problem.fields


def test_all_faults_of_an_event_are_told_at_once(api: Api, untouched: str) -> None:
    wrong = event(id="", source=5, time="x", Extension="y", data_base64="!")

    problem = read_problem(api.publish_event(untouched, wrong), 422)

    assert all(problem.names(f) for f in ("id", "source", "time", "Extension", "data_base64"))


def test_all_faults_of_a_batch_are_told_with_their_place(api: Api, untouched: str) -> None:
    events = [event(id="1"), event(id="2", time="x"), event(id="3"), event(id="4", source="")]

    problem = read_problem(api.publish_batch(untouched, events), 422)

    assert [error for error in problem.fields if "1" in error and "time" in error]
    assert [error for error in problem.fields if "3" in error and "source" in error]
    assert len(problem.errors) == 2


def test_all_faults_of_binary_headers_are_told_at_once(api: Api, untouched: str) -> None:
    headers = {"ce-specversion": "0.3", "ce-time": "x", "ce-my-ext": "y"}

    problem = read_problem(api.post(untouched, b"", headers), 400, 422)

    assert len(problem.errors) == 3, problem.errors


def test_attribute_given_twice_is_refused_or_joined(api: Api, topic: str) -> None:
    answer = api.http.post(
        f"/v1/topics/{topic}/messages",
        content=b"x",
        headers=[("ce-subject", "a"), ("ce-subject", "b")],
    )

    if answer.status_code == 201:
        assert api.get_message(topic, answer.json()["sequence"]).json()["subject"] != "a"
    else:
        read_problem(answer, 400, 422)


def test_one_wrong_member_refuses_the_whole_batch(api: Api, untouched: str) -> None:
    events = [event(id=str(n)) for n in range(10)]
    events[7]["specversion"] = "9"

    read_problem(api.publish_batch(untouched, events), 422)


def test_batch_of_more_than_a_thousand_is_refused(api: Api, untouched: str) -> None:
    answer = api.publish_batch(untouched, [event(id=str(n)) for n in range(1001)])

    assert "1000" in read_problem(answer, 413, 422).text.replace(",", "")


@pytest.mark.parametrize(
    "content_type",
    ["application/cloudevents+xml", "application/cloudevents-batch+xml", "application/cloudevents"],
)
@pytest.mark.parametrize("body", [b"<event/>", json.dumps(event()).encode()])
def test_unknown_event_format_is_unsupported_or_kept_as_data(
    api: Api, topic: str, content_type: str, body: bytes
) -> None:
    answer = api.post(topic, body, {"content-type": content_type})

    if answer.status_code == 201:
        message = good(api.get_message(topic, answer.json()["sequence"]))
        assert message["datacontenttype"] == content_type
        assert same_data(message, body)
    else:
        read_problem(answer, 415)


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_encoded_body_is_unsupported(api: Api, untouched: str, encoding: str) -> None:
    headers = {"content-type": STRUCTURED, "content-encoding": encoding}

    read_problem(api.post(untouched, b"\x1f\x8b", headers), 400, 415)


def test_message_of_a_mebibyte_is_accepted(api: Api, topic: str) -> None:
    body = b"x" * (MIB - 4096)
    published = good(api.post(topic, body, {"content-type": "text/plain"}))

    assert good(api.get_message(topic, published["sequence"]))["data"] == body.decode()


@pytest.mark.parametrize("content_type", ["text/plain", STRUCTURED])
def test_message_over_a_mebibyte_is_refused(api: Api, untouched: str, content_type: str) -> None:
    body = json.dumps(event(data="x" * MIB)).encode()

    problem = read_problem(api.post(untouched, body, {"content-type": content_type}), 413)

    assert problem.code == "message_too_large"


def test_batch_over_sixteen_mebibytes_is_refused(api: Api, untouched: str) -> None:
    events = [event(id=str(n), data="x" * (MIB - 4096)) for n in range(17)]

    read_problem(api.publish_batch(untouched, events), 413)


def test_batch_below_sixteen_mebibytes_is_accepted(api: Api, topic: str) -> None:
    events = [event(id=str(n), data="x" * (MIB - 4096)) for n in range(8)]

    assert len(good(api.publish_batch(topic, events))["messages"]) == 8


def test_one_member_over_the_limit_refuses_the_batch(
    small_broker: BrokerProcess, topic: str
) -> None:
    api = small_broker.api
    api.put_topic(topic)

    answer = api.publish_batch(topic, [event(id="1"), event(id="2", data="x" * 2001)])

    assert read_problem(answer, 413).code == "message_too_large"
    assert good(api.browse(topic))["messages"] == []


def test_limits_are_settings(small_broker: BrokerProcess, topic: str) -> None:
    api = small_broker.api
    small = [event(id=str(n), data="x" * 1000) for n in range(15)]

    assert api.post(topic, b"x" * 1000).status_code == 201
    assert read_problem(api.post(topic, b"x" * 2001), 413).code == "message_too_large"
    assert api.publish_batch(topic, small[:6]).status_code == 201
    read_problem(api.publish_batch(topic, small), 413)


def test_chunked_body_over_the_limit_is_refused(small_broker: BrokerProcess, topic: str) -> None:
    api = small_broker.api
    api.put_topic(topic)

    answer = api.http.post(f"/v1/topics/{topic}/messages", content=(b"x" * 500 for _ in range(30)))

    assert read_problem(answer, 413).code == "message_too_large"
    assert good(api.browse(topic))["messages"] == []


def test_chunked_body_within_the_limit_is_stored_whole(
    small_broker: BrokerProcess, topic: str
) -> None:
    answer = small_broker.api.http.post(
        f"/v1/topics/{topic}/messages",
        content=iter([b"ab", b"cd", b"ef"]),
        headers={"content-type": "text/plain"},
    )

    message = good(small_broker.api.get_message(topic, good(answer)["sequence"]))
    assert message["data"] == "abcdef"


def test_huge_announced_body_is_refused_before_it_is_sent(broker: BrokerProcess) -> None:
    head = (
        b"POST /v1/topics/huge/messages HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 99999999999\r\n\r\n"
    )

    with socket.create_connection(("127.0.0.1", broker.port), timeout=15) as connection:
        connection.sendall(head)
        status_line = connection.makefile("rb").readline()

    assert b" 413 " in status_line


def test_body_cut_short_stores_nothing(broker: BrokerProcess, untouched: str) -> None:
    head = (
        f"POST /v1/topics/{untouched}/messages HTTP/1.1\r\nHost: x\r\n"
        "Content-Type: text/plain\r\nContent-Length: 100\r\n\r\n"
    ).encode()

    with socket.create_connection(("127.0.0.1", broker.port), timeout=15) as connection:
        connection.sendall(head + b"only this")

    broker.api.ok_publish(f"{untouched}-after", 1)
    broker.api.delete_topic(f"{untouched}-after")


def test_wrong_method_on_messages_is_refused(api: Api, untouched: str) -> None:
    answer = api.http.put(f"/v1/topics/{untouched}/messages", content=b"x")

    read_problem(answer, 405)
    assert "POST" in answer.headers["allow"]
