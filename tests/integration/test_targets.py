"""Where webhooks may go: never to private addresses unless a setting allows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.api import Api
from support.broker_process import BrokerProcess, StartBroker
from support.endpoint import Answer, Endpoint, always
from support.eventually import eventually
from support.problem import read_problem

# Ways to write loopback; each reaches the endpoint when nothing stands in the way.
LOOPBACK_HOSTS = [
    "127.0.0.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "127.1",
    "127.0.0.2",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0.0.0.0",
    "0",
    "[::ffff:127.0.0.1]",
    "[::1]",
    "[::]",
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker that was allowed no target."""
    running = BrokerProcess(tmp_path_factory.mktemp("guarded"), BROKER_ALLOWED_TARGETS=None)
    try:
        yield running.start()
    finally:
        running.close()


def assert_never_dialled(api: Api, topic: str, url: str, endpoint: Endpoint) -> None:
    """Check that a target is refused when it is given, or when it would be dialled."""
    answer = api.put_subscription(topic, "s", endpoint=url)
    if answer.status_code == 422:
        assert read_problem(answer, 422).names("endpoint")
    else:
        assert answer.status_code == 201
        api.ok_publish(topic, 1)
        eventually(lambda: api.ok_status(topic)["last_error"])

    assert endpoint.connections == 0


@pytest.mark.parametrize("host", LOOPBACK_HOSTS)
def test_loopback_is_never_dialled_unless_allowed(
    guarded: BrokerProcess, topic: str, endpoint: Endpoint, host: str
) -> None:
    url = f"http://{host}:{endpoint.port}/hook"

    assert_never_dialled(guarded.api, topic, url, endpoint)


def test_refused_target_stays_owed(guarded: BrokerProcess, topic: str, endpoint: Endpoint) -> None:
    answer = guarded.api.put_subscription(topic, "s", endpoint=f"http://localhost:{endpoint.port}/")

    if answer.status_code == 201:
        guarded.api.ok_publish(topic, 1)
        eventually(lambda: guarded.api.ok_status(topic)["last_error"])
        assert guarded.api.ok_status(topic)["backlog"] == 1


def test_target_outside_the_allowed_ones_is_never_dialled(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    api = start_broker(BROKER_ALLOWED_TARGETS="127.0.0.7/32,10.0.0.0/8,shop.example").api

    assert_never_dialled(api, "t", endpoint.url, endpoint)


def test_allowed_host_name_is_reached(start_broker: StartBroker, endpoint: Endpoint) -> None:
    api = start_broker(BROKER_ALLOWED_TARGETS="localhost").api
    api.ok_subscribe("t", f"http://localhost:{endpoint.port}/hook")
    sequence = api.ok_publish("t", 1)

    eventually(lambda: endpoint.sequences == [sequence])


def test_allowed_single_address_is_reached(start_broker: StartBroker, endpoint: Endpoint) -> None:
    api = start_broker(BROKER_ALLOWED_TARGETS="127.0.0.1").api
    api.ok_subscribe("t", endpoint.url)
    sequence = api.ok_publish("t", 1)

    eventually(lambda: endpoint.sequences == [sequence])


def test_allowed_targets_follow_a_restart_with_less(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url)
    broker.api.ok_publish("t", 1)
    eventually(lambda: endpoint.requests)
    broker.stop()
    before = endpoint.connections

    broker.set(BROKER_ALLOWED_TARGETS=None)
    broker.start()
    broker.api.ok_publish("t", 2)
    eventually(lambda: broker.api.ok_status("t")["last_error"])

    assert endpoint.connections == before


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_not_a_way_around(
    api: Api, topic: str, endpoint: Endpoint, status: int
) -> None:
    with Endpoint() as other:
        endpoint.script = always(Answer(status, {"Location": other.url}))
        api.ok_subscribe(topic, endpoint.url)
        api.ok_publish(topic, 1)

        eventually(lambda: len(endpoint.requests) > 1)

        assert other.connections == 0
