"""The webhook request: headers and formats."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime

import pytest

from support.api import SLOW_RETRY, Api, good
from support.cloudevent import BATCH, STRUCTURED, event, from_headers
from support.endpoint import Answer, Endpoint, Received, by_attempt
from support.eventually import eventually
from support.signature import new_secret, verify


def first_request(endpoint: Endpoint) -> Received:
    """Wait for the first request."""
    return eventually(lambda: endpoint.requests)[0]


def test_binary_request_carries_everything(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, "sub")
    sequence = api.ok_publish(
        topic,
        {"a": 1},
        id="m-1",
        source="/shop",
        type="sold",
        subject="Euro € 😀",
        key="clé",
        time="2020-01-02T03:04:05Z",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        myextension="x",
    )

    request = first_request(endpoint)

    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == {"a": 1}
    assert request.headers["ce-subject"] == "Euro%20%E2%82%AC%20%F0%9F%98%80"
    assert from_headers(request.headers) == {
        "specversion": "1.0",
        "id": "m-1",
        "source": "/shop",
        "type": "sold",
        "subject": "Euro € 😀",
        "partitionkey": "clé",
        "time": "2020-01-02T03:04:05Z",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "myextension": "x",
        "sequence": str(sequence),
    }
    assert request.attempt == 1
    assert request.headers["webhook-subscription"] == f"{topic}/sub"
    assert re.fullmatch(r"broker/\d+\.\d+\.\d+\S*", request.headers["user-agent"])
    assert request.headers["host"] == f"127.0.0.1:{endpoint.port}"
    sent_at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
    assert abs((datetime.now(UTC) - sent_at).total_seconds()) < 120


def test_query_and_path_of_the_endpoint_are_kept(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, f"{endpoint.url}/a%20b/c?token=x%26y&z=")
    api.ok_publish(topic, 1)

    assert first_request(endpoint).path == "/hook/a%20b/c?token=x%26y&z="


def test_host_name_is_resolved_and_sent(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, f"http://localhost:{endpoint.port}/hook")
    api.ok_publish(topic, 1)

    assert first_request(endpoint).headers["host"] == f"localhost:{endpoint.port}"


def test_webhook_id_is_one_per_message_and_has_no_dot(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    for number in range(10):
        api.ok_publish(topic, number, id=f"a.b.{number}")
    api.ok_publish(topic, 1, id="x y/é…")

    eventually(lambda: len(endpoint.requests) == 11)

    ids = {request.webhook_id for request in endpoint.requests}
    assert len(ids) == 11
    assert not [each for each in ids if "." in each or not each.isascii()]


def test_webhook_id_tells_topics_and_sources_apart(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    other = f"{topic}-other"
    try:
        api.ok_subscribe(topic, endpoint.url)
        api.ok_subscribe(other, endpoint.url)
        api.ok_publish(topic, 1, id="m", source="/a")
        api.ok_publish(topic, 1, id="m", source="/b")
        api.ok_publish(other, 1, id="m", source="/a")

        eventually(lambda: len(endpoint.requests) == 3)

        assert len({request.webhook_id for request in endpoint.requests}) == 3
    finally:
        api.delete_topic(other, force=True)


def test_attempts_are_numbered_and_keep_their_id(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(Answer(500), Answer(500), Answer(500), Answer(200))
    api.ok_subscribe(topic, endpoint.url)
    api.ok_publish(topic, {"n": 1})

    eventually(lambda: len(endpoint.requests) == 4)

    assert [request.attempt for request in endpoint.requests] == [1, 2, 3, 4]
    assert len({request.webhook_id for request in endpoint.requests}) == 1
    assert len({request.body for request in endpoint.requests}) == 1


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/octet-stream", bytes(range(256))),
        ("application/json", b'{ "b":1.0,\n"a":[ ] }'),
        ("application/json", b"\xffnot json"),
        ("text/plain; charset=iso-8859-1", b"Gr\xfc\xdfe"),
        ("text/plain", b""),
    ],
)
def test_binary_body_is_sent_byte_for_byte(
    api: Api, topic: str, endpoint: Endpoint, content_type: str, body: bytes
) -> None:
    api.ok_subscribe(topic, endpoint.url, secret=new_secret())
    good(api.post(topic, body, {"content-type": content_type}))

    request = first_request(endpoint)

    assert request.body == body
    assert request.headers["content-type"] == content_type
    verify(request, new_secret())


def test_large_body_arrives_whole(api: Api, topic: str, endpoint: Endpoint) -> None:
    body = bytes(range(256)) * 4000
    api.ok_subscribe(topic, endpoint.url, secret=new_secret())
    good(api.post(topic, body, {"content-type": "application/octet-stream"}))

    request = first_request(endpoint)

    assert request.body == body
    verify(request, new_secret())


def test_structured_request_is_one_event(api: Api, topic: str, endpoint: Endpoint) -> None:
    secret = new_secret()
    api.ok_subscribe(topic, endpoint.url, format="structured", secret=secret)
    given = event(id="m-1", subject="é", partitionkey="k", data={"a": [1, None]})
    sequence = good(api.publish_event(topic, given))["sequence"]

    request = first_request(endpoint)

    assert request.headers["content-type"].partition(";")[0] == STRUCTURED
    (inside,) = request.events
    assert inside.items() >= given.items()
    assert int(inside["sequence"]) == sequence
    assert request.attempt == 1
    verify(request, secret)


def test_batch_request_holds_at_most_max_batch(api: Api, topic: str, endpoint: Endpoint) -> None:
    secret = new_secret()
    api.ok_subscribe(topic, endpoint.url, format="batch", max_batch=10, secret=secret)
    good(api.publish_batch(topic, [event(id=str(n), data=n) for n in range(95)]))

    eventually(lambda: len(endpoint.first_deliveries) == 95)

    assert {request.headers["content-type"].partition(";")[0] for request in endpoint.requests} == {
        BATCH
    }
    assert max(len(request.events) for request in endpoint.requests) <= 10
    delivered = sorted(each["data"] for request in endpoint.requests for each in request.events)
    assert delivered == list(range(95))
    assert len({request.webhook_id for request in endpoint.requests}) == len(endpoint.requests)
    for request in endpoint.requests:
        verify(request, secret)


def test_batch_gathers_what_waits(api: Api, topic: str, endpoint: Endpoint) -> None:
    good(api.publish_batch(topic, [event(id=str(n)) for n in range(100)]))

    api.ok_subscribe(topic, endpoint.url, format="batch", start="beginning")
    eventually(lambda: len(endpoint.first_deliveries) == 100)

    assert len(endpoint.requests) < 20


def test_batch_of_one_is_still_an_array(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, format="batch")
    api.ok_publish(topic, {"a": 1}, id="m")

    (inside,) = first_request(endpoint).events

    assert (inside["id"], inside["data"]) == ("m", {"a": 1})


def test_failed_batch_is_tried_again_as_it_was(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(Answer(500), Answer(200))
    good(api.publish_batch(topic, [event(id=str(n)) for n in range(10)]))
    api.ok_subscribe(topic, endpoint.url, format="batch", start="beginning")

    eventually(lambda: api.ok_status(topic)["backlog"] == 0)

    by_id: dict[str, list[Received]] = {}
    for request in endpoint.requests:
        by_id.setdefault(request.webhook_id, []).append(request)
    for requests in by_id.values():
        assert len({tuple(request.sequences) for request in requests}) == 1
    assert sorted(set(endpoint.sequences)) == sorted(
        message["sequence"] for message in api.all_messages(topic)
    )


def test_requests_go_out_side_by_side_up_to_max_in_flight(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    full = threading.Event()

    def hold_until_full(_request: Received) -> Answer:
        full.wait(10)
        return Answer()

    endpoint.script = hold_until_full
    api.ok_subscribe(topic, endpoint.url, max_in_flight=3)
    for n in range(12):
        api.ok_publish(topic, n)

    eventually(lambda: len(endpoint.requests) == 3)
    eventually(lambda: api.ok_status(topic)["in_flight"] == 3)
    full.set()
    eventually(lambda: len(endpoint.requests) == 12)

    assert endpoint.most_at_once == 3


def test_connections_are_kept_alive(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, ordering="topic")
    for n in range(20):
        api.ok_publish(topic, n)

    eventually(lambda: len(endpoint.requests) == 20)

    assert endpoint.connections < 5


def test_each_subscription_gets_each_message(api: Api, topic: str, endpoint: Endpoint) -> None:
    for name in ("a", "b", "c"):
        api.ok_subscribe(topic, endpoint.url, name)
    sequence = api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 3)

    assert {request.headers["webhook-subscription"] for request in endpoint.requests} == {
        f"{topic}/{name}" for name in "abc"
    }
    assert set(endpoint.sequences) == {sequence}


def test_dead_endpoint_does_not_hold_up_others(api: Api, topic: str, endpoint: Endpoint) -> None:
    with Endpoint() as closed:
        dead = closed.url
    api.ok_subscribe(topic, dead, "dead", retry=SLOW_RETRY)
    api.ok_subscribe(topic, endpoint.url, "alive")
    published = [api.ok_publish(topic, n) for n in range(50)]

    eventually(lambda: sorted(endpoint.sequences) == published)
