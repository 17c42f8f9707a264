"""A new secret signs at once, and the old one beside it for a while."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess
from support.endpoint import Endpoint, Received
from support.eventually import eventually
from support.problem import read_problem
from support.signature import entries, expected_entry, new_secret, verify


def one_request(api: Api, topic: str, endpoint: Endpoint) -> Received:
    """Publish a message and give the request that brings it."""
    sequence = api.ok_publish(topic, {"n": 1})
    return eventually(
        lambda: next((each for each in endpoint.requests if sequence in each.sequences), None)
    )


def signers(request: Received, *secrets: str) -> bool:
    """Say whether exactly these secrets have signed, in this order."""
    return entries(request) == [expected_entry(request, secret) for secret in secrets]


def test_both_secrets_sign_the_new_one_first(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, secret=new_secret())

    fresh = api.rotate_secret(topic)
    request = one_request(api, topic, endpoint)

    assert fresh.startswith("whsec_")
    assert 24 <= len(base64.b64decode(fresh.removeprefix("whsec_"))) <= 64
    assert fresh != new_secret()
    assert signers(request, fresh, new_secret())
    verify(request, fresh)
    verify(request, new_secret())


def test_rotation_needs_no_body(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, secret=new_secret())

    fresh = good(api.act(topic, "rotate-secret"))["secret"]

    assert signers(one_request(api, topic, endpoint), fresh, new_secret())


def test_new_secret_is_shown_once(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)
    fresh = api.rotate_secret(topic)

    answers = [
        api.get_subscription(topic, "s"),
        api.list_subscriptions(topic),
        api.put_subscription(topic, "s", endpoint=endpoint.url),
    ]

    assert not [answer for answer in answers if fresh in answer.text]


def test_each_rotation_makes_another_secret(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)

    assert len({api.rotate_secret(topic) for _ in range(3)}) == 3


def test_no_overlap_ends_the_old_secret_at_once(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, secret=new_secret())

    fresh = api.rotate_secret(topic, overlap_s=0)

    assert signers(one_request(api, topic, endpoint), fresh)


def test_old_secret_signs_until_the_overlap_ends(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, secret=new_secret())
    fresh = api.rotate_secret(topic, overlap_s=1)
    first = one_request(api, topic, endpoint)
    assert signers(first, fresh, new_secret())

    last = eventually(
        lambda: signers(request := one_request(api, topic, endpoint), fresh) and request
    )

    assert last.at - first.at > 0.5


def test_second_rotation_keeps_the_secrets_still_in_their_overlap(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    second = api.rotate_secret(topic)
    third = api.rotate_secret(topic)

    request = one_request(api, topic, endpoint)

    verify(request, second)
    verify(request, third)
    assert entries(request)[0] == expected_entry(request, third)


def test_rotation_survives_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    restartable.api.ok_subscribe(topic, endpoint.url, secret=new_secret())
    fresh = restartable.api.rotate_secret(topic)

    restartable.kill()
    restartable.start()

    assert signers(one_request(restartable.api, topic, endpoint), fresh, new_secret())


def test_put_of_the_old_secret_after_a_rotation_brings_it_back(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url, secret=new_secret())
    fresh = api.rotate_secret(topic)

    good(api.put_subscription(topic, "s", secret=new_secret()))

    assert signers(one_request(api, topic, endpoint), new_secret(), fresh)


@pytest.mark.parametrize("value", [-1, "x", True, [], 10**12])
def test_wrong_overlap_is_refused_and_changes_nothing(
    api: Api, topic: str, endpoint: Endpoint, value: Any
) -> None:
    api.ok_subscribe(topic, endpoint.url, secret=new_secret())

    answer = api.act(topic, "rotate-secret", body={"overlap_s": value})

    assert read_problem(answer, 422).names("overlap_s")
    assert signers(one_request(api, topic, endpoint), new_secret())
