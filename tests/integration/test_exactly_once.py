"""Exactly once: nothing is settled without a receipt of the endpoint's inbox."""

from __future__ import annotations

import pytest

from support.api import INSTANT_RETRY, SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, always, by_attempt, receipt
from support.eventually import eventually

OK = Answer(200)


def subscribe(api: Api, topic: str, url: str, **fields: object) -> None:
    """Create the subscription `s` that wants receipts."""
    fields = {"retry": INSTANT_RETRY, **fields}
    api.ok_subscribe(topic, url, guarantee="exactly-once", **fields)


def test_guarantee_is_shown(api: Api, topic: str, endpoint: Endpoint) -> None:
    subscribe(api, topic, endpoint.url)

    assert api.ok_status(topic)["guarantee"] == "exactly-once"


@pytest.mark.parametrize("value", ["processed", "duplicate"])
@pytest.mark.parametrize("status", [200, 202, 204])
def test_receipt_settles(api: Api, topic: str, endpoint: Endpoint, value: str, status: int) -> None:
    endpoint.script = always(Answer(status, {"Webhook-Receipt": value}))
    subscribe(api, topic, endpoint.url)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(2)]

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)

    assert endpoint.sequences == sequences


@pytest.mark.parametrize(
    "without",
    [
        OK,
        Answer(204),
        Answer(200, {"Webhook-Receipt": ""}),
        Answer(200, {"Webhook-Receipt": "maybe"}),
        Answer(200, {"Receipt": "processed"}),
        Answer(200, body=b'{"receipt": "processed"}'),
    ],
    ids=lambda answer: f"{answer.status}-{answer.headers}-{answer.body!r}",
)
def test_2xx_without_a_receipt_is_a_failed_attempt(
    api: Api, topic: str, endpoint: Endpoint, without: Answer
) -> None:
    endpoint.script = by_attempt(without, without, receipt())
    subscribe(api, topic, endpoint.url)
    sequence = api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 3 and api.backlog(topic) == 0)

    assert [request.attempt for request in endpoint.requests] == [1, 2, 3]
    failed = api.attempts(topic, sequence)
    assert [each["error"] for each in failed] == ["no_receipt"] * 2
    assert {each["status"] for each in failed} == {without.status}


def test_missing_receipts_end_in_a_dead_letter(api: Api, topic: str, endpoint: Endpoint) -> None:
    subscribe(api, topic, endpoint.url, retry={**INSTANT_RETRY, "max_attempts": 3})
    api.ok_publish(topic, 1)

    dead = eventually(lambda: api.dead_letters(topic))

    assert "no_receipt" in dead[0]["reason"]
    assert [request.attempt for request in endpoint.requests] == [1, 2, 3]


def test_missing_receipts_open_no_circuit(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: receipt() if request.attempt > 15 else OK
    subscribe(api, topic, endpoint.url, retry={**INSTANT_RETRY, "max_attempts": 0})
    api.ok_publish(topic, 1)

    eventually(lambda: api.settled_without_circuit(topic))

    assert len(endpoint.requests) == 16


def test_missing_receipt_holds_its_key(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: OK if request.body == b"0" else receipt()
    subscribe(api, topic, endpoint.url, retry=SLOW_RETRY)
    held = [api.ok_publish(topic, n, key="k") for n in range(2)]
    free = [api.ok_publish(topic, n, key="other") for n in range(1, 4)]

    eventually(lambda: set(free) <= set(endpoint.sequences) and api.backlog(topic) == 2)

    assert held[1] not in endpoint.sequences
    assert api.ok_status(topic)["retrying"] == 1


@pytest.mark.parametrize("status", [400, 404, 500, 302])
def test_receipt_counts_only_with_a_2xx(
    api: Api, topic: str, endpoint: Endpoint, status: int
) -> None:
    endpoint.script = by_attempt(Answer(status, {"Webhook-Receipt": "processed"}), receipt())
    subscribe(api, topic, endpoint.url)
    api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)


@pytest.mark.parametrize("value", ["retry", "dead-letter"])
def test_verdict_counts_instead_of_the_receipt(
    api: Api, topic: str, endpoint: Endpoint, value: str
) -> None:
    both = Answer(200, {"Webhook-Receipt": "processed", "Webhook-Verdict": value})
    endpoint.script = by_attempt(both, receipt())
    subscribe(api, topic, endpoint.url)
    api.ok_publish(topic, 1)

    eventually(lambda: endpoint.requests and api.backlog(topic) == 0)

    assert len(endpoint.requests) == (2 if value == "retry" else 1)
    assert api.ok_status(topic)["dead_letters"] == (1 if value == "dead-letter" else 0)


def test_receipts_are_not_asked_for_at_least_once(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)
    api.ok_publish(topic, 1)

    eventually(lambda: endpoint.requests and api.backlog(topic) == 0)

    assert len(endpoint.requests) == 1


# -- batches


def publish_five(api: Api, topic: str) -> list[int]:
    """Publish five messages without key, and give their sequences."""
    events = [event(id=str(n), data=n) for n in range(5)]
    return [each["sequence"] for each in good(api.publish_batch(topic, events))["messages"]]


def subscribe_batches(api: Api, topic: str, url: str) -> None:
    subscribe(api, topic, url, format="batch", start="beginning")


def test_receipt_covers_a_whole_batch(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(receipt())
    sequences = publish_five(api, topic)
    subscribe_batches(api, topic, endpoint.url)

    eventually(lambda: endpoint.requests and api.backlog(topic) == 0)

    assert sorted(endpoint.sequences) == sequences


def test_batch_without_a_receipt_is_sent_again_whole(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = by_attempt(OK, receipt())
    sequences = publish_five(api, topic)
    subscribe_batches(api, topic, endpoint.url)

    eventually(lambda: api.backlog(topic) == 0 and len(endpoint.sequences) >= 10)

    assert sorted(endpoint.sequences) == sorted(sequences * 2)
    assert len({request.webhook_id for request in endpoint.requests}) * 2 == len(endpoint.requests)


@pytest.mark.parametrize("with_receipt", [True, False])
def test_positions_singled_out_have_no_receipt(
    api: Api, topic: str, endpoint: Endpoint, with_receipt: bool
) -> None:
    singled = receipt(body={"retry": [1], "dead_letter": [3]})
    if not with_receipt:
        singled = Answer(200, body=singled.body)
    endpoint.script = lambda request: singled if request.attempt == 1 else receipt()
    sequences = publish_five(api, topic)
    subscribe_batches(api, topic, endpoint.url)

    eventually(lambda: api.backlog(topic) == 0 and len(endpoint.sequences) >= 6)

    assert endpoint.requests[0].sequences == sequences
    again = {each for each in sequences if endpoint.sequences.count(each) > 1}
    dead = [each["sequence"] for each in api.dead_letters(topic)]
    assert dead == [sequences[3]]
    if with_receipt:
        assert again == {sequences[1]}
    else:
        assert again == set(sequences) - {sequences[3]}


# -- restarts


def test_message_without_a_receipt_is_still_owed_after_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    subscribe(restartable.api, topic, endpoint.url, retry=SLOW_RETRY)
    sequence = restartable.api.ok_publish(topic, 1)
    eventually(lambda: restartable.api.ok_status(topic)["retrying"] == 1)

    restartable.kill()
    restartable.start()

    (waiting,) = restartable.api.deliveries(topic, "retrying")
    assert (waiting["sequence"], waiting["last_error"]) == (sequence, "no_receipt")
    assert restartable.api.ok_status(topic)["guarantee"] == "exactly-once"


def test_every_message_is_processed_once_by_an_inbox_over_kills(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    processed: set[str] = set()

    def inbox(request: Received) -> Answer:
        identity = request.events[0]["source"] + request.events[0]["id"]
        if identity in processed:
            return receipt("duplicate")
        if request.attempt == 1 and request.sequence % 4 == 0:
            return OK  # a handler that forgot its inbox
        processed.add(identity)
        return Answer(200, {"Webhook-Receipt": "processed"}, delay_s=0.005)

    endpoint.script = inbox
    subscribe(restartable.api, topic, endpoint.url, max_in_flight=4)
    events = [event(id=str(n), partitionkey=f"k{n % 10}") for n in range(200)]
    good(restartable.api.publish_batch(topic, events))

    for wanted in (40, 120):
        endpoint.wait_for(wanted)
        restartable.kill()
        restartable.start()
    eventually(lambda: restartable.api.backlog(topic) == 0)

    assert processed == {f"/tests{n}" for n in range(200)}
    assert restartable.api.ok_status(topic)["dead_letters"] == 0
