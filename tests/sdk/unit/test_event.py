"""The event: what it accepts, and its way through every format and back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given

from broker_client import Event, MalformedEvent
from sdk.events import events

FULL = Event(
    type="order.created",
    source="/order-service",
    data={"order_id": 7, "total": 12.5, "note": "naïve ☕"},
    id="a-1",
    subject='order 7 50% "off"',
    time=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    datacontenttype="application/json",
    dataschema="https://example.com/order.json",
    partitionkey="7",
    extensions={"traceparent": "00-ab", "priority": 3, "test": True},
)


@given(events)
def test_an_event_survives_its_json_format(event: Event) -> None:
    assert Event.from_dict(json.loads(event.to_json())) == event


@given(events)
def test_an_event_survives_the_cloudevents_package(event: Event) -> None:
    theirs = JSONFormat().read(CloudEvent, event.to_json().encode())
    back = Event.from_dict(json.loads(JSONFormat().write(theirs)))

    # The package fills in a time where there is none.
    assert back == (event if event.time is not None else replace(event, time=back.time))


def test_a_structured_request_of_the_cloudevents_package_is_read() -> None:
    theirs = JSONFormat().read(CloudEvent, FULL.to_json().encode())
    message = http.to_structured(theirs, JSONFormat())

    assert Event.from_http(message.headers, message.body) == FULL


def test_a_binary_request_of_the_cloudevents_package_is_read() -> None:
    theirs = JSONFormat().read(CloudEvent, FULL.to_json().encode())
    message = http.to_binary(theirs, JSONFormat())
    read = Event.from_http(message.headers, message.body)

    assert read.data == FULL.data
    assert (read.subject, read.time, read.partitionkey) == (FULL.subject, FULL.time, "7")
    # Headers have no types: what is not text arrives as text.
    assert read.extensions == {"traceparent": "00-ab", "priority": "3", "test": "True"}


def test_a_binary_event_of_bytes_survives_the_cloudevents_package() -> None:
    event = Event(type="t", source="/s", data=b"\x00\xff", id="1", time=None)
    theirs = JSONFormat().read(CloudEvent, event.to_json().encode())
    message = http.to_binary(theirs, JSONFormat())

    assert Event.from_http(message.headers, message.body).data == b"\x00\xff"


def test_a_batch_is_read_in_its_order() -> None:
    events = [Event(type="t", source="/s", data=n) for n in range(3)]
    body = json.dumps([event.to_dict() for event in events]).encode()

    assert Event.batch_from_http(body) == events


def test_what_is_not_given_is_filled_in() -> None:
    before = datetime.now(UTC)
    event = Event(type="t", source="/s", data={})

    assert UUID(event.id).version == 7
    assert event.time is not None
    assert before <= event.time <= datetime.now(UTC)
    assert event.datacontenttype == "application/json"
    assert Event(type="t", source="/s", data=b"").datacontenttype == "application/octet-stream"
    assert Event(type="t", source="/s").datacontenttype is None


def test_ids_made_later_sort_later() -> None:
    earlier = Event(type="t", source="/s").id
    while (later := Event(type="t", source="/s").id)[:13] == earlier[:13]:
        pass  # the same millisecond

    assert earlier < later


def test_a_time_is_written_in_utc() -> None:
    time = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))

    assert Event(type="t", source="/s", time=time).to_dict()["time"] == "2025-12-31T23:30:00Z"


def test_bytes_are_written_as_base64() -> None:
    document = Event(type="t", source="/s", data=b"\x00\x01").to_dict()

    assert document["data_base64"] == "AAE="
    assert "data" not in document


@pytest.mark.parametrize(
    ("content_type", "body", "data"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("application/vnd.shop+json; charset=utf-8", b"[1]", [1]),
        ("application/json", b"", None),
        ("text/plain; charset=latin-1", b"\xe9", "é"),
        ("text/plain", b"\xe9\xff", b"\xe9\xff"),
        ("text/plain; charset=nonsense", b"a", b"a"),
        ("text/plain; charset=undefined", b"a", b"a"),
        ("text/plain; charset=Punycode", b"--99999999999", b"--99999999999"),
        ("text/plain; charset=idna", b"xn--a", b"xn--a"),
        ("text/plain; charset=unicode_escape", b"\\q", b"\\q"),
        ("image/png", b"\x89PNG", b"\x89PNG"),
        ("application/jsonsequence", b"{", b"{"),
        (None, b"raw", b"raw"),
        (None, b"", None),
    ],
)
def test_binary_data_is_read_as_its_type_says(
    content_type: str | None, body: bytes, data: Any
) -> None:
    headers = {"ce-specversion": "1.0", "Ce-Id": "1", "CE-SOURCE": "/s", "ce-type": "t"}
    if content_type is not None:
        headers["Content-Type"] = content_type

    assert Event.from_http(headers, body).data == data


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("caf%C3%A9", "café"),
        ('"with \\"quotes\\""', 'with "quotes"'),
        ("a+b", "a+b"),
        ('"', '"'),
    ],
)
def test_header_values_are_decoded(sent: str, read: str) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}

    assert Event.from_http({**headers, "ce-subject": sent}, b"").subject == read


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": ""},
        {"source": ""},
        {"source": "/a b"},
        {"id": ""},
        {"id": 7},
        {"subject": ""},
        {"partitionkey": "a\nb"},
        {"dataschema": "no uri"},
        {"time": datetime(2026, 1, 1)},  # noqa: DTZ001 -- the missing zone is the point
        {"extensions": {"Upper": "x"}},
        {"extensions": {"with_line": "x"}},
        {"extensions": {"time": "x"}},
        {"extensions": {"data": "x"}},
        {"extensions": {"float": 1.5}},
        {"extensions": {"big": 2**31}},
        {"extensions": {"control": "\x00"}},
    ],
)
def test_attributes_cloudevents_forbids_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MalformedEvent):
        Event(**{"type": "t", "source": "/s", **wrong})


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "0.3"},
        {"specversion": None},
        {"id": None},
        {"source": None},
        {"type": None},
        {"type": 1},
        {"time": "yesterday"},
        {"time": "2026-01-01T00:00:00"},
        {"time": 5},
        {"data_base64": "!!!"},
        {"data_base64": 5},
        {"data": 1, "data_base64": "AAE="},
        {"nested": {}},
    ],
)
def test_malformed_documents_are_refused(change: dict[str, Any]) -> None:
    document = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **change}

    with pytest.raises(MalformedEvent):
        Event.from_dict(document)


def test_a_time_at_the_end_of_the_calendar_is_written_as_it_is() -> None:
    time = "9999-12-31T23:59:59-23:59"
    document = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "time": time}

    assert Event.from_dict(document).to_dict()["time"] == time


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1985-04-12t23:20:50.52z", datetime(1985, 4, 12, 23, 20, 50, 520_000, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("1990-12-31T15:59:60.5-08:00", datetime(1991, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("1996-12-19T16:39:57.123456789Z", datetime(1996, 12, 19, 16, 39, 57, 123456, tzinfo=UTC)),
    ],
)
def test_every_time_of_rfc_3339_is_read(text: str, time: datetime) -> None:
    document = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "time": text}

    assert Event.from_dict(document).time == time


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/cloudevents+json", b"{"),
        ("application/cloudevents+json", b"[]"),
        ("application/cloudevents+json; charset=utf-8", b"\xff"),
        ("application/cloudevents-batch+json", b"[]"),
        ("application/json", b"{"),
        ("application/json", b"[" * 100_000),
        ("application/cloudevents+json", b'{"data":' * 100_000),
    ],
)
def test_malformed_requests_are_refused(content_type: str, body: bytes) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}

    with pytest.raises(MalformedEvent):
        Event.from_http({**headers, "content-type": content_type}, body)


def test_a_header_that_is_not_utf8_is_refused() -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "%FF", "ce-source": "/s", "ce-type": "t"}

    with pytest.raises(MalformedEvent, match="ce-id"):
        Event.from_http(headers, b"")


@pytest.mark.parametrize("body", [b"{}", b"[1]", b"nonsense"])
def test_malformed_batches_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedEvent):
        Event.batch_from_http(body)


@pytest.mark.parametrize("data", [object(), float("nan")])
def test_data_json_cannot_say_is_refused(data: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Event(type="t", source="/s", data=data).to_json()
