"""Publishing in the three content modes: what is stored, what is filled in, what is answered."""

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from support.api import Api, good
from support.cloudevent import BATCH, STRUCTURED, event, same_data
from support.problem import read_problem


def test_publish_answers_id_sequence_and_location(api: Api, topic: str) -> None:
    answer = api.publish(topic, {"a": 1}, id="m-1")

    assert answer.status_code == 201
    body = answer.json()
    assert body == {"id": "m-1", "sequence": body["sequence"], "duplicate": False}
    location = api.http.get(answer.headers["location"])
    assert location.json()["sequence"] == body["sequence"]


def test_binary_event_gets_what_it_lacks(api: Api, topic: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    published = good(api.post(topic, b"hello", {"content-type": "text/plain"}))

    message = good(api.get_message(topic, published["sequence"]))

    assert message["id"] == published["id"]
    assert uuid.UUID(message["id"]).version == 7
    assert message["source"] == f"/topics/{topic}"
    assert message["type"] == topic
    assert message["specversion"] == "1.0"
    assert message["datacontenttype"] == "text/plain"
    assert message["data"] == "hello"
    stored = datetime.fromisoformat(message["time"])
    assert before <= stored <= datetime.now(UTC) + timedelta(seconds=1)
    assert stored.utcoffset() == timedelta(0)


def test_generated_ids_differ(api: Api, topic: str) -> None:
    ids = {good(api.post(topic, b"same"))["id"] for _ in range(20)}

    assert len(ids) == 20


def test_sequences_grow(api: Api, topic: str) -> None:
    sequences = [api.ok_publish(topic, n) for n in range(20)]

    assert sequences == sorted(set(sequences))
    assert sequences[0] > 0


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b""),
        ("text/plain; charset=utf-8", "Grüße 😀".encode()),
        ("text/plain; charset=iso-8859-1", b"Gr\xfc\xdfe"),
        ("application/octet-stream", bytes(range(256))),
        ("application/json", b'{ "b" : 1.0,\n "a": [ ] }'),
        ("application/json", b"not json"),
        ("application/json", b"\xff\xfe"),
        ("application/json", b""),
        ("application/json", b'"\\ud800"'),
        ("application/json", b"NaN"),
        ("application/json", b"12345678901234567890123456789012345678901234567890"),
        ("application/vnd.api+json", b'{"a": {"a": 1}}'),
        ("application/xml", b"<a>\r\n</a>"),
        ("image/png", b"\x89PNG\r\n\x1a\n\x00"),
        ("application/x-www-form-urlencoded", b"a=1&b=%20"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--\r\n"),
    ],
)
def test_binary_body_comes_back_as_it_was(
    api: Api, topic: str, content_type: str, body: bytes
) -> None:
    published = good(api.post(topic, body, {"content-type": content_type}))

    message = good(api.get_message(topic, published["sequence"]))

    assert message["datacontenttype"] == content_type
    if content_type.startswith("text/plain; charset=iso"):
        assert base64.b64decode(message["data_base64"]) == body
    else:
        assert same_data(message, body)


def test_binary_body_without_content_type_is_kept(api: Api, topic: str) -> None:
    published = good(api.post(topic, b"\x00\xff"))

    message = good(api.get_message(topic, published["sequence"]))

    assert base64.b64decode(message["data_base64"]) == b"\x00\xff"


def test_binary_attributes_are_percent_decoded(api: Api, topic: str) -> None:
    published = api.post(
        topic,
        b"x",
        {
            "content-type": "text/plain",
            "ce-subject": "Euro%20%E2%82%AC%20%F0%9F%98%80",
            "ce-extension1": "100%25 plain ~!",
            "CE-Upper": "A",
        },
    )

    message = good(api.get_message(topic, good(published)["sequence"]))

    assert message["subject"] == "Euro € 😀"
    assert message["extension1"] == "100% plain ~!"
    assert message["upper"] == "A"


def test_headers_that_are_no_attributes_are_not_kept(api: Api, topic: str) -> None:
    headers = {"content-type": "text/plain", "x-secret": "hush", "authorization": "Bearer hush"}
    published = good(api.post(topic, b"x", headers))

    assert "hush" not in api.get_message(topic, published["sequence"]).text


def test_structured_event_comes_back_as_it_was(api: Api, topic: str) -> None:
    given = event(
        id="m-1",
        source="https://shop.example/orders?x=1#y",
        type="com.example.sold",
        subject="hat",
        time="2020-02-29T23:59:59.123456Z",
        datacontenttype="application/json",
        dataschema="https://shop.example/schema.json",
        partitionkey="clé",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="a=1,b=2",
        myextension="ext",
        data={"nested": [1, 2.5, None, True, "é\u0000😀"]},
    )
    published = good(api.publish_event(topic, given))

    message = good(api.get_message(topic, published["sequence"]))

    assert message == {**given, "sequence": published["sequence"]}


def test_structured_event_with_charset_is_accepted(api: Api, topic: str) -> None:
    headers = {"content-type": "Application/CloudEvents+JSON; charset=UTF-8"}
    published = good(api.post(topic, json.dumps(event(data="é")).encode(), headers))

    message = good(api.get_message(topic, published["sequence"]))

    assert (message["type"], message["data"]) == ("test", "é")


@pytest.mark.parametrize("data", [None, 0, False, "", [], {}, "text", -1.5, {"a": {"b": []}}])
def test_structured_data_keeps_its_json_value(api: Api, topic: str, data: object) -> None:
    published = good(api.publish_event(topic, event(data=data)))

    message = good(api.get_message(topic, published["sequence"]))

    assert message.get("data") == data


def test_structured_binary_data_comes_back_as_it_was(api: Api, topic: str) -> None:
    encoded = base64.b64encode(bytes(range(256))).decode()
    given = event(datacontenttype="image/png", data_base64=encoded)
    published = good(api.publish_event(topic, given))

    message = good(api.get_message(topic, published["sequence"]))

    assert message["data_base64"] == encoded
    assert "data" not in message


def test_structured_event_without_data_stays_without(api: Api, topic: str) -> None:
    published = good(api.publish_event(topic, event()))

    message = good(api.get_message(topic, published["sequence"]))

    assert message.get("data") is None
    assert "data_base64" not in message


def test_structured_null_attribute_counts_as_absent(api: Api, topic: str) -> None:
    published = good(api.publish_event(topic, event(subject=None, partitionkey=None, extra=None)))

    message = good(api.get_message(topic, published["sequence"]))

    assert not {"subject", "partitionkey", "extra"} & message.keys()


def test_structured_attributes_may_be_numbers_and_booleans(api: Api, topic: str) -> None:
    published = good(api.publish_event(topic, event(number=-42, flag=True, other=False)))

    message = good(api.get_message(topic, published["sequence"]))

    assert str(message["number"]) == "-42"
    assert str(message["flag"]).lower() == "true"
    assert str(message["other"]).lower() == "false"


def test_structured_event_without_its_own_identity_gets_one_or_is_refused(
    api: Api, topic: str
) -> None:
    answer = api.publish_event(topic, {"specversion": "1.0", "data": 1})

    if answer.status_code == 201:
        message = good(api.get_message(topic, answer.json()["sequence"]))
        assert message["id"] == answer.json()["id"]
        assert (message["source"], message["type"]) == (f"/topics/{topic}", topic)
    else:
        problem = read_problem(answer, 422)
        assert problem.names("source")
        assert problem.names("type")


def test_batch_is_stored_in_order(api: Api, topic: str) -> None:
    answer = api.publish_batch(topic, [event(id=str(n), data=n) for n in range(50)])

    assert answer.status_code == 201
    told = answer.json()["messages"]
    assert [entry["id"] for entry in told] == [str(n) for n in range(50)]
    assert not any(entry["duplicate"] for entry in told)
    stored = list(api.all_messages(topic))
    assert [message["data"] for message in stored] == list(range(50))
    assert [m["sequence"] for m in stored] == [entry["sequence"] for entry in told]


def test_batch_of_a_thousand_is_stored(api: Api, topic: str) -> None:
    answer = api.publish_batch(topic, [event(id=str(n)) for n in range(1000)])

    assert len(good(answer)["messages"]) == 1000
    assert good(api.get_topic(topic))["message_count"] == 1000


def test_empty_batch_stores_nothing(api: Api, topic: str) -> None:
    api.put_topic(topic)

    answer = api.publish_batch(topic, [])

    if answer.is_success:
        assert answer.json() == {"messages": []}
    else:
        read_problem(answer, 422)
    assert good(api.browse(topic))["messages"] == []


def test_batch_may_mix_data_forms(api: Api, topic: str) -> None:
    events = [
        event(id="1", data={"a": 1}),
        event(id="2", datacontenttype="text/plain", data="text"),
        event(id="3", datacontenttype="image/png", data_base64="/wA="),
        event(id="4"),
    ]
    good(api.publish_batch(topic, events))

    stored = list(api.all_messages(topic))

    assert [message.get("data") for message in stored] == [{"a": 1}, "text", None, None]
    assert stored[2]["data_base64"] == "/wA="


@pytest.mark.parametrize("content_type", [STRUCTURED, BATCH])
def test_json_text_is_utf8_whatever_it_holds(api: Api, topic: str, content_type: str) -> None:
    given = event(subject="ü\u2028😀", data='ß\\"/\b\f\n\r\t\u0001')
    body = json.dumps([given] if content_type == BATCH else given, ensure_ascii=False).encode()
    assert api.post(topic, body, {"content-type": content_type}).status_code == 201

    (stored,) = api.all_messages(topic)

    assert (stored["subject"], stored["data"]) == (given["subject"], given["data"])


def test_published_messages_stand_in_the_log_at_once(api: Api, topic: str) -> None:
    for n in range(20):
        sequence = api.ok_publish(topic, n)
        assert good(api.get_message(topic, sequence))["data"] == n
