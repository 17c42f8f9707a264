"""Events rendered for endpoints: what went in comes out, and other implementations agree."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_binary_event,
    from_structured_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from broker.cloudevents import (
    attributes_of,
    binary_headers,
    decode_header_value,
    encode_header_value,
    expires_at,
    is_json,
    parse_time,
    read_binary,
    read_structured,
    rfc3339,
    structured,
    structured_batch,
)
from broker.model import Message, NewMessage
from unit.events import (
    attributes,
    characters,
    events,
    integers,
    json_values,
    plain_texts,
    texts,
    uris,
    written,
)

contents = st.binary(max_size=20) | st.text(max_size=9).map(str.encode) | written(json_values)


def read(event: dict[str, Any]) -> NewMessage:
    return read_structured(json.dumps(event).encode(), None)


def http_headers(message: NewMessage, sequence: int = 7) -> dict[str, str]:
    """Render in binary mode, and take the lines apart as an HTTP receiver would."""
    lines = binary_headers(message.attributes, message.data, sequence)
    assert all("\r" not in line and "\n" not in line and line.isascii() for line in lines)
    pairs = [line.partition(": ") if ": " in line else (line[:-1], "", "") for line in lines]
    headers = {name: value for name, _, value in pairs}
    assert len(headers) == len(lines)
    return headers


# -- round trips ---------------------------------------------------------------------------------


@given(events(), st.integers(1, 2**53))
def test_event_comes_back_out_of_a_binary_request(event: dict[str, Any], sequence: int) -> None:
    message = read(event)
    headers = http_headers(message, sequence)
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    back = read_binary("t", pairs, message.data or b"", None, lambda: "", 0.0)

    came_back = attributes_of(back.attributes)
    if "time" not in event:
        del came_back["time"]
    if "datacontenttype" not in event:
        assert came_back.pop("datacontenttype") in {"application/json", "application/octet-stream"}
    sent = {name: value for name, value in event.items() if not name.startswith("data_")}
    sent.pop("data", None)
    expected = {name: as_header(value) for name, value in sent.items()}
    assert came_back == {**expected, "sequence": str(sequence)}
    assert back.data == (message.data or None)
    assert (back.id, back.source, back.key) == (message.id, message.source, message.key)


def as_header(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@given(attributes(), contents | st.none(), st.integers(1, 2**31 - 1))
def test_event_comes_back_out_of_a_structured_request(
    event: dict[str, Any], content: bytes | None, sequence: int
) -> None:
    message = read(event)
    body = structured(message.attributes, content, sequence)
    back = read_structured(body, None)
    assert attributes_of(back.attributes) == {**event, "sequence": sequence}
    as_json = is_json(event.get("datacontenttype")) and b'"data_base64":' not in body
    assert back.data == (content.strip(b" \t\r\n") if as_json and content else content)
    assert (back.id, back.source, back.key) == (message.id, message.source, message.key)


@given(events(), st.integers(1, 2**53))
def test_sequence_in_the_log_replaces_one_that_the_publisher_gave(
    event: dict[str, Any], sequence: int
) -> None:
    message = read({**event, "sequence": "mine"})
    assert (
        json.loads(structured(message.attributes, message.data, sequence))["sequence"] == sequence
    )
    assert http_headers(message, sequence)["ce-sequence"] == str(sequence)


@given(st.text(characters, max_size=20))
def test_text_comes_back_out_of_a_header(text: str) -> None:
    encoded = encode_header_value(text)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert " " not in encoded
    assert decode_header_value(encoded.encode()) == text


@pytest.mark.parametrize(
    ("value", "header"),
    [(True, "true"), (False, "false"), (-7, "-7"), ("a b", "a%20b"), ("€", "%E2%82%AC"), ("", "")],
)
def test_value_is_written_as_the_http_binding_wants(value: str | int | bool, header: str) -> None:
    assert encode_header_value(value) == header


# -- the data's form -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_type", "data", "member"),
    [
        (None, b'{"a": 1}', '"data":{"a": 1}'),
        (None, b"\xff", '"data_base64":"/w=="'),
        (None, b"no json", '"data_base64":"bm8ganNvbg=="'),
        ("application/json", b"[1, 2.50]", '"data":[1, 2.50]'),
        ("application/x+json", b"{", '"data_base64":"ew=="'),
        ("text/plain", b"7", '"data":"7"'),
        ("text/plain", "grüße".encode(), '"data":"grüße"'),
        ("text/plain", b"", '"data":""'),
        ("image/png", b"\x89PNG", '"data_base64":"iVBORw=="'),
        ("application/json", b'"\\ud800"', '"data_base64":"Ilx1ZDgwMCI="'),
        ("application/json", b"[" * 100_000, '"data_base64":"W1tbW1'),
    ],
)
def test_data_has_the_form_of_its_media_type(
    media_type: str | None, data: bytes, member: str
) -> None:
    event = {"id": "1"} | ({"datacontenttype": media_type} if media_type else {})
    text = structured(json.dumps(event, separators=(",", ":")).encode(), data, 3).decode()
    assert f'"sequence":3,{member}' in text


plain_events = st.fixed_dictionaries(
    {"specversion": st.just("1.0"), "id": texts, "source": uris, "type": texts},
    optional={"datacontenttype": st.sampled_from(("application/json", "text/plain"))},
)


@given(
    st.lists(
        st.tuples(
            plain_events | events(), contents | st.none() | st.sampled_from((b"1,2", b'1,"a":2'))
        ),
        min_size=1,
        max_size=4,
    )
)
def test_batch_has_each_event_as_it_is_alone(given: list[tuple[dict[str, Any], bytes]]) -> None:
    messages = [
        Message(sequence, None, read(event).attributes, data, 0.0)
        for sequence, (event, data) in enumerate(given, 7)
    ]

    alone = [structured(each.attributes, each.data, each.seq) for each in messages]
    assert structured_batch(messages) == b"[%s]" % b",".join(alone)


def test_event_without_data_has_no_member_for_it() -> None:
    assert structured(b'{"id":"1"}', None, 3) == b'{"id":"1","sequence":3}'


def test_event_that_is_not_in_the_log_yet_has_no_sequence() -> None:
    assert structured(b'{"id":"1","sequence":"9"}', b"1", None) == (
        b'{"id":"1","sequence":null,"data":1}'
    )


@pytest.mark.parametrize(
    ("media_type", "data", "header"),
    [
        (None, None, "application/json"),
        (None, b"{}", "application/json"),
        (None, b"\xff", "application/octet-stream"),
        (None, b"[" * 100_000, "application/octet-stream"),
        (" ", b"{}", "application/json"),
        ("text/plain; charset=x", b"{}", "text/plain; charset=x"),
    ],
)
def test_content_type_is_the_events_or_fits_the_data(
    media_type: str | None, data: bytes | None, header: str
) -> None:
    event = {"id": "1"} | ({"datacontenttype": media_type} if media_type else {})
    assert binary_headers(json.dumps(event).encode(), data, 1)[0] == f"content-type: {header}"


def test_attribute_without_a_value_is_a_header_without_one() -> None:
    lines = binary_headers(b'{"id":"1","empty":""}', None, 1)
    assert "ce-empty: " in lines


@pytest.mark.parametrize(
    ("media_type", "json_like"),
    [
        (None, True),
        ("application/json", True),
        ("APPLICATION/JSON;charset=utf-8", True),
        ("text/json", True),
        ("application/problem+json ; v=1", True),
        ("application/jsonlines", False),
        ("application/json+xml", False),
        ("json", False),
        ("text/plain; a=application/json", False),
        ("", False),
    ],
)
def test_media_type_is_json_or_not(media_type: str | None, json_like: bool) -> None:
    assert is_json(media_type) == json_like


# -- times ---------------------------------------------------------------------------------------


@given(st.integers(-(10**9), 10**10), st.integers(0, 999_999))
def test_time_comes_back_out_of_its_text(seconds: int, micros: int) -> None:
    text = rfc3339(seconds + micros / 1e6)
    assert text.endswith("Z")
    parsed = parse_time(text)
    assert parsed is not None
    assert abs(parsed - (seconds + micros / 1e6)) < 1e-5


@given(st.datetimes(timezones=st.timezones()))
def test_any_zone_is_read_as_utc(moment: datetime) -> None:
    text = moment.isoformat()
    parsed = parse_time(text)
    if parsed is not None:  # seconds in the offset are no RFC 3339
        assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=parsed) - moment < timedelta(
            milliseconds=1
        )


@pytest.mark.parametrize(
    "text", ["2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "x", "", "1", "now"]
)
def test_text_that_is_no_time_gives_none(text: str) -> None:
    assert parse_time(text) is None


def test_leap_second_is_the_one_after_the_fifty_ninth() -> None:
    assert parse_time("1990-12-31T23:59:60Z") == parse_time("1991-01-01T00:00:00Z")


@given(attributes())
def test_expiry_is_read_from_what_is_stored(event: dict[str, Any]) -> None:
    assert expires_at(read(event).attributes) == parse_time(event.get("expirytime", ""))


@pytest.mark.parametrize(
    "attributes",
    [b'{"id":"expirytime"}', b'{"id":"\\"expirytime\\":"}', b'{"expirytimes":"1"}'],
)
def test_text_that_looks_like_an_expiry_is_none(attributes: bytes) -> None:
    assert expires_at(attributes) is None


# -- the cloudevents package as a peer -----------------------------------------------------------

peer_attributes = st.fixed_dictionaries(
    {"specversion": st.just("1.0"), "id": texts, "source": uris, "type": texts},
    optional={
        "subject": texts.filter(lambda text: text == text.strip()),
        "partitionkey": plain_texts,
        "myextension": texts,
        "dataschema": st.just("https://a.example/schema"),
    },
)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
documents = st.dictionaries(st.text(max_size=5), integers | st.booleans() | texts, max_size=3)


def peer_event(event: dict[str, Any], moment: datetime, data: Any) -> CloudEvent:
    return CloudEvent({**event, "datacontenttype": "application/json", "time": moment}, data)


def peer_told(event: Any) -> tuple[dict[str, Any], object]:
    return {k: v for k, v in event.get_attributes().items() if k != "sequence"}, event.get_data()


@given(peer_attributes, moments, documents)
def test_peers_binary_request_is_read_and_ours_is_read_by_it(
    event: dict[str, Any], moment: datetime, data: dict[str, Any]
) -> None:
    sent = peer_event(event, moment, data)
    request = to_binary_event(sent)
    pairs = [(name.encode(), value.encode()) for name, value in request.headers.items()]
    message = read_binary("t", pairs, request.body, None, lambda: "", 0.0)
    relayed = HTTPMessage(http_headers(message), message.data or b"")
    assert peer_told(from_binary_event(relayed)) == peer_told(sent)


@given(peer_attributes, moments, documents)
def test_peers_structured_request_is_read_and_ours_is_read_by_it(
    event: dict[str, Any], moment: datetime, data: dict[str, Any]
) -> None:
    sent = peer_event(event, moment, data)
    message = read_structured(to_structured_event(sent).body, None)
    relayed = HTTPMessage({}, structured(message.attributes, message.data, 7))
    assert peer_told(from_structured_event(relayed)) == peer_told(sent)
    as_binary = HTTPMessage(http_headers(message), message.data or b"")
    assert peer_told(from_binary_event(as_binary)) == peer_told(sent)


@given(peer_attributes, moments, st.binary(min_size=1, max_size=20))
def test_bytes_from_a_peer_reach_it_again(
    event: dict[str, Any], moment: datetime, data: bytes
) -> None:
    sent = CloudEvent({**event, "datacontenttype": "image/png", "time": moment}, data + b"\xff")
    message = read_structured(to_structured_event(sent).body, None)
    assert message.data == data + b"\xff"
    relayed = HTTPMessage({}, structured(message.attributes, message.data, 7))
    assert peer_told(from_structured_event(relayed)) == peer_told(sent)
