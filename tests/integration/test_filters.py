"""Filters: a subscription gets what matches, and is owed nothing else."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from support.api import INSTANT_RETRY, SLOW_RETRY, Api, accepted, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually
from support.problem import read_problem

PAID = {"exact": {"type": "order.paid"}}
SHIPPED = {"exact": {"type": "order.shipped"}}


def publish(api: Api, topic: str, *types: str, **options: Any) -> list[int]:
    """Publish a message of each type; give their sequences."""
    return [api.ok_publish(topic, n, type=type_, **options) for n, type_ in enumerate(types)]


def of_types(sequences: list[int], types: list[str], wanted: str) -> list[int]:
    return [seq for seq, type_ in zip(sequences, types, strict=True) if type_ == wanted]


# -- what is delivered -----------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", ["key", "topic", "none"])
@pytest.mark.parametrize("format", ["binary", "batch"])
def test_only_what_matches_is_delivered(
    api: Api, topic: str, endpoint: Endpoint, ordering: str, format: str
) -> None:
    api.ok_subscribe(topic, endpoint.url, filters=[PAID], ordering=ordering, format=format)
    types = ["order.paid", "order.shipped", "order.paid", "order.paid", "order.shipped"] * 3
    sequences = publish(api, topic, *types, key="k")

    eventually(lambda: len(endpoint.sequences) == 9 and api.backlog(topic) == 0)

    came = endpoint.sequences if ordering != "none" else sorted(endpoint.sequences)
    assert came == of_types(sequences, types, "order.paid")


def test_every_dialect_sees_the_attributes_of_the_event(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    filters = [
        {"exact": {"source": "/shop", "specversion": "1.0", "priority": "5"}},
        {"prefix": {"type": "order.", "time": "2026-01-"}},
        {"suffix": {"subject": "/7", "datacontenttype": "json"}},
        {"any": [{"exact": {"region": "us"}}, {"all": [{"exact": {"region": "eu"}}]}]},
        {"not": {"exact": {"partitionkey": "bad"}}},
        {"sql": "priority > 4 AND urgent AND region IN ('eu', 'us') AND EXISTS dataschema"},
    ]
    api.ok_subscribe(topic, endpoint.url, filters=filters)
    matching = event(
        id="yes",
        source="/shop",
        type="order.paid",
        time="2026-01-31T12:00:00Z",
        subject="orders/7",
        datacontenttype="application/json",
        dataschema="urn:order",
        region="eu",
        priority=5,
        urgent=True,
    )
    others: list[dict[str, Any]] = [
        {"source": "/other"},
        {"priority": 6},
        {"priority": "5", "urgent": "yes"},
        {"type": "invoice.paid"},
        {"time": "2026-02-01T00:00:00Z"},
        {"subject": "orders/8"},
        {"region": "asia"},
        {"partitionkey": "bad"},
        {"urgent": False},
    ]
    wrong = [{**matching, **changes, "id": f"no-{n}"} for n, changes in enumerate(others)]
    accepted(api.publish_batch(topic, [*wrong, matching, {**matching, "id": "yes too"}]))

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)

    assert sorted(each.events[0]["id"] for each in endpoint.requests) == ["yes", "yes too"]


def test_attributes_of_a_binary_request_can_be_filtered(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    filters = [{"sql": "number > 9 AND flag = TRUE AND datacontenttype LIKE '%json'"}]
    api.ok_subscribe(topic, endpoint.url, filters=filters)
    for number in ("9", "10", "x"):
        api.ok_publish(topic, number, number=number, flag="true")

    eventually(lambda: len(endpoint.requests) == 1 and api.backlog(topic) == 0)
    assert endpoint.requests[0].body == b'"10"'


def test_pull_gives_what_matches(api: Api, topic: str) -> None:
    accepted(api.put_subscription(topic, "s", filters=[PAID]))
    types = ["order.shipped"] * 300 + ["order.paid"]
    accepted(api.publish_batch(topic, [event(id=f"e{n}", type=t) for n, t in enumerate(types)]))

    pulled = good(api.act(topic, "pull", body={"max_messages": 5, "wait_s": 0}))["deliveries"]

    assert [each["message"]["id"] for each in pulled] == ["e300"]
    assert api.backlog(topic) == 1


def test_subscription_shows_its_filters(api: Api, topic: str, endpoint: Endpoint) -> None:
    assert api.ok_subscribe(topic, endpoint.url, "all")["filters"] == []
    filters = [PAID, {"sql": "EXISTS subject"}]
    assert api.ok_subscribe(topic, endpoint.url, filters=filters)["filters"] == filters
    assert api.ok_status(topic)["filters"] == filters
    assert good(api.put_subscription(topic, "s", max_in_flight=3))["filters"] == filters
    assert good(api.put_subscription(topic, "s", filters=None))["filters"] == []


# -- what is refused -------------------------------------------------------------------------------


def test_wrong_filters_are_refused_with_where_and_why(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    filters = [
        {"sql": "type = 'order.paid' AND\n amount >"},
        PAID,
        {"any": [{"exact": {"Type": "x"}}, {"regex": {"type": "x"}}]},
    ]
    body = {"endpoint": endpoint.url, "filters": filters}

    problem = read_problem(api.put_subscription(topic, "s", **body), 422)

    assert problem.fields == [
        "filters[0].sql",
        "filters[2].any[0].exact.Type",
        "filters[2].any[1].regex",
    ]
    assert "line 2, column 10" in problem.errors[0]["message"]
    assert api.get_subscription(topic, "s").status_code == 404


def test_refused_filters_change_nothing(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, filters=[PAID])
    answer = api.put_subscription(topic, "s", filters=[{"sql": "NOW() = 1"}], max_in_flight=2)
    read_problem(answer, 422)
    assert api.ok_status(topic)["filters"] == [PAID]
    assert api.ok_status(topic)["max_in_flight"] == 64


def test_filters_nested_beyond_all_measure_are_refused(api: Api, topic: str) -> None:
    deep = b'{"filters":[' + b'{"not":' * 100_000 + b"1" + b"}" * 100_000 + b"]}"
    answer = api.http.put(
        f"/v1/topics/{topic}/subscriptions/s",
        content=deep,
        headers={"content-type": "application/json"},
    )
    read_problem(answer, 400)


# -- the position ----------------------------------------------------------------------------------


def test_what_does_not_match_is_no_backlog_and_holds_nothing_back(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    """A failing message stays owed; what does not match before and behind it is passed."""
    endpoint.script = always(Answer(500))
    api.ok_subscribe(topic, endpoint.url, filters=[PAID], retry=SLOW_RETRY)
    types = ["order.shipped", "order.paid", *["order.shipped"] * 50]
    sequences = publish(api, topic, *types, key="k")

    eventually(lambda: api.ok_status(topic)["retrying"] == 1 and api.backlog(topic) == 1)

    assert endpoint.sequences == [sequences[1]]


def test_too_old_backlog_leaves_dead_letters_of_what_matches_only(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url, filters=[PAID], max_backlog_age_s=1)
    api.pause(topic)
    types = ["order.shipped", "order.paid", "order.shipped"]
    sequences = publish(api, topic, *types)

    eventually(lambda: api.backlog(topic) == 0)

    assert [each["sequence"] for each in api.dead_letters(topic)] == [sequences[1]]


def test_seek_applies_the_filters_of_then(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, filters=[PAID])
    types = ["order.paid", "order.shipped", "order.paid"]
    sequences = publish(api, topic, *types, key="k")
    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)

    api.seek(topic, "beginning")
    eventually(lambda: len(endpoint.requests) == 4 and api.backlog(topic) == 0)
    assert endpoint.sequences[2:] == [sequences[0], sequences[2]]

    accepted(api.put_subscription(topic, "s", filters=[SHIPPED]))
    api.seek(topic, "beginning")
    eventually(lambda: len(endpoint.requests) == 5 and api.backlog(topic) == 0)
    assert endpoint.sequences[4:] == [sequences[1]]


# -- other filters ---------------------------------------------------------------------------------


def test_new_filters_apply_to_what_was_not_looked_at(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    """What the old ones passed stays passed, what they let through stays owed."""
    endpoint.script = always(Answer(500))
    api.ok_subscribe(topic, endpoint.url, filters=[PAID], retry=SLOW_RETRY)
    types = ["order.paid", "order.shipped"]
    before = publish(api, topic, *types)
    eventually(lambda: api.ok_status(topic)["retrying"] == 1 and api.backlog(topic) == 1)

    accepted(api.put_subscription(topic, "s", filters=[SHIPPED], retry=INSTANT_RETRY))
    endpoint.script = always(Answer(200))
    after = publish(api, topic, *types)
    accepted(api.act(topic, f"deliveries/{before[0]}/retry"))

    eventually(lambda: api.backlog(topic) == 0)
    assert sorted(set(endpoint.sequences)) == [before[0], after[1]]


@pytest.mark.parametrize("ordering", ["key", "topic", "none"])
def test_what_the_old_filters_let_through_stays_owed_after_a_kill(
    restartable: BrokerProcess, endpoint: Endpoint, ordering: str
) -> None:
    """There is a place up to which the old filters count, beyond it the new ones, and no other."""
    api, answered = restartable.api, threading.Event()
    endpoint.script = lambda _: Answer(200) if answered.wait(60) else Answer(500)
    fields: dict[str, Any] = {"ordering": ordering, "max_in_flight": 2}
    api.ok_subscribe("t", endpoint.url, filters=[PAID], **fields)
    types = ["order.paid", "order.shipped"] * 10
    before = publish(api, "t", *types, key="k")
    eventually(lambda: endpoint.requests)

    accepted(api.put_subscription("t", "s", filters=[SHIPPED]))
    restartable.kill()
    out = endpoint.sequences
    answered.set()
    restartable.recover()
    after = publish(restartable.api, "t", *types, key="k")
    eventually(lambda: restartable.api.backlog("t") == 0)

    delivered = list(dict.fromkeys(endpoint.sequences[len(out) :]))
    if ordering != "none":
        assert delivered == sorted(delivered)
    places = [
        [
            seq
            for seq, type_ in zip(before, types, strict=True)
            if type_ == ("order.paid" if seq <= place else "order.shipped")
        ]
        for place in range(max(out), before[-1] + 1)
    ]
    assert sorted(seq for seq in delivered if seq < after[0]) in places
    fresh = [seq for seq in delivered if seq >= after[0]]
    assert sorted(fresh) == of_types(after, types, "order.shipped")


def test_what_the_old_filters_passed_stays_passed_after_a_kill(
    restartable: BrokerProcess, endpoint: Endpoint
) -> None:
    """The kill comes before the position of what was passed is written by itself."""
    api = restartable.api
    api.ok_subscribe("t", endpoint.url, filters=[PAID])
    api.ok_subscribe("t", endpoint.url, "all")
    publish(api, "t", *["order.shipped"] * 20)
    eventually(lambda: api.backlog("t") == 0)

    accepted(api.put_subscription("t", "s", filters=[SHIPPED]))
    restartable.kill()
    restartable.recover()
    (after,) = publish(restartable.api, "t", "order.shipped")

    eventually(lambda: restartable.api.backlog("t") == 0)
    of_s = [
        each.sequence for each in endpoint.requests if each.headers["webhook-subscription"] == "t/s"
    ]
    assert of_s == [after]


def test_filters_hold_after_a_restart(restartable: BrokerProcess, endpoint: Endpoint) -> None:
    api = restartable.api
    filters = [{"sql": "type LIKE 'order.p%'"}]
    api.ok_subscribe("t", endpoint.url, filters=filters)
    publish(api, "t", "order.paid", "order.shipped")
    eventually(lambda: api.backlog("t") == 0)

    assert restartable.stop() == 0
    restartable.start()
    assert restartable.api.ok_status("t")["filters"] == filters
    types = ["order.shipped", "order.paid"]
    after = publish(restartable.api, "t", *types)

    eventually(lambda: restartable.api.backlog("t") == 0)
    assert endpoint.sequences[1:] == after[1:]
