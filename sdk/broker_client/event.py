"""The event: what an application publishes, and what its handlers are given."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from broker_client.errors import MalformedEvent
from broker_client.formats import dump_json, join_document, read_batch, read_event, split_document
from broker_client.uuid7 import uuid7

_NAME = re.compile(r"[a-z0-9]+")
_URI_REFERENCE = re.compile(r"[^\s<>\"{}|\\^`]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_LEAP_SECOND = re.compile(r"(?<=[Tt]\d\d:\d\d:)60")  # datetime has none: it is the next :00
_INTEGERS = range(-(2**31), 2**31)
_REQUIRED = ("id", "source", "type")
_OPTIONAL = ("subject", "datacontenttype", "dataschema", "partitionkey")
_OWN = frozenset({"specversion", "time", "data", *_REQUIRED, *_OPTIONAL})


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A CloudEvents 1.0 event.

    `type` says what happened ("order.created"), `source` who says so ("/order-service"); `source`
    and `id` together are the event's identity, by which repeats are recognised. Events of one
    `partitionkey` are delivered in order.

    `data` is any JSON value, or bytes; text with a `datacontenttype` of `text/…` is a str. `time`
    is aware. `extensions` holds further attributes; their names are lower-case letters and digits.

    Raises MalformedEvent (a ValueError) for attributes CloudEvents does not allow.
    """

    type: str
    source: str
    data: Any = None
    id: str = field(default_factory=uuid7)
    subject: str | None = None
    time: datetime | None = field(default_factory=_now)
    datacontenttype: str | None = None
    dataschema: str | None = None
    partitionkey: str | None = None
    extensions: Mapping[str, str | int | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _REQUIRED:
            _check_text(name, getattr(self, name))
        for name in _OPTIONAL:
            if getattr(self, name) is not None:
                _check_text(name, getattr(self, name))
        for name in ("source", "dataschema"):
            _check_uri(name, getattr(self, name))
        if self.time is not None and self.time.tzinfo is None:
            raise MalformedEvent("time needs a time zone")
        for name, value in self.extensions.items():
            _check_extension(name, value)
        if self.datacontenttype is None:
            object.__setattr__(self, "datacontenttype", _content_type(self.data))

    def to_dict(self) -> dict[str, Any]:
        """Return the event in the CloudEvents JSON format; bytes become `data_base64`."""
        time = None if self.time is None else _rfc3339(self.time)
        attributes = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": time,
            "datacontenttype": self.datacontenttype,
            "dataschema": self.dataschema,
            "partitionkey": self.partitionkey,
            **self.extensions,
        }
        return join_document(attributes, self.data)

    def to_json(self) -> str:
        """Write `to_dict()` as text. Raises TypeError or ValueError for data JSON cannot say."""
        return dump_json(self.to_dict())

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read an event in the CloudEvents JSON format. Raises MalformedEvent."""
        return cls.from_parts(*split_document(document))

    @classmethod
    def from_http(cls, headers: Mapping[str, str], body: bytes) -> Self:
        """Read one event from a request in binary or structured mode. Raises MalformedEvent."""
        lowered = {name.lower(): value for name, value in headers.items()}
        return cls.from_parts(*read_event(lowered, body))

    @classmethod
    def batch_from_http(cls, body: bytes) -> list[Self]:
        """Read the events of a request in batch mode. Raises MalformedEvent."""
        return [cls.from_parts(attributes, data) for attributes, data in read_batch(body)]

    @classmethod
    def from_parts(cls, attributes: Mapping[str, Any], data: Any) -> Self:
        """Build an event from its attributes by CloudEvents name, and its data.

        Raises MalformedEvent.
        """
        if attributes.get("specversion") != "1.0":
            raise MalformedEvent("specversion must be 1.0")
        missing = [name for name in _REQUIRED if name not in attributes]
        if missing:
            raise MalformedEvent(f"attributes are missing: {', '.join(missing)}")

        known: dict[str, Any] = {name: attributes.get(name) for name in (*_REQUIRED, *_OPTIONAL)}
        extensions = {name: value for name, value in attributes.items() if name not in _OWN}
        time = _parse_time(attributes.get("time"))
        return cls(data=data, time=time, extensions=extensions, **known)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise MalformedEvent(f"{name} must be a text that is not empty")
    if _CONTROL.search(value):
        raise MalformedEvent(f"{name} must not hold control characters")


def _check_uri(name: str, value: str | None) -> None:
    if value is not None and _URI_REFERENCE.fullmatch(value) is None:
        raise MalformedEvent(f"{name} must be a URI reference, not {value!r}")


def _check_extension(name: str, value: object) -> None:
    if name in _OWN or _NAME.fullmatch(name) is None:
        raise MalformedEvent(f"{name!r} is no extension's name: lower-case letters and digits")
    if isinstance(value, str):
        if _CONTROL.search(value):
            raise MalformedEvent(f"{name} must not hold control characters")
    elif not isinstance(value, int) or value not in _INTEGERS:
        raise MalformedEvent(f"{name} must be a text, a boolean or an integer of 32 bits")


def _content_type(data: Any) -> str | None:
    if data is None:
        return None
    return "application/octet-stream" if isinstance(data, bytes) else "application/json"


def _rfc3339(time: datetime) -> str:
    try:
        return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:  # in UTC it is beyond the years that there are
        return time.isoformat()


def _parse_time(text: object) -> datetime | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise MalformedEvent("time must be a text")
    leap = _LEAP_SECOND.sub("59", text)
    try:
        time = datetime.fromisoformat(leap.upper())
        return time if leap == text else time + timedelta(seconds=1)
    except (ValueError, OverflowError) as error:
        raise MalformedEvent(f"time is not RFC 3339: {text!r}") from error
