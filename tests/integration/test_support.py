"""The support code held against itself: a test must not pass because its tools are blind."""

from __future__ import annotations

import ssl
import time

import httpx
import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from support.cloudevent import encode_value, from_headers, same_data, to_headers
from support.endpoint import (
    SELF_SIGNED,
    Answer,
    Endpoint,
    Received,
    always,
    by_attempt,
    settled_before,
)
from support.eventually import eventually
from support.problem import read_problem
from support.signature import expected_entry, new_secret, verify


def test_eventually_returns_the_first_truthy_value() -> None:
    values = iter([0, None, 7])

    assert eventually(lambda: next(values)) == 7


def test_eventually_raises_the_last_failure_at_the_deadline() -> None:
    def look() -> bool:
        raise AssertionError("the reason")

    with pytest.raises(AssertionError, match="the reason"):
        eventually(look, within_s=0.05)


def test_endpoint_records_what_came_and_answers_by_script(endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(Answer(503, {"Retry-After": "1"}, b"later"), Answer(204))

    first = httpx.post(endpoint.url, content=b"\xff\x00", headers={"webhook-attempt": "1"})
    second = httpx.post(endpoint.url, headers={"webhook-attempt": "2"})

    assert (first.status_code, first.headers["retry-after"], first.content) == (503, "1", b"later")
    assert second.status_code == 204
    assert [request.body for request in endpoint.requests] == [b"\xff\x00", b""]
    assert [step.answer is None for step in endpoint.timeline] == [True, False, True, False]


def test_endpoint_hangs_up_without_a_word(endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(hang_up=True))

    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(endpoint.url)


def test_endpoint_serves_many_requests_on_one_connection(endpoint: Endpoint) -> None:
    with httpx.Client() as client:
        for _ in range(3):
            client.post(endpoint.url)

    assert endpoint.connections == 1


def test_settled_before_tells_an_overtaking_apart(endpoint: Endpoint) -> None:
    for sequence in ("1", "2"):
        httpx.post(endpoint.url, headers={"ce-sequence": sequence})

    assert settled_before(endpoint.timeline, 1, 2)
    assert not settled_before(endpoint.timeline, 2, 1)


def test_attribute_encoding_matches_the_example_of_the_binding() -> None:
    assert encode_value("Euro € 😀") == "Euro%20%E2%82%AC%20%F0%9F%98%80"
    assert from_headers(to_headers({"subject": 'a "b" 100%'})) == {"subject": 'a "b" 100%'}


@pytest.mark.parametrize("body", [b"plain", b"\xff\xfe"])
def test_verify_accepts_its_own_secret_only(body: bytes) -> None:
    unsigned = {"webhook-id": "a", "webhook-timestamp": str(int(time.time()))}
    request = Received("POST", "/", unsigned, body, 0.0)
    signed = {**unsigned, "webhook-signature": expected_entry(request, new_secret(1))}

    verify(Received("POST", "/", signed, body, 0.0), new_secret(1))
    with pytest.raises((WebhookVerificationError, AssertionError)):
        verify(Received("POST", "/", signed, body, 0.0), new_secret(2))


@pytest.mark.parametrize(
    ("event", "body", "same"),
    [
        ({"datacontenttype": "text/plain", "data": "é"}, "é".encode(), True),
        ({"datacontenttype": "application/json", "data": {"a": 1}}, b'{ "a": 1 }', True),
        ({"datacontenttype": "application/json", "data": "x"}, b"x", False),
        ({"datacontenttype": "image/png", "data_base64": "/wA="}, b"\xff\x00", True),
        ({"datacontenttype": "text/plain"}, b"", True),
        ({}, b"null", True),
        ({}, b"0", False),
    ],
)
def test_same_data_compares_every_form(event: dict[str, str], body: bytes, same: bool) -> None:
    assert same_data(event, body) is same


def test_read_problem_refuses_a_plain_error(endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(404, {"Content-Type": "text/html"}, b"Not Found"))

    with pytest.raises(AssertionError):
        read_problem(httpx.get(endpoint.url), 404)


def test_endpoint_speaks_tls() -> None:
    with Endpoint(certificate=SELF_SIGNED) as endpoint:
        answer = httpx.post(endpoint.url, verify=ssl.create_default_context(cafile=SELF_SIGNED))

    assert answer.status_code == 200


def test_endpoint_can_answer_what_is_no_http(endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(raw=b"this is no HTTP\r\n\r\n"))

    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(endpoint.url)


def test_endpoint_can_answer_without_end(endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(endless=True))

    with httpx.stream("POST", endpoint.url) as answer:
        parts = answer.iter_bytes(100_000)
        assert [len(next(parts)) for _ in range(5)] == [100_000] * 5
