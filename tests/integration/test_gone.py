"""410: the endpoint wants nothing more, so the subscription pauses and keeps what it is owed."""

from __future__ import annotations

import pytest

from support.api import INSTANT_RETRY, Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually
from support.witness import Witness

OK = Answer(200)
GONE = Answer(410)


def pause_by_410(api: Api, topic: str, endpoint: Endpoint, **fields: object) -> list[int]:
    """Have the first of three messages of a key answered 410; give their sequences."""
    endpoint.script = lambda request: GONE if request.body == b"0" else OK
    api.ok_subscribe(topic, endpoint.url, **{"retry": INSTANT_RETRY, **fields})
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]
    eventually(lambda: api.ok_status(topic)["state"] == "paused")
    return sequences


@pytest.mark.parametrize("ordering", ["key", "topic", "none"])
def test_410_pauses_with_the_reason(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness, ordering: str
) -> None:
    sequences = pause_by_410(api, topic, endpoint, ordering=ordering)

    witness.let_pass(api)

    shown = api.ok_status(topic)
    assert "410" in shown["paused_reason"]
    assert (shown["state"], shown["dead_letters"]) == ("paused", 0)
    assert endpoint.sequences.count(sequences[0]) == 1
    if ordering != "none":
        assert (endpoint.sequences, shown["backlog"]) == (sequences[:1], 3)


@pytest.mark.parametrize("max_attempts", [0, 1, 8])
def test_message_stays_owed(api: Api, topic: str, endpoint: Endpoint, max_attempts: int) -> None:
    retry = {**INSTANT_RETRY, "max_attempts": max_attempts}
    sequences = pause_by_410(api, topic, endpoint, retry=retry)
    endpoint.script = always(OK)

    api.resume(topic)

    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == [sequences[0], *sequences]
    assert api.ok_status(topic)["dead_letters"] == 0
    assert len({request.webhook_id for request in endpoint.requests}) == 3


def test_endpoint_that_is_still_gone_pauses_again(api: Api, topic: str, endpoint: Endpoint) -> None:
    sequences = pause_by_410(api, topic, endpoint)

    for sent in (2, 3):
        api.resume(topic)
        eventually(lambda sent=sent: len(endpoint.requests) == sent)
        eventually(lambda: api.ok_status(topic)["state"] == "paused")

    assert set(endpoint.sequences) == {sequences[0]}
    assert api.backlog(topic) == 3


def test_put_of_another_endpoint_does_not_resume(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    sequences = pause_by_410(api, topic, endpoint)
    with Endpoint() as moved:
        good(api.put_subscription(topic, "s", endpoint=moved.url))
        witness.let_pass(api)
        assert moved.requests == []
        assert api.ok_status(topic)["state"] == "paused"

        api.resume(topic)
        eventually(lambda: api.backlog(topic) == 0)

        assert moved.sequences == sequences
        assert endpoint.sequences == sequences[:1]


def test_batch_that_meets_410_stays_owed_whole(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(GONE)
    told = good(api.publish_batch(topic, [event(id=str(n)) for n in range(5)]))["messages"]
    sequences = [each["sequence"] for each in told]
    api.ok_subscribe(topic, endpoint.url, format="batch", start="beginning")
    eventually(lambda: api.ok_status(topic)["state"] == "paused")
    assert api.backlog(topic) == 5

    endpoint.script = always(OK)
    api.resume(topic)
    eventually(lambda: api.backlog(topic) == 0)

    assert endpoint.sequences == sequences * 2


def test_410_pauses_one_subscription_only(api: Api, topic: str, endpoint: Endpoint) -> None:
    with Endpoint(always(GONE)) as gone:
        api.ok_subscribe(topic, gone.url, "gone")
        api.ok_subscribe(topic, endpoint.url, "here")
        sequences = [api.ok_publish(topic, n) for n in range(5)]

        eventually(lambda: api.ok_status(topic, "gone")["state"] == "paused")
        eventually(lambda: sorted(endpoint.sequences) == sequences)

        assert api.ok_status(topic, "here")["state"] == "active"


def test_410_survives_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    sequences = pause_by_410(restartable.api, topic, endpoint)
    endpoint.script = always(OK)

    restartable.kill()
    restartable.start()
    witness.let_pass(restartable.api)

    shown = restartable.api.ok_status(topic)
    assert (shown["state"], shown["backlog"]) == ("paused", 3)
    assert "410" in shown["paused_reason"]
    assert endpoint.sequences == sequences[:1]
    restartable.api.resume(topic)
    eventually(lambda: restartable.api.backlog(topic) == 0)
    assert endpoint.sequences == [sequences[0], *sequences]
