"""Strategies for CloudEvents, as publishers write them and as nobody should."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from broker.cloudevents import attributes_of
from broker.model import NewMessage

Json = Any

characters = st.characters(
    exclude_categories=("Cs", "Cc"),
    exclude_characters="".join(map(chr, (*range(0xFDD0, 0xFDF0), 0xFFFE, 0xFFFF))),
)
texts = st.text(characters, min_size=1, max_size=20)
plain_texts = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=9)
uris = st.sampled_from(["/orders", "urn:x:1", "https://a.example/ü?x=%20#f", "a", "//b"])
times = st.sampled_from(
    [
        "2026-01-31T12:00:00Z",
        "1985-04-12t23:20:50.52z",
        "1990-12-31T23:59:60Z",
        "1996-12-19T16:39:57.123456789-08:00",
        "9999-12-31T23:59:59.999999999-23:59",
    ]
)
json_types = st.sampled_from(["application/json", "text/json; a=b", "a/b+JSON"])
other_types = st.sampled_from(["text/plain", "image/png", "application/jsonx", "text/x;y=json"])

required = {"specversion": st.just("1.0"), "id": texts, "source": uris, "type": texts}
known = {
    "subject": texts,
    "time": times,
    "datacontenttype": json_types | other_types,
    "dataschema": uris,
    "partitionkey": texts,
    "deliverat": times,
    "expirytime": times,
    "traceparent": texts,
    "tracestate": texts,
}
extension_names = st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True).filter(
    lambda name: name not in {*required, *known, "data", "sequence"}
)
integers = st.integers(-(2**31), 2**31 - 1)
scalars = st.text(characters, max_size=9) | plain_texts | integers | st.booleans()

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def attributes(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the attributes of a valid event; about half have known ones only."""
    drawn: dict[str, Any] = draw(st.fixed_dictionaries(required, optional=known))
    if draw(st.booleans()):
        drawn |= draw(st.dictionaries(extension_names, scalars, max_size=3))
    return drawn


@st.composite
def events(draw: st.DrawFn) -> dict[str, Json]:
    """Draw a valid structured event, its members in any order."""
    event = draw(attributes())
    kind = draw(st.sampled_from(["none", "data", "data_base64"]))
    if kind == "data":
        event["data"] = draw(json_values)
    elif kind == "data_base64":
        event["data_base64"] = draw(st.sampled_from(["", "AA==", "aGVsbG8=", "/+8="]))
    return dict(draw(st.permutations(list(event.items()))))


@st.composite
def spoiled_events(draw: st.DrawFn) -> dict[str, Json]:
    """Draw an event of which some members are missing, strange or of the wrong type."""
    event = draw(events())
    for name in draw(st.lists(st.sampled_from(sorted(event)), unique=True, max_size=3)):
        del event[name]
    names = st.sampled_from([*required, *known, "data", "data_base64", "DATA", "é"]) | texts
    return {**event, **draw(st.dictionaries(names, json_values | texts | times, max_size=3))}


@st.composite
def written(draw: st.DrawFn, values: st.SearchStrategy[Json]) -> bytes:
    """Draw a JSON value's text, with or without blanks and escapes."""
    value = draw(values)
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]))
    return json.dumps(value, ensure_ascii=draw(st.booleans()), separators=separators).encode()


def told(message: NewMessage) -> tuple[object, ...]:
    """Give everything of a message in a form that does not depend on the order of attributes."""
    return (
        message.id,
        message.source,
        message.key,
        attributes_of(message.attributes),
        message.data,
        message.fingerprint,
        message.deliver_at,
    )
