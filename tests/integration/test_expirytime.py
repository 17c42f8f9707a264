"""`expirytime`: a message is not delivered after it."""

from __future__ import annotations

from datetime import datetime

import pytest

from support.api import INSTANT_RETRY, SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually
from support.moments import ahead, has_come


def test_message_that_has_not_expired_is_delivered(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    moment = ahead(60)
    good(api.publish_event(topic, event(id="m", expirytime=moment)))

    eventually(lambda: endpoint.requests and api.backlog(topic) == 0)

    shown = endpoint.requests[0].events[0]["expirytime"]
    assert datetime.fromisoformat(shown) == datetime.fromisoformat(moment)


@pytest.mark.parametrize("format", ["binary", "batch"])
@pytest.mark.parametrize("ordering", ["key", "topic", "none"])
def test_message_that_has_expired_is_settled_unsent(
    api: Api, topic: str, endpoint: Endpoint, format: str, ordering: str
) -> None:
    moments = {"a": ahead(60), "b": ahead(-1), "c": ahead(-1), "d": ahead(60)}
    events = [event(id=id, expirytime=at, partitionkey="k") for id, at in moments.items()]
    told = good(api.publish_batch(topic, events))["messages"]
    api.ok_subscribe(topic, endpoint.url, start="beginning", format=format, ordering=ordering)

    eventually(lambda: api.backlog(topic) == 0 and len(endpoint.sequences) >= 2)

    sequences = [each["sequence"] for each in told]
    assert sorted(endpoint.sequences) == [sequences[0], sequences[3]]
    assert api.ok_status(topic)["dead_letters"] == 0
    assert len(list(api.all_messages(topic))) == 4


def test_topic_of_expired_messages_leaves_no_backlog(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    good(api.publish_batch(topic, [event(id=str(n), expirytime=ahead(-1)) for n in range(200)]))
    last = api.ok_publish(topic, "last")

    eventually(lambda: api.backlog(topic) == 0 and endpoint.requests)

    assert endpoint.sequences == [last]
    assert api.ok_status(topic)["oldest_unsettled_s"] is None


def test_message_expires_while_its_subscription_is_paused(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    api.pause(topic)
    moment = ahead(0.3)
    good(api.publish_event(topic, event(id="m", expirytime=moment, partitionkey="k")))
    last = api.ok_publish(topic, "last", key="k")

    eventually(lambda: has_come(moment))
    api.resume(topic)
    eventually(lambda: api.backlog(topic) == 0)

    assert endpoint.sequences == [last]


@pytest.mark.parametrize("ordering", ["key", "topic"])
def test_message_expires_between_its_attempts(
    api: Api, topic: str, endpoint: Endpoint, ordering: str
) -> None:
    endpoint.script = lambda request: Answer(404 if request.events[0]["id"] == "m" else 200)
    retry = {"max_attempts": 0, "min_backoff_s": 0.05, "max_backoff_s": 0.1}
    api.ok_subscribe(topic, endpoint.url, ordering=ordering, retry=retry)
    good(api.publish_event(topic, event(id="m", expirytime=ahead(0.5), partitionkey="k")))
    last = api.ok_publish(topic, "last", key="k")

    eventually(lambda: api.backlog(topic) == 0)

    shown = api.ok_status(topic)
    assert (shown["dead_letters"], shown["retrying"]) == (0, 0)
    assert endpoint.sequences[-1] == last
    assert len(endpoint.requests) > 1


def test_expired_dead_letter_is_not_replayed_or_is_settled_unsent(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(422))
    api.ok_subscribe(topic, endpoint.url)
    moment = ahead(0.5)
    good(api.publish_event(topic, event(id="m", expirytime=moment)))
    eventually(lambda: api.ok_status(topic)["dead_letters"] == 1)
    eventually(lambda: has_come(moment))
    endpoint.script = always(Answer(200))

    api.replay(topic)
    last = api.ok_publish(topic, "last")
    eventually(lambda: api.backlog(topic) == 0 and last in endpoint.sequences)

    assert len(endpoint.requests) == 2


def test_message_that_expires_before_it_is_due_is_never_delivered(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    given = event(id="m", deliverat=ahead(0.4), expirytime=ahead(0.2))
    good(api.publish_event(topic, given))
    good(api.publish_event(topic, event(id="last", deliverat=ahead(0.5))))

    eventually(lambda: endpoint.requests and api.backlog(topic) == 0)

    assert [request.events[0]["id"] for request in endpoint.requests] == ["last"]


def test_expired_message_is_settled_after_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: Answer(404 if request.events[0]["id"] == "m" else 200)
    restartable.api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    moment = ahead(0.5)
    good(restartable.api.publish_event(topic, event(id="m", expirytime=moment, partitionkey="k")))
    eventually(lambda: restartable.api.ok_status(topic)["retrying"] == 1)
    last = restartable.api.ok_publish(topic, "last", key="k")

    restartable.kill()
    eventually(lambda: has_come(moment))
    restartable.start()
    restartable.api.put_subscription(topic, "s", retry=INSTANT_RETRY)

    # Its next attempt is an hour away, and it must not be sent then: whether it goes now or
    # then is the broker's choice, so that only an action can be waited for.
    restartable.api.act(topic, f"deliveries/{endpoint.sequences[0]}/retry")
    eventually(lambda: restartable.api.backlog(topic) == 0)
    assert endpoint.sequences[1:] == [last]
