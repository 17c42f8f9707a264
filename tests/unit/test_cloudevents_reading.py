"""Events read from requests: two readers that agree, and refusals that name every fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.cloudevents import (
    MAX_BATCH_EVENTS,
    attributes_of,
    mode_of,
    parse_time,
    read_batch,
    read_binary,
    read_structured,
)
from broker.errors import BrokerError, InvalidRequest, MalformedRequest, UnsupportedContent
from broker.model import NewMessage
from broker.new_batch import NewBatch
from unit.events import (
    Json,
    attributes,
    events,
    json_types,
    json_values,
    other_types,
    spoiled_events,
    texts,
    told,
    written,
)

NOW = 1769860800.5
MINIMAL = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
DEEP = b"[" * 100_000 + b"]" * 100_000


def outcome(read: Callable[[], Any]) -> object:
    """Give what a reader returns or refuses; anything else it raises fails the test."""
    try:
        return read()
    except BrokerError as refusal:
        return type(refusal), refusal.detail, refusal.faults


def structured_outcome(body: bytes, key: str | None = None) -> object:
    return outcome(lambda: told(read_structured(body, key)))


def batch_outcome(body: bytes) -> object:
    return outcome(lambda: list(map(told, read_batch(body))))


def only_for_the_careful(body: bytes) -> bytes:
    """Add a member that means nothing and that the typed reader does not know."""
    return body.rstrip()[:-1] + b',"anything":null}'


def binary(
    *headers: tuple[str, str | bytes], body: bytes = b"", key: str | None = None
) -> NewMessage:
    lines = [(name.encode(), v if isinstance(v, bytes) else v.encode()) for name, v in headers]
    return read_binary("orders", lines, body, key, lambda: "made", NOW)


def faults_of(read: Callable[[], object]) -> list[str]:
    with pytest.raises(InvalidRequest) as refused:
        read()
    assert all(fault.message for fault in refused.value.faults)
    return [fault.field for fault in refused.value.faults]


def structured_faults(**members: Json) -> list[str]:
    event = {name: value for name, value in {**MINIMAL, **members}.items() if value is not ...}
    return faults_of(lambda: read_structured(json.dumps(event).encode(), None))


# -- the two readers -----------------------------------------------------------------------------


@given(written(events()))
def test_valid_event_is_read_alike_by_both_readers(body: bytes) -> None:
    event = json.loads(body)
    message = read_structured(body, None)
    assert told(message) == structured_outcome(only_for_the_careful(body))
    assert message.id == event["id"]
    assert message.source == event["source"]
    assert message.key == event.get("partitionkey")
    assert message.fingerprint is not None
    assert message.deliver_at == parse_time(event.get("deliverat", ""))
    kept = {name: v for name, v in event.items() if name not in {"data", "data_base64"}}
    assert attributes_of(message.attributes) == kept


@given(written(spoiled_events()))
def test_any_event_is_read_or_refused_alike_by_both_readers(body: bytes) -> None:
    assert structured_outcome(body) == structured_outcome(only_for_the_careful(body))


@given(st.lists(events() | spoiled_events(), min_size=1, max_size=4))
def test_any_batch_is_read_or_refused_alike_by_both_readers(batch: list[Json]) -> None:
    body = json.dumps(batch).encode()
    careful = json.dumps([{**event, "anything": None} for event in batch]).encode()
    assert batch_outcome(body) == batch_outcome(careful)


@given(st.lists(events(), min_size=1, max_size=4))
def test_batch_is_its_events_in_order(batch: list[Json]) -> None:
    alone = [structured_outcome(json.dumps(event).encode()) for event in batch]
    assert batch_outcome(json.dumps(batch).encode()) == alone


@pytest.mark.parametrize(
    ("changed", "together"),
    [
        ({}, True),
        ({"expirytime": "2026-01-31T12:00:00Z"}, True),
        ({"source": "/other"}, False),
        ({"deliverat": "2026-01-31T12:00:00Z"}, False),
        ({"own": 1}, False),
    ],
    ids=["alike", "expires", "source", "waits", "careful"],
)
def test_events_that_are_alike_are_read_side_by_side(changed: Json, together: bool) -> None:
    body = json.dumps([MINIMAL, {**MINIMAL, "id": "2", **changed}]).encode()
    assert isinstance(read_batch(body), NewBatch) == together


# -- malformed -----------------------------------------------------------------------------------


@given(st.binary(max_size=60) | written(json_values), texts | st.none())
def test_bytes_are_read_or_refused(body: bytes, key: str | None) -> None:
    structured_outcome(body, key)
    batch_outcome(body)


@given(written(events()), st.data())
def test_damaged_event_is_read_or_refused(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body)))
    damaged = (
        body[:at] + data.draw(st.binary(max_size=3)) + body[at + data.draw(st.integers(0, 3)) :]
    )
    structured_outcome(damaged)
    batch_outcome(b"[" + damaged + b"]")


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"content-type", b"ce-", b"ce-id", b"ce-x", b"ce-\xe9", b"ce-time"]),
            st.binary(max_size=9) | st.sampled_from([b"%zz", b"%ff", b'"', b'"\\"', b"%22"]),
        ),
        max_size=5,
    ),
    st.binary(max_size=9),
    st.text(max_size=3) | st.none(),
)
def test_headers_are_read_or_refused(
    headers: list[tuple[bytes, bytes]], body: bytes, key: str | None
) -> None:
    outcome(lambda: read_binary("orders", headers, body, key, lambda: "made", NOW))


@given(
    st.sampled_from(["orders", "a.b-c_9", "a" * 128, "a" * 129, 'a"b']),
    st.lists(
        st.sampled_from(
            ["", " ", "application/json", ' text/plain;a="id":"" ', '"\\""', "é", "\x00"]
        )
        | st.text(st.characters(max_codepoint=255), max_size=130),
        max_size=2,
    ),
    st.binary(max_size=9),
    st.floats(0, 4e9),
)
def test_event_that_is_data_alone_is_read_as_any_other(
    topic: str, content_types: list[str], body: bytes, now: float
) -> None:
    headers = [(b"content-type", each.encode("latin-1")) for each in content_types]

    def read(*more: tuple[bytes, bytes]) -> NewMessage:
        return read_binary(topic, [(b"host", b"a"), *headers, *more], body, None, lambda: "1", now)

    # Its type is what it is anyway where nobody says it: only the order of attributes differs.
    assert outcome(lambda: told(read())) == outcome(
        lambda: told(read((b"ce-type", quote(topic).encode())))
    )


def test_event_that_is_data_alone_has_its_attributes_in_order() -> None:
    expected = (
        b'{"datacontenttype":"application/json","id":"made","specversion":"1.0",'
        b'"source":"/topics/orders","type":"orders","time":"2026-01-31T12:00:00.500000Z"}'
    )
    found = [binary(("content-type", "application/json"), body=b"1").attributes for _ in range(2)]

    assert found == [expected, expected]
    assert binary(body=b"1").attributes == b"{" + expected.split(b",", 1)[1]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b'"text"',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"id":"\\ud800"}',
        b'{"id":"\\q"}',
        b'{"a":1}{"a":1}',
        b'{"data":' + DEEP + b"}",
        b'{"anything":null,"data":' + DEEP + b"}",
        DEEP,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_body_that_is_no_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        read_structured(body, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[1]",
        b"[[]]",
        b"[",
        b"[null]",
        b"[{}] ]",
        b"\xff",
        DEEP,
        b'[{"data":' + DEEP + b"}]",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_body_that_is_no_array_of_objects_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        read_batch(body)


@pytest.mark.parametrize("value", ["1e999", "9" * 5000, "-" + "9" * 30, "[1]", "{}", "1.5"])
def test_value_that_is_no_scalar_is_refused_by_name(value: str) -> None:
    body = json.dumps({**MINIMAL, "x": "value", "y": True}).replace('"value"', value)
    assert faults_of(lambda: read_structured(body.encode(), None)) == ["x"]


# -- rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, ...) for name in MINIMAL],
        *[(name, "") for name in (*MINIMAL, "subject", "partitionkey", "datacontenttype")],
        *[(name, 7) for name in (*MINIMAL, "subject", "partitionkey", "time", "deliverat")],
        ("specversion", "0.3"),
        ("specversion", "1.0.2"),
        ("source", "a b"),
        ("source", "/s\n"),
        ("dataschema", "<x>"),
        ("subject", "a\x00b"),
        ("id", "tab\there"),
        ("type", "del\x7f"),
        ("type", "c1\x85"),
        ("x", "non\ufffecharacter"),
        ("datacontenttype", "text/ü"),
        ("time", "2026-01-31"),
        ("time", "2026-01-31 12:00:00Z"),
        ("time", "2026-01-31T12:00:00"),
        ("time", "2026-13-31T12:00:00Z"),
        ("time", "2026-01-31T24:00:00Z"),
        ("time", "2026-01-31T12:00:00Z\n"),
        ("time", "\u0662\u0660\u0662\u0666-01-31T12:00:00Z"),
        ("deliverat", "soon"),
        ("expirytime", "never"),
        ("X", "upper case"),
        ("a-b", "hyphen"),
        ("a" * 65, "too long"),
        ("", "empty"),
        ("x", 2**31),
        ("x", -(2**31) - 1),
        ("data_base64", "!"),
        ("data_base64", "AA"),
        ("data_base64", "ü"),
        ("data_base64", 7),
    ],
)
def test_broken_rule_names_its_attribute(name: str, value: object) -> None:
    assert structured_faults(**{name: value}) == [name]


def test_all_faults_are_told_at_once() -> None:
    faults = structured_faults(specversion="2", id=..., time="soon", X="y", x=[], data_base64="!")
    assert sorted(faults) == sorted(["specversion", "id", "time", "X", "x", "data_base64"])


def test_batch_tells_the_faults_of_every_event_with_its_position() -> None:
    body = json.dumps([{**MINIMAL, "id": ""}, MINIMAL, {**MINIMAL, "time": "soon", "x": []}])
    faults = faults_of(lambda: read_batch(body.encode()))
    assert sorted(faults) == ["[0].id", "[2].time", "[2].x"]


def test_data_in_both_forms_is_refused() -> None:
    assert structured_faults(data=1, data_base64="AA==") == ["data_base64"]


def test_null_attribute_is_as_if_it_were_absent() -> None:
    body = json.dumps({**MINIMAL, "subject": None, "time": None, "x": None}).encode()
    assert attributes_of(read_structured(body, None).attributes) == MINIMAL


@pytest.mark.parametrize("count", [0, MAX_BATCH_EVENTS + 1])
@pytest.mark.parametrize("extra", [{}, {"anything": None}], ids=["typed", "careful"])
def test_batch_of_the_wrong_size_is_refused(count: int, extra: Json) -> None:
    body = json.dumps([{**MINIMAL, **extra}] * count).encode()
    assert faults_of(lambda: read_batch(body)) == ["events"]


def test_largest_batch_is_read() -> None:
    body = json.dumps([MINIMAL] * MAX_BATCH_EVENTS).encode()
    assert len(read_batch(body)) == MAX_BATCH_EVENTS


def test_too_many_attributes_are_refused() -> None:
    most = {f"x{n}": n for n in range(96)}
    message = read_structured(json.dumps({**MINIMAL, **most}).encode(), None)
    assert attributes_of(message.attributes) == {**MINIMAL, **most}
    assert structured_faults(**most, onemore=1) == ["attributes"]


# -- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["null", "0", '"x"', '{"a": [1, 2.50]}', '"\\u00e9"', "1E400"])
@pytest.mark.parametrize("media_type", [None, "application/json", "application/x+json; v=1"])
@pytest.mark.parametrize("extra", ["", ',"anything":null'], ids=["typed", "careful"])
def test_json_data_is_kept_byte_for_byte(text: str, media_type: str | None, extra: str) -> None:
    head = json.dumps({**MINIMAL, **({"datacontenttype": media_type} if media_type else {})})[:-1]
    body = f'{head}, "data" : {text} {extra}}}'.encode()
    assert read_structured(body, None).data == text.encode()


@pytest.mark.parametrize("extra", [{}, {"anything": None}], ids=["typed", "careful"])
@pytest.mark.parametrize(
    ("data", "content"), [("grüße\n", "grüße\n".encode()), ("", b""), ({"a": 1}, b'{"a":1}')]
)
def test_string_of_another_media_type_is_its_own_text(
    data: Json, content: bytes, extra: Json
) -> None:
    event = {**MINIMAL, "datacontenttype": "text/plain", "data": data, **extra}
    body = json.dumps(event, separators=(",", ":")).encode()
    assert read_structured(body, None).data == content


def test_base64_is_decoded() -> None:
    body = json.dumps({**MINIMAL, "data_base64": "AP/+"}).encode()
    assert read_structured(body, None).data == b"\x00\xff\xfe"


def test_event_without_data_has_none() -> None:
    assert read_structured(json.dumps(MINIMAL).encode(), None).data is None


# -- identity ------------------------------------------------------------------------------------


def test_idempotency_key_is_the_id_of_an_event_without_one() -> None:
    without = json.dumps({k: v for k, v in MINIMAL.items() if k != "id"}).encode()
    assert read_structured(without, "key").id == "key"
    assert read_structured(json.dumps(MINIMAL).encode(), "key").id == "1"
    assert binary(key="key").id == "key"
    assert binary(("ce-id", "1"), key="key").id == "1"


@pytest.mark.parametrize("key", ["", "a\x00", "\ufffe"])
def test_wrong_idempotency_key_is_refused_as_the_id(key: str) -> None:
    without = json.dumps({k: v for k, v in MINIMAL.items() if k != "id"}).encode()
    assert faults_of(lambda: read_structured(without, key)) == ["id"]
    assert faults_of(lambda: binary(key=key)) == ["id"]


@given(events(), st.dictionaries(st.sampled_from(["time", "traceparent", "other"]), texts))
def test_fingerprint_ignores_time_and_trace(event: Json, changed: dict[str, str]) -> None:
    changed.pop("time", None)
    body = json.dumps({**event, "time": "2026-01-31T12:00:00Z"}).encode()
    other = json.dumps({**event, **changed}).encode()
    assert read_structured(body, None).fingerprint == read_structured(other, None).fingerprint


@given(events(), events())
def test_fingerprint_tells_any_other_difference(one: Json, other: Json) -> None:
    names = ("type", "subject", "partitionkey", "deliverat", "datacontenttype")
    first, second = (read_structured(json.dumps(event).encode(), None) for event in (one, other))
    same = all(one.get(name) == other.get(name) for name in names) and first.data == second.data
    assert (first.fingerprint == second.fingerprint) == same


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", "u"),
        ("deliverat", "2026-01-31T12:00:00Z"),
        *[(name, "None") for name in ("subject", "partitionkey", "datacontenttype")],
    ],
)
def test_fingerprint_tells_one_difference(name: str, value: str) -> None:
    before = read_structured(json.dumps(MINIMAL).encode(), None)
    after = read_structured(json.dumps({**MINIMAL, name: value}).encode(), None)
    assert before.fingerprint != after.fingerprint


def test_fingerprint_tells_no_data_from_empty_data() -> None:
    text = {**MINIMAL, "datacontenttype": "text/plain"}
    without = read_structured(json.dumps(text).encode(), None)
    with_some = read_structured(json.dumps({**text, "data": ""}).encode(), None)
    assert without.fingerprint != with_some.fingerprint


def test_fingerprint_is_the_one_that_stands_in_files() -> None:
    attributes = {
        "type": "t",
        "subject": "s",
        "partitionkey": "k",
        "deliverat": "2026-01-31T12:00:00Z",
    }
    event = {**MINIMAL, **attributes, "datacontenttype": "text/plain", "data": "d"}
    body = json.dumps(event).encode()
    headers = [(f"ce-{name}", value) for name, value in attributes.items()]
    messages = [
        read_structured(body, None),
        read_batch(b"[%s]" % body)[0],
        read_batch(b"[%s]" % json.dumps({**event, "own": 1}).encode())[0],
        binary(("ce-id", "1"), ("content-type", "text/plain"), *headers, body=b"d"),
    ]
    assert {message.fingerprint for message in messages} == {
        bytes.fromhex("3e5b1b9275596c1f8e99aecdbfedc78c7e6e587c40c7f5e14661d6b6c6212b72")
    }


def test_id_that_the_broker_made_has_no_fingerprint() -> None:
    assert binary().fingerprint is None
    assert binary(("ce-id", "1")).fingerprint is not None
    assert binary(key="1").fingerprint is not None


# -- binary mode ---------------------------------------------------------------------------------


def test_bare_request_is_filled_in() -> None:
    message = binary(body=b"\x00\x01")
    assert message.data == b"\x00\x01"
    assert attributes_of(message.attributes) == {
        "id": "made",
        "specversion": "1.0",
        "source": "/topics/orders",
        "type": "orders",
        "time": "2026-01-31T12:00:00.500000Z",
    }


def test_empty_body_is_no_data() -> None:
    assert binary().data is None


@given(attributes(), json_types | other_types)
def test_attributes_come_in_by_headers(event: dict[str, Any], media_type: str) -> None:
    event.pop("datacontenttype", None)
    headers = [(f"ce-{name}", percent_encoded(str(value))) for name, value in event.items()]
    read = attributes_of(binary(*headers, ("content-type", media_type)).attributes)
    if "time" not in event:
        del read["time"]
    assert read == {**{k: str(v) for k, v in event.items()}, "datacontenttype": media_type}


def percent_encoded(text: str) -> str:
    return "".join(
        c if "!" <= c <= "~" and c not in '"%' else "".join(f"%{b:02X}" for b in c.encode())
        for c in text
    ).replace("%2F", "/")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"a%20b", "a b"),
        (b"%E2%82%ac", "€"),
        ("€".encode(), "€"),
        (b'"a b"', "a b"),
        (b'"a \\"b\\" \\\\"', 'a "b" \\'),
        (b'"%22"', '"'),
        (b'"', '"'),
        (b"100%", "100%"),
    ],
)
def test_header_value_is_decoded(header: bytes, value: str) -> None:
    assert attributes_of(binary(("ce-subject", header)).attributes)["subject"] == value


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ([("ce-subject", b"\xe9")], "subject"),
        ([("ce-subject", b"%e9")], "subject"),
        ([("ce-subject", "a"), ("ce-subject", "b")], "subject"),
        ([("ce-datacontenttype", "text/plain")], "datacontenttype"),
        ([("content-type", b"text/\xe9")], "datacontenttype"),
        ([("ce-time", "soon")], "time"),
        ([("ce-id", "")], "id"),
        ([("ce-data", "x")], "data"),
        ([("ce-", "x")], ""),
    ],
)
def test_wrong_header_is_told_by_its_attribute(
    headers: list[tuple[str, str | bytes]], field: str
) -> None:
    assert faults_of(lambda: binary(*headers)) == [field]


def test_blank_content_type_is_as_if_it_were_absent() -> None:
    assert "datacontenttype" not in attributes_of(binary(("content-type", " ")).attributes)


# -- times ---------------------------------------------------------------------------------------

NO_TIMES = [
    *("2026-02-30T12:00:00Z", "2026-02-29T12:00:00Z", "2026-04-31T12:00:00Z"),
    *("0000-01-01T00:00:00Z", "2026-01-31T12:00:60Z", "soon", "1", 5),
]


@pytest.mark.parametrize("name", ["time", "deliverat", "expirytime"])
@pytest.mark.parametrize("value", NO_TIMES)
def test_time_that_the_calendar_does_not_have_is_refused(name: str, value: Json) -> None:
    assert structured_faults(**{name: value}) == [name]
    assert structured_faults(**{name: value, "anything": None}) == [name]
    assert faults_of(lambda: binary((f"ce-{name}", str(value)))) == [name]


@given(st.datetimes(timezones=st.just(UTC)), st.sampled_from(["time", "deliverat", "expirytime"]))
@example(datetime(2024, 2, 29, tzinfo=UTC), "time")
@example(datetime(2026, 12, 31, tzinfo=UTC), "time")
def test_time_that_the_calendar_has_is_taken(at: datetime, name: str) -> None:
    text = at.isoformat()
    body = json.dumps({**MINIMAL, name: text}).encode()
    for each in (body, only_for_the_careful(body)):
        assert attributes_of(read_structured(each, None).attributes)[name] == text


def test_delayed_message_without_an_id_of_its_own_can_be_told_from_another() -> None:
    delayed = binary(("ce-deliverat", "2026-01-31T12:00:00Z"), body=b"1")
    other = binary(("ce-deliverat", "2026-01-31T12:00:00Z"), body=b"2")
    assert delayed.deliver_at == NOW - 0.5
    assert delayed.fingerprint not in {None, other.fingerprint}
    assert binary(body=b"1").fingerprint is None


# -- content types -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "mode"),
    [
        ("application/cloudevents+json", "structured"),
        ("Application/CloudEvents+JSON; charset=utf-8", "structured"),
        ("application/cloudevents-batch+json ;x=y", "batch"),
        ("application/json", "binary"),
        ("", "binary"),
        ("text/plain; a=application/cloudevents+json", "binary"),
    ],
)
def test_content_type_says_how_the_event_comes(content_type: str, mode: str) -> None:
    assert mode_of(content_type) == mode


@pytest.mark.parametrize(
    "content_type",
    ["application/cloudevents+avro", "application/cloudevents-batch", "application/cloudevents"],
)
def test_event_format_that_is_not_read_is_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedContent):
        mode_of(content_type)
