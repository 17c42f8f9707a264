"""`/metrics`: what happened, in numbers that Prometheus can read."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from support.api import INSTANT_RETRY, SLOW_RETRY, Api
from support.broker_process import StartBroker
from support.doors import Refused, RpcDoor
from support.endpoint import Answer, Endpoint, always, by_attempt
from support.eventually import eventually


def scrape(api: Api) -> dict[str, Metric]:
    answer = api.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(api: Api, sample: str, **labels: str) -> float:
    """Return the one sample of this name that has these labels; 0 where there is none."""
    found = [
        each.value
        for family in scrape(api).values()
        for each in family.samples
        if each.name == sample and labels.items() <= each.labels.items()
    ]
    assert len(found) <= 1, found
    return found[0] if found else 0.0


def test_publishes_are_counted(api: Api, topic: str) -> None:
    for id_ in ("a", "b", "a"):
        api.ok_publish(topic, {}, id=id_)

    assert value(api, "broker_messages_published_total", topic=topic) == 2
    assert value(api, "broker_messages_repeated_total", topic=topic) == 1
    assert value(api, "broker_topic_messages", topic=topic) == 2
    assert value(api, "broker_topic_bytes", topic=topic) == api.get_topic(topic).json()["bytes"]


def test_refused_publishes_are_counted_and_other_refusals_are_not(
    start_broker: StartBroker,
) -> None:
    broker = start_broker()
    api = broker.api
    refused = partial(value, api, "broker_publish_refused_total")
    assert refused(code="storage_full") == 0
    assert any(each.labels for each in scrape(api)["broker_publish_refused"].samples)

    api.publish_event("t", {})
    api.http.put("/v1/topics/t", json={"nonsense": 1})
    with closing(RpcDoor(broker.grpc_port)) as door, pytest.raises(Refused):
        door.publish("t")
    api.http.post("/v1/topics/t/subscriptions/s/pull", json={"max_messages": "many"})

    counted = scrape(api)["broker_publish_refused"].samples
    assert sum(each.value for each in counted if each.name.endswith("_total")) == 2


def test_deliveries_are_counted_by_outcome(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(Answer(500), Answer(200))
    api.ok_subscribe(topic, endpoint.url, "sub", retry=INSTANT_RETRY)
    for _ in range(3):
        api.ok_publish(topic, {})
    counted = partial(value, api, topic=topic, subscription="sub")

    eventually(lambda: counted("broker_deliveries_total", outcome="acked") == 3)
    assert counted("broker_deliveries_total", outcome="retried") == 3
    assert counted("broker_deliveries_total", outcome="dead") == 0
    assert counted("broker_attempt_duration_seconds_count", result="ok") == 3
    assert counted("broker_attempt_duration_seconds_count", result="failed") == 3
    assert counted("broker_delivery_latency_seconds_count") == 3
    assert counted("broker_delivery_latency_seconds_sum") > 0
    assert counted("broker_delivery_latency_seconds_bucket", le="3600.0") == 3
    eventually(lambda: counted("broker_subscription_backlog") == 0)


def test_dead_letters_and_lost_attempts_are_counted(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(422))
    api.ok_subscribe(topic, endpoint.url, "sure")
    api.ok_subscribe(topic, endpoint.url, "fast", guarantee="at-most-once")
    api.ok_publish(topic, {})

    outcome = partial(value, api, "broker_deliveries_total", topic=topic)
    eventually(lambda: outcome(subscription="sure", outcome="dead") == 1)
    eventually(lambda: outcome(subscription="fast", outcome="dropped") == 1)
    rows = partial(value, api, "broker_subscription_exceptions", topic=topic, state="dead")
    assert eventually(lambda: rows(subscription="sure")) == 1
    assert value(api, "broker_subscription_backlog", topic=topic, subscription="sure") == 0


def test_state_of_a_subscription_is_told(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(500))
    api.ok_subscribe(topic, endpoint.url, "sub", retry=SLOW_RETRY, max_in_flight=1)
    for _ in range(12):
        api.ok_publish(topic, {})
    told = partial(value, api, topic=topic, subscription="sub")

    eventually(lambda: told("broker_subscription_circuit_open") == 1)
    eventually(lambda: told("broker_subscription_backlog") == 12)
    eventually(lambda: told("broker_subscription_oldest_unsettled_seconds") > 0)
    assert told("broker_subscription_paused") == 0
    api.pause(topic, "sub")
    assert told("broker_subscription_paused") == 1


def test_store_and_process_are_told(api: Api, topic: str) -> None:
    api.ok_publish(topic, {})

    assert value(api, "broker_store_commit_seconds_count") > 0
    assert value(api, "broker_store_file_bytes") > 0
    assert value(api, "broker_store_free_bytes") > 0
    assert value(api, "process_resident_memory_bytes") > 0
    assert value(api, "broker_info") == 1


def test_metrics_of_what_is_deleted_are_gone(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url, "sub")
    api.ok_publish(topic, {})
    api.delete_topic(topic, force=True)

    assert f'topic="{topic}"' not in api.http.get("/metrics").text
