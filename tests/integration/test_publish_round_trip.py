"""Whatever is published comes out the same, by browsing and by webhook."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.api import Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import Json, event, from_headers, same_data, to_headers
from support.endpoint import Endpoint, Received
from support.eventually import eventually
from support.signature import new_secret, verify

SECRET = new_secret()
NAMES_WITH_MEANING = {
    *("id", "source", "type", "specversion", "time", "subject", "sequence", "data"),
    *("datacontenttype", "dataschema", "partitionkey", "deliverat", "expirytime"),
    *("traceparent", "tracestate"),
}

# CloudEvents forbids control characters, surrogates and non-characters in strings.
text = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), min_size=1, max_size=30)
names = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True).filter(
    lambda name: name not in NAMES_WITH_MEANING
)
attributes = st.builds(
    lambda named, extensions: {**named, **extensions},
    st.fixed_dictionaries({}, optional={"subject": text, "partitionkey": text, "type": text}),
    st.dictionaries(names, text, max_size=4),
)
content_types = st.sampled_from(
    ["application/json", "text/plain", "application/octet-stream", "a/b+json", "image/png"]
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


class Harbour:
    """A topic whose messages are all sent to one endpoint, in all three formats."""

    FORMATS = ("binary", "structured", "batch")

    def __init__(self, api: Api, topic: str, endpoint: Endpoint) -> None:
        self.api = api
        self.topic = topic
        self.endpoint = endpoint
        for name in self.FORMATS:
            api.ok_subscribe(topic, endpoint.url, name, format=name, secret=SECRET)

    def arrivals(self, sequence: int) -> dict[str, Received]:
        """Wait until a message has come in every format."""

        def look() -> dict[str, Received] | None:
            found = {
                request.headers["webhook-subscription"].rpartition("/")[2]: request
                for request in self.endpoint.requests
                if sequence in request.sequences
            }
            return found if len(found) == len(self.FORMATS) else None

        return eventually(look)


@pytest.fixture(scope="module")
def harbour(broker: BrokerProcess) -> Iterator[Harbour]:
    """One topic and its endpoint for all examples."""
    with Endpoint() as endpoint:
        yield Harbour(broker.api, "round-trip", endpoint)
        broker.api.delete_topic("round-trip", force=True)


def without_time(structured: Json) -> Json:
    """Leave out what the broker adds to an event, and its data."""
    added = ("time", "sequence", "data", "data_base64")
    return {name: value for name, value in structured.items() if name not in added}


@settings(max_examples=60)
@given(given_attributes=attributes, content_type=content_types, body=st.binary(max_size=200))
def test_binary_event_arrives_as_published(
    harbour: Harbour, given_attributes: dict[str, str], content_type: str, body: bytes
) -> None:
    headers = {"content-type": content_type, **to_headers(given_attributes)}
    published = good(harbour.api.post(harbour.topic, body, headers))
    wanted = {
        "specversion": "1.0",
        "source": f"/topics/{harbour.topic}",
        "type": harbour.topic,
        "id": published["id"],
        **given_attributes,
    }

    browsed = good(harbour.api.get_message(harbour.topic, published["sequence"]))
    arrivals = harbour.arrivals(published["sequence"])

    assert without_time(browsed) == {**wanted, "datacontenttype": content_type}
    assert same_data(browsed, body)
    binary = arrivals["binary"]
    assert binary.body == body
    assert binary.headers["content-type"] == content_type
    assert without_time(from_headers(binary.headers)) == wanted
    for name in ("structured", "batch"):
        (inside,) = [
            each for each in arrivals[name].events if int(each["sequence"]) == browsed["sequence"]
        ]
        assert without_time(inside) == without_time(browsed)
        assert inside["time"] == browsed["time"]
        assert same_data(inside, body)
    for request in arrivals.values():
        verify(request, SECRET)


@settings(max_examples=40)
@given(given_attributes=attributes, data=json_values)
def test_structured_event_arrives_as_published(
    harbour: Harbour, given_attributes: dict[str, str], data: Any
) -> None:
    unique = good(harbour.api.get_topic(harbour.topic))["message_count"]
    wanted = event(
        datacontenttype="application/json",
        time="1985-04-12T23:20:50.52Z",
        **{**given_attributes, "id": f"structured-{unique}", "data": data},
    )
    published = good(harbour.api.publish_event(harbour.topic, wanted))

    browsed = good(harbour.api.get_message(harbour.topic, published["sequence"]))
    arrivals = harbour.arrivals(published["sequence"])

    assert without_time(browsed) == without_time(wanted)
    assert browsed["time"] == wanted["time"]
    assert browsed.get("data") == data
    assert json.loads(arrivals["binary"].body or b"null") == data
    assert from_headers(arrivals["binary"].headers)["time"] == wanted["time"]
    assert arrivals["structured"].events[0].get("data") == data


@settings(max_examples=20)
@given(body=st.binary(min_size=1, max_size=200))
def test_base64_data_arrives_as_its_bytes(harbour: Harbour, body: bytes) -> None:
    unique = good(harbour.api.get_topic(harbour.topic))["message_count"]
    encoded = base64.b64encode(body).decode()
    wanted = event(id=f"base64-{unique}", datacontenttype="image/png", data_base64=encoded)
    published = good(harbour.api.publish_event(harbour.topic, wanted))

    arrivals = harbour.arrivals(published["sequence"])

    assert arrivals["binary"].body == body
    assert arrivals["binary"].headers["content-type"] == "image/png"
    assert same_data(arrivals["structured"].events[0], body)
