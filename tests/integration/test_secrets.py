"""Secrets and signatures: shown once, given, rotated; write-only headers."""

from __future__ import annotations

import base64

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from support.api import Api, good
from support.endpoint import Answer, Endpoint, Received, by_attempt
from support.eventually import eventually
from support.problem import read_problem
from support.signature import entries, expected_entry, new_secret, verify


def one_request(api: Api, topic: str, endpoint: Endpoint) -> Received:
    """Publish a message and give the request that brings it."""
    sequence = api.ok_publish(topic, {"n": 1})
    return eventually(
        lambda: next((each for each in endpoint.requests if sequence in each.sequences), None)
    )


def test_generated_secret_is_shown_in_the_creating_answer_only(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    created = api.ok_subscribe(topic, endpoint.url)
    secret = created["secret"]
    again = api.put_subscription(topic, "s", endpoint=endpoint.url)
    answers = [again, api.get_subscription(topic, "s"), api.list_subscriptions(topic)]

    assert secret.startswith("whsec_")
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64
    assert not [answer for answer in answers if secret in answer.text]
    verify(one_request(api, topic, endpoint), secret)


def test_each_subscription_gets_its_own_secret(api: Api, topic: str, endpoint: Endpoint) -> None:
    secrets = {api.ok_subscribe(topic, endpoint.url, name)["secret"] for name in "abc"}

    assert len(secrets) == 3


def test_given_secret_signs_and_is_never_shown_again(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    secret = new_secret()
    api.ok_subscribe(topic, endpoint.url, secret=secret)

    request = one_request(api, topic, endpoint)

    verify(request, secret)
    assert len(entries(request)) == 1
    assert secret not in api.get_subscription(topic, "s").text
    assert secret not in api.list_subscriptions(topic).text


def test_same_secret_again_changes_nothing(api: Api, topic: str, endpoint: Endpoint) -> None:
    for _ in range(3):
        api.ok_subscribe(topic, endpoint.url, secret=new_secret())

    assert len(entries(one_request(api, topic, endpoint))) == 1


def test_another_secret_rotates_and_both_sign(api: Api, topic: str, endpoint: Endpoint) -> None:
    old, new = new_secret(1), new_secret(2)
    api.ok_subscribe(topic, endpoint.url, secret=old)

    good(api.put_subscription(topic, "s", secret=new))
    request = one_request(api, topic, endpoint)

    assert sorted(entries(request)) == sorted(expected_entry(request, s) for s in (old, new))
    verify(request, old)
    verify(request, new)


def test_put_without_secret_keeps_it(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, secret=new_secret())

    api.put_subscription(topic, "s", timeout_s=3)
    request = one_request(api, topic, endpoint)

    verify(request, new_secret())
    assert len(entries(request)) == 1


def test_wrong_secret_or_changed_body_does_not_verify(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url, secret=new_secret())
    request = one_request(api, topic, endpoint)
    forged = Received(request.method, request.path, request.headers, b'{"n": 2}', request.at)

    for candidate, secret in ((request, new_secret(9)), (forged, new_secret())):
        with pytest.raises(WebhookVerificationError):
            verify(candidate, secret)


def test_every_attempt_is_signed_anew(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(Answer(500), Answer(500), Answer(200))
    api.ok_subscribe(topic, endpoint.url, secret=new_secret())
    api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 3)

    for request in endpoint.requests:
        verify(request, new_secret())


def test_headers_are_sent_and_their_values_never_shown(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    headers = {"Authorization": "Bearer hush-hush", "X-Tenant": "hush-too"}
    answers = [
        api.put_subscription(topic, "s", endpoint=endpoint.url, headers=headers),
        api.put_subscription(topic, "s", endpoint=endpoint.url),
        api.get_subscription(topic, "s"),
        api.list_subscriptions(topic),
    ]

    request = one_request(api, topic, endpoint)

    assert request.headers["authorization"] == "Bearer hush-hush"
    assert request.headers["x-tenant"] == "hush-too"
    assert not [answer.text for answer in answers if "hush" in answer.text]


def test_null_headers_are_sent_no_more(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, headers={"X-Tenant": "a"})

    good(api.put_subscription(topic, "s", headers=None))

    assert "x-tenant" not in one_request(api, topic, endpoint).headers


@pytest.mark.parametrize(
    "name", ["Webhook-Signature", "webhook-id", "Content-Type", "Content-Length", "ce-id"]
)
def test_own_headers_cannot_displace_those_of_the_broker(
    api: Api, topic: str, endpoint: Endpoint, name: str
) -> None:
    fields = {"endpoint": endpoint.url, "secret": new_secret(), "headers": {name: "5"}}
    answer = api.put_subscription(topic, "s", **fields)

    if answer.status_code == 422:
        assert read_problem(answer, 422).names("headers")
        return
    request = one_request(api, topic, endpoint)
    verify(request, new_secret())
    assert request.body == b'{"n": 1}'
    assert request.headers["content-type"] == "application/json"
    assert request.headers["ce-id"] != "5"
