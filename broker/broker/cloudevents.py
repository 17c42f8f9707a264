"""CloudEvents 1.0: events read from HTTP requests, and rendered for endpoints and readers.

Sources: CloudEvents 1.0.2, its JSON event format and its HTTP protocol binding.

Structured events have two readers. The typed one accepts what nearly every publisher sends and
costs next to nothing; whatever it does not accept goes to the careful one, which alone decides what
is wrong and names every fault. The careful one therefore also accepts all that the typed one does.
"""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from math import floor
from typing import Annotated, Literal, NoReturn, TypeAlias
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from broker.errors import Fault, InvalidRequest, MalformedRequest, UnsupportedContent
from broker.model import Message, NewMessage
from broker.new_batch import NewBatch

Attributes: TypeAlias = dict[str, str | int | bool]
HeaderList: TypeAlias = Sequence[tuple[bytes, bytes]]

EXPIRYTIME = b'"expirytime"'
"""Is in the stored attributes of every event that expires."""
_DELIVERAT = b'"deliverat"'

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MAX_BATCH_EVENTS = 1000
MAX_ATTRIBUTES = 100
_MAX_PLAIN_EVENTS = 1000
_MAX_PLAIN_TEXT = 128  # the longest name of a topic; nobody has looked at it yet

URI_CHARACTERS = r"\s<>\"{}|\\^`"  # are not in one
URIS = frozenset(("source", "dataschema"))
URI_REFERENCE = rf"\A[^{URI_CHARACTERS}]+\Z"
_TIMESTAMP = (
    r"\A[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])\Z"
)
# What nearly every time is: the calendar has it in whatever year. The careful reader judges others.
_PLAIN_TIME = (
    r"\A(?!0000)[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r"[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])\Z"
)
_is_uri_reference = re.compile(URI_REFERENCE).search
_is_timestamp = re.compile(_TIMESTAMP).search
_is_plain_time = re.compile(_PLAIN_TIME).search
_Text = Annotated[str, Meta(min_length=1)]
_Uri = Annotated[str, Meta(pattern=URI_REFERENCE)]
_Timestamp = Annotated[str, Meta(pattern=_PLAIN_TIME)]

_MAX_NAME = 64
ATTRIBUTE_NAME = f"[a-z0-9]{{1,{_MAX_NAME}}}"
_attribute_name = re.compile(ATTRIBUTE_NAME)
_NAME_RULE = "attribute names are 1 to 64 lower-case letters and digits, and never data"
# CloudEvents 1.0.2, section "Type System", String; lone surrogates besides
FORBIDDEN_CHARACTERS = r"\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff"
_FORBIDDEN_TEXT = re.compile(rf"[{FORBIDDEN_CHARACTERS}\ud800-\udfff]")
_NEEDS_ENCODING = re.compile(r"[^\x21\x23\x24\x26-\x7e]")
_HEADER_SAFE = bytes(c for c in range(0x21, 0x7F) if c not in b'"%')
_JSON_TYPE = re.compile(r"\A\s*[^\s/;]+/(?:json|[^\s/;]+\+json)\s*(?:;|\Z)", re.IGNORECASE)

_encode = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_pack = msgspec.msgpack.Encoder().encode
_decode_raw = msgspec.json.Decoder(Raw).decode


class Event(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    specversion: Literal["1.0"]
    id: _Text
    source: str  # looked at once for all events of a batch
    type: _Text
    subject: _Text | None = None
    time: _Timestamp | None = None
    datacontenttype: _Text | None = None
    dataschema: _Uri | None = None
    partitionkey: _Text | None = None
    deliverat: _Timestamp | None = None
    expirytime: _Timestamp | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    data: Raw | UnsetType = UNSET


_decode_event = msgspec.json.Decoder(Event).decode
_decode_batch = msgspec.json.Decoder(list[Event]).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_objects = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_decode_attributes = msgspec.json.Decoder(Attributes).decode


# -- reading ---------------------------------------------------------------------------------------


def read_binary(
    topic: str,
    headers: HeaderList,
    body: bytes,
    idempotency_key: str | None,
    new_id: Callable[[], str],
    now: float,
) -> NewMessage:
    """Read an event in binary mode; what the headers leave out is filled in.

    `new_id` makes printable ASCII without quotes and backslashes.
    """
    content_type = _content_type_alone(headers)
    if content_type is not None and idempotency_key is None and len(topic) <= _MAX_PLAIN_TEXT:
        source, before_id, before_time = _plain_event(topic, content_type)
        id_ = new_id()
        rendered = f'{before_id}{id_}{before_time}{rfc3339(now)}"}}'.encode()
        return NewMessage(id_, source, None, rendered, body or None, None)
    attributes, faults = _attributes_in_headers(headers)
    if idempotency_key is not None:
        attributes.setdefault("id", idempotency_key)
    faults += _faults_of(attributes)
    if faults:
        raise InvalidRequest(faults)
    return _filled(topic, attributes, body or None, new_id, now)


def read_parts(
    topic: str,
    attributes: Attributes,
    data: bytes | None,
    new_id: Callable[[], str],
    now: float,
) -> NewMessage:
    """Take an event that is in parts already; what the attributes leave out is filled in."""
    if faults := _faults_of(attributes):
        raise InvalidRequest(faults)
    return _filled(topic, dict(attributes), data, new_id, now)


def _filled(
    topic: str,
    attributes: Attributes,
    data: bytes | None,
    new_id: Callable[[], str],
    now: float,
) -> NewMessage:
    chosen = "id" in attributes
    if not chosen:
        attributes["id"] = new_id()
    attributes.setdefault("specversion", "1.0")
    attributes.setdefault("source", f"/topics/{topic}")
    attributes.setdefault("type", topic)
    if "time" not in attributes:
        attributes["time"] = rfc3339(now)
    return _message(attributes, data, chosen)


def read_structured(body: bytes, idempotency_key: str | None) -> NewMessage:
    """Read one event in structured mode."""
    _require_utf8(body)
    try:
        return _message_of(_decode_event(body))
    except msgspec.ValidationError:
        pass
    except (msgspec.DecodeError, RecursionError) as error:
        _malformed(error)
    try:
        members = _decode_object(body)
    except msgspec.ValidationError:
        raise MalformedRequest("A structured event is a JSON object.") from None
    except (msgspec.DecodeError, RecursionError) as error:
        _malformed(error)
    faults: list[Fault] = []
    message = _careful_message(members, idempotency_key, "", faults)
    if message is None:
        raise InvalidRequest(faults)
    return message


def read_batch(body: bytes) -> Sequence[NewMessage]:
    """Read a batch of events: a JSON array of 1 to 1,000 structured ones."""
    _require_utf8(body)
    try:
        events = _decode_batch(body)
    except msgspec.ValidationError:
        return _careful_batch(body)
    except (msgspec.DecodeError, RecursionError) as error:
        _malformed(error)
    _require_batch_size(len(events))
    try:
        return _messages_of(events)
    except msgspec.ValidationError:
        return _careful_batch(body)


@lru_cache(64)
def mode_of(content_type: str) -> Literal["batch", "structured", "binary"]:
    """Say how a request with this Content-Type carries its event."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == BATCH:
        return "batch"
    if media_type == STRUCTURED:
        return "structured"
    if media_type.startswith("application/cloudevents"):
        raise UnsupportedContent(
            f"Events in the format {media_type} are not read here: send application/"
            "cloudevents+json, application/cloudevents-batch+json, or the data itself."
        )
    return "binary"


def _message_of(event: Event) -> NewMessage:
    if not _is_uri_reference(event.source):
        raise msgspec.ValidationError("a source that only the careful reader judges")
    content = _content_of(event)
    event.data = UNSET
    _checked_time(event.expirytime)
    return NewMessage(
        event.id,
        event.source,
        event.partitionkey,
        _plain(_encode(event)),
        content,
        _fingerprint_of(event, content),
        _checked_time(event.deliverat),
    )


def _messages_of(events: Sequence[Event]) -> Sequence[NewMessage]:
    sources = {event.source for event in events}
    if not all(map(_is_uri_reference, sources)):
        raise msgspec.ValidationError("a source that only the careful reader judges")
    contents = _contents_of(events)
    for event in events:
        event.data = UNSET
    rendered = _plain(_encode_lines(events))
    if EXPIRYTIME in rendered:
        for event in events:
            _checked_time(event.expirytime)
    ids = [event.id for event in events]
    keys = [event.partitionkey for event in events]
    attributes = rendered.splitlines()
    fingerprints = list(map(_fingerprint_of, events, contents))
    if len(sources) == 1 and _DELIVERAT not in rendered:
        return NewBatch(events[0].source, ids, keys, attributes, contents, fingerprints)
    return list(
        map(
            NewMessage,
            ids,
            [event.source for event in events],
            keys,
            attributes,
            contents,
            fingerprints,
            [_checked_time(event.deliverat) for event in events],
        )
    )


def _plain(rendered: bytes) -> bytes:
    if not rendered.isascii() or b"\\" in rendered or b"\x7f" in rendered:
        raise msgspec.ValidationError("text that only the careful reader judges")
    return rendered


def _fingerprint_of(event: Event, content: bytes | None) -> bytes:
    return _fingerprint(
        event.type,
        event.subject,
        event.partitionkey,
        event.deliverat,
        event.datacontenttype,
        content,
    )


def _contents_of(events: Sequence[Event]) -> list[bytes | None]:
    if all(map(is_json, {event.datacontenttype for event in events})):
        return [None if event.data is UNSET else bytes(event.data) for event in events]
    return [_content_of(event) for event in events]


def _content_of(event: Event) -> bytes | None:
    if event.data is UNSET:
        return None
    return bytes(event.data) if is_json(event.datacontenttype) else _content(event.data)


def _checked_time(text: str | None) -> float | None:
    if text is None:
        return None
    at = parse_time(text)
    if at is None:
        raise msgspec.ValidationError("a time that only the careful reader judges")
    return at


def _careful_batch(body: bytes) -> list[NewMessage]:
    try:
        events = _decode_objects(body)
    except msgspec.ValidationError:
        raise MalformedRequest("A batch is a JSON array of events, each a JSON object.") from None
    except (msgspec.DecodeError, RecursionError) as error:
        _malformed(error)
    _require_batch_size(len(events))
    faults: list[Fault] = []
    messages = [
        _careful_message(members, None, f"[{position}].", faults)
        for position, members in enumerate(events)
    ]
    if faults:
        raise InvalidRequest(faults)
    return [message for message in messages if message is not None]


def _careful_message(
    members: dict[str, Raw], idempotency_key: str | None, prefix: str, faults: list[Fault]
) -> NewMessage | None:
    """Read one event; append what is wrong with it to `faults` and then return None."""
    data, data_base64 = members.pop("data", None), members.pop("data_base64", None)
    found: list[Fault] = []
    attributes = _attributes_in_members(members, found)
    if idempotency_key is not None:
        attributes.setdefault("id", idempotency_key)
    found += [
        Fault(name, "is required by CloudEvents 1.0")
        for name in _REQUIRED
        if name not in attributes
    ]
    found += _faults_of(attributes)
    content: bytes | None = None
    if data is not None and data_base64 is not None:
        found.append(Fault("data_base64", "give either data or data_base64, not both"))
    elif data_base64 is not None:
        content = _content_in_base64(data_base64, found)
    elif data is not None:
        media_type = attributes.get("datacontenttype")
        content = bytes(data) if is_json(media_type) else _content(data)
    if found:
        faults += [Fault(prefix + fault.field, fault.message) for fault in found]
        return None
    return _message(attributes, content, chosen=True)


def _message(attributes: Attributes, data: bytes | None, chosen: bool) -> NewMessage:
    when, key = _text("deliverat", attributes), _text("partitionkey", attributes)
    deliver_at = None if when is None else parse_time(when)
    fingerprint = (
        _fingerprint(
            str(attributes["type"]),
            _text("subject", attributes),
            key,
            when,
            _text("datacontenttype", attributes),
            data,
        )
        if chosen or deliver_at is not None
        else None
    )
    return NewMessage(
        str(attributes["id"]),
        str(attributes["source"]),
        key,
        _encode(attributes),
        data,
        fingerprint,
        deliver_at,
    )


def _text(name: str, attributes: Attributes) -> str | None:
    value = attributes.get(name)
    return None if value is None else str(value)


def _fingerprint(
    type_: str,
    subject: str | None,
    key: str | None,
    deliver_at: str | None,
    content_type: str | None,
    data: bytes | None,
) -> bytes:
    """Digest what makes two events with one identity different."""
    return sha256(_pack((type_, subject, key, deliver_at, content_type, data))).digest()


def _content_type_alone(headers: HeaderList) -> bytes | None:
    """Return the Content-Type of an event of which the headers say nothing else, as most do."""
    content_type = b""
    for name, value in headers:
        if name[:3] == b"ce-":
            return None
        if name == b"content-type":
            content_type = value
    return content_type if len(content_type) <= _MAX_PLAIN_TEXT else None


@lru_cache(_MAX_PLAIN_EVENTS)
def _plain_event(topic: str, content_type: bytes) -> tuple[str, str, str]:
    """Render what such events have in common: their source, and the JSON before id and time."""
    attributes, faults = _attributes_in_headers([(b"content-type", content_type)])
    faults += _faults_of(attributes)
    if faults:
        raise InvalidRequest(faults)
    message = _filled(topic, attributes, None, lambda: "", 0.0)
    common = message.attributes.decode().removesuffix(f'{rfc3339(0.0)}"}}')
    before_id, before_time = common.split('"id":""')
    return message.source, f'{before_id}"id":"', f'"{before_time}'


def _attributes_in_headers(headers: HeaderList) -> tuple[Attributes, list[Fault]]:
    attributes: Attributes = {}
    faults: list[Fault] = []
    for name, value in headers:
        if name == b"content-type":
            attributes["datacontenttype"] = value.decode("latin-1").strip()
        elif name[:3] == b"ce-":
            attribute = name[3:].decode("latin-1")
            if attribute in attributes:
                faults.append(Fault(attribute, "is given twice"))
            elif attribute == "datacontenttype":
                faults.append(Fault(attribute, "in binary mode it is the Content-Type header"))
            else:
                _add_header_value(attribute, value, attributes, faults)
    if attributes.get("datacontenttype") == "":
        del attributes["datacontenttype"]
    return attributes, faults


def _add_header_value(
    attribute: str, value: bytes, attributes: Attributes, faults: list[Fault]
) -> None:
    try:
        attributes[attribute] = decode_header_value(value)
    except UnicodeDecodeError:
        faults.append(Fault(attribute, "percent-encode it as UTF-8"))


def decode_header_value(value: bytes) -> str:
    """Undo the HTTP binding's quoting and percent-encoding; UnicodeDecodeError if not UTF-8."""
    if len(value) > 1 and value[:1] == b'"' == value[-1:]:
        value = re.sub(rb"\\(.)", rb"\1", value[1:-1])
    return (unquote_to_bytes(value) if b"%" in value else value).decode()


def encode_header_value(value: str | int | bool) -> str:
    """Render an attribute as the HTTP binding wants it in a header."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or not _NEEDS_ENCODING.search(value):
        return str(value)
    return quote_from_bytes(value.encode(), safe=_HEADER_SAFE)


def _attributes_in_members(members: dict[str, Raw], faults: list[Fault]) -> Attributes:
    attributes: Attributes = {}
    for name, raw in members.items():
        value = _scalar(raw)
        if value is None:
            if not _may_be_named(name):
                faults.append(Fault(name, _NAME_RULE))
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, (str, bool)) or (isinstance(value, int) and -(2**31) <= value < 2**31):
            attributes[name] = value
        else:
            faults.append(Fault(name, "must be a string, a boolean or a 32-bit integer"))
            attributes[name] = ""
    return attributes


def _scalar(raw: Raw) -> object:
    """Decode a value; what is too large or too deep to be one is as wrong as any object."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return ...


def _content_in_base64(raw: Raw, faults: list[Fault]) -> bytes | None:
    value = _scalar(raw)
    try:
        if isinstance(value, str):
            return b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    faults.append(Fault("data_base64", "must be a string in base64"))
    return None


def _content(data: Raw) -> bytes:
    """Return what `data` stands for where datacontenttype is not JSON: a string is its own text."""
    value = bytes(data)
    if value[:1] != b'"':
        return value
    text: str = msgspec.json.decode(value)
    return text.encode()


_REQUIRED = ("specversion", "id", "source", "type")
_TIMES = {"time", "deliverat", "expirytime"}
_TEXTS = {*_REQUIRED, *URIS, *_TIMES, "subject", "datacontenttype", "partitionkey"}
_STRINGS = {*_TEXTS, "traceparent", "tracestate"}


def _faults_of(attributes: Mapping[str, str | int | bool]) -> list[Fault]:
    faults = []
    for name, value in attributes.items():
        if (fault := _fault_of(name, value)) is not None:
            faults.append(Fault(name, fault))
    if len(attributes) > MAX_ATTRIBUTES:
        faults.append(Fault("attributes", f"there may be at most {MAX_ATTRIBUTES}"))
    return faults


def _may_be_named(name: str) -> bool:
    return len(name) <= _MAX_NAME and _is_name(name)


@lru_cache(256)
def _is_name(name: str) -> bool:
    return name != "data" and _attribute_name.fullmatch(name) is not None


def _fault_of(name: str, value: str | int | bool) -> str | None:
    if name not in _TEXTS and not _may_be_named(name):
        return _NAME_RULE
    if not isinstance(value, str):
        return "must be a string" if name in _STRINGS else None
    if name == "specversion" and value != "1.0":
        return 'must be "1.0"'
    if name in _TEXTS and not value:
        return "must not be empty"
    # Printable ASCII is what nearly all text is, and told for a tenth of what a search costs.
    if not (value.isascii() and value.isprintable()) and _FORBIDDEN_TEXT.search(value):
        return "must hold no control characters"
    if name in URIS and not _is_uri_reference(value):
        return "must be a URI reference (RFC 3986)"
    if name == "datacontenttype" and not value.isascii():
        return "must be a media type, which is ASCII"
    if name in _TIMES and not _is_plain_time(value):
        if not _is_timestamp(value):
            return "must be a time as in RFC 3339, for example 2026-01-31T12:00:00Z"
        if parse_time(value) is None:
            return "must be a time that the calendar has"
    return None


def _require_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"JSON is UTF-8; byte {error.start} of the body is not.") from None


def _require_batch_size(count: int) -> None:
    if not 1 <= count <= MAX_BATCH_EVENTS:
        rule = f"a batch holds 1 to {MAX_BATCH_EVENTS} events; this one has {count}"
        raise InvalidRequest([Fault("events", rule)])


def _malformed(error: msgspec.DecodeError | RecursionError) -> NoReturn:
    if isinstance(error, RecursionError):
        raise MalformedRequest("The body is JSON nested too deeply to be read.") from None
    raise MalformedRequest(f"The body is not JSON: {error}.") from None


# -- rendering -------------------------------------------------------------------------------------


def expires_at(attributes: bytes) -> float | None:
    """Return the Unix time of `expirytime` in stored attributes, None where there is none."""
    if EXPIRYTIME not in attributes:
        return None
    value = _decode_attributes(attributes).get("expirytime")
    return parse_time(value) if isinstance(value, str) else None


def is_json(datacontenttype: str | int | bool | None) -> bool:
    """Say whether data of this media type is a JSON value; without one it is."""
    return datacontenttype is None or _JSON_TYPE.search(str(datacontenttype)) is not None


def attributes_of(attributes: bytes) -> Attributes:
    """Decode stored attributes."""
    return _decode_attributes(attributes)


def binary_headers(attributes: bytes, data: bytes | None, sequence: int) -> list[str]:
    """Render the header lines of a binary-mode request, Content-Type first.

    Data without a datacontenttype is JSON if it can be read as such, as in the JSON event format.
    """
    decoded = _decode_attributes(attributes)
    content_type = str(decoded.pop("datacontenttype", "")).strip()
    if not content_type:
        plain = data is not None and not _is_json_text(data)
        content_type = "application/octet-stream" if plain else "application/json"
    decoded.pop("sequence", None)
    lines = [f"content-type: {content_type}"]
    if _may_stand_as_they_are(decoded.values()):
        lines += [f"ce-{name}: {value}" for name, value in decoded.items()]
    else:
        lines += [f"ce-{name}: {encode_header_value(value)}" for name, value in decoded.items()]
    lines.append(f"ce-sequence: {sequence}")
    return lines


def _may_stand_as_they_are(values: Collection[str | int | bool]) -> bool:
    """Say whether these are header values already. Nearly all are: one search tells it of all."""
    try:
        together = "".join(values)  # type: ignore[arg-type]
    except TypeError:
        return False
    return not _NEEDS_ENCODING.search(together)


def structured(attributes: bytes, data: bytes | None, sequence: int | None) -> bytes:
    """Render one event as JSON, its place in the log as the attribute `sequence`.

    For a message that is not in the log yet that is null.
    """
    if b'"sequence":' in attributes:
        decoded = _decode_attributes(attributes)
        decoded.pop("sequence", None)
        attributes = _encode(decoded)
    place = b"null" if sequence is None else b"%d" % sequence
    head = b'%s,"sequence":%s' % (attributes[:-1], place)
    if data is None:
        return head + b"}"
    return b"%s,%s}" % (head, _data_member(attributes, data))


def structured_batch(messages: Sequence[Message]) -> bytes:
    """Render messages of the log as a JSON array, each as `structured` does."""
    events: list[bytes] = []
    if _are_plain(b"".join([message.attributes for message in messages])):
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            for message in messages:
                attributes, data = message.attributes[:-1], message.data
                if data is None:
                    events.append(b'%s,"sequence":%d}' % (attributes, message.seq))
                    continue
                _decode_raw(data)  # raises for what is no JSON
                events.append(b'%s,"sequence":%d,"data":%s}' % (attributes, message.seq, data))
            rendered = b"[%s]" % b",".join(events)
            rendered.decode()
            return rendered
    events = [structured(each.attributes, each.data, each.seq) for each in messages]
    return b"[%s]" % b",".join(events)


def _are_plain(attributes: bytes) -> bool:
    """Say of events' attributes that they have no `sequence`, and that all of the data is JSON."""
    return b'"sequence":' not in attributes and (
        attributes.count(b'"datacontenttype":')
        == attributes.count(b'"datacontenttype":"application/json"')
    )


def _data_member(attributes: bytes, data: bytes) -> bytes:
    content_type = (
        _decode_attributes(attributes).get("datacontenttype")
        if b'"datacontenttype":' in attributes
        else None
    )
    if is_json(content_type):
        if _is_json_text(data):
            return b'"data":' + data
    else:
        try:
            return b'"data":' + _encode(data.decode())
        except UnicodeDecodeError:
            pass
    return b'"data_base64":"' + b64encode(data) + b'"'


def _is_json_text(data: bytes) -> bool:
    try:
        _decode_raw(data)
        data.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def rfc3339(at: float) -> str:
    """Render Unix seconds as an RFC 3339 time in UTC, to the microsecond."""
    second = floor(at)
    microsecond = round((at - second) * 1e6)
    if microsecond == 1_000_000:
        second, microsecond = second + 1, 0
    return f"{_to_the_second(second)}.{microsecond:06}Z"


@lru_cache(64)
def _to_the_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]


def parse_time(text: str) -> float | None:
    """Return the Unix seconds of an RFC 3339 time, or None if it is not one.

    A leap second is the second after :59, as Unix time has it; it ends a day in UTC (RFC 3339,
    section 5.7).
    """
    if not _is_timestamp(text):
        return None
    leap = text[17:19] == "60"
    written = f"{text[:17]}59{text[19:]}" if leap else text
    try:
        at = datetime.fromisoformat(written.upper().replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
    if leap and at % 86400 < 86399:
        return None
    return at + leap
