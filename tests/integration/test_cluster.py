"""Several brokers on one JetStream: one owns the store, the others stand by and take over."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from broker.nats_address import parse_address
from support.api import QUICK_RETRY, SLOW_RETRY, good
from support.broker_process import BrokerProcess, StartBroker
from support.cloudevent import event
from support.command import run_broker
from support.endpoint import Answer, Endpoint
from support.eventually import eventually
from support.nats_server import NatsCluster, NatsServer
from support.numbers import TAKEN_OVER_S, Publisher, assert_all_came_in_order, wait_for
from support.signature import new_secret, verify

StartNode = Callable[..., BrokerProcess]


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of the test's own."""
    server = NatsServer(tmp_path / "nats")
    server.configure()
    yield server.start()
    server.close()


@pytest.fixture
def nats_cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """Three servers of the test's own."""
    cluster = NatsCluster(tmp_path / "nats")
    yield cluster.start()
    cluster.close()


@pytest.fixture
def start_node(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartNode]:
    """Start a broker of the cluster; the first one owns the store."""
    name = "nats_cluster" if "nats_cluster" in request.fixturenames else "nats"
    address = request.getfixturevalue(name).address
    started: list[BrokerProcess] = []

    def start(**settings: str) -> BrokerProcess:
        folder = tmp_path / f"node-{len(started)}"
        folder.mkdir()
        node = BrokerProcess(
            folder,
            BROKER_STORE=f"nats://{address}/drill",
            BROKER_REPLICA=str(folder / "replica"),
            **settings,
        )
        node.set(BROKER_NODE_URL=node.base_url)
        started.append(node)
        return node.start()

    yield start
    for node in started:
        node.close()
        print(node.log()[-20_000:])


def owns(node: BrokerProcess) -> bool:
    """Say whether a broker owns the store."""
    answer = httpx.get(f"{node.base_url}/readyz", trust_env=False)
    return answer.status_code == 200 and answer.json()["status"] == "ready"


def test_a_broker_that_stands_by_hands_on_what_it_is_asked(
    start_node: StartNode, endpoint: Endpoint
) -> None:
    owner, standby = start_node(), start_node()
    assert owns(owner)
    assert not owns(standby)

    standby.api.ok_subscribe("t", endpoint.url)
    sequence = standby.api.ok_publish("t", {"n": 1})

    assert eventually(lambda: endpoint.requests)[0].headers["ce-sequence"] == str(sequence)
    url = f"{standby.base_url}/v1/topics/t/messages/{sequence}"
    here = httpx.get(url, trust_env=False)
    there = httpx.get(url.replace(standby.base_url, owner.base_url), trust_env=False)
    assert here.status_code == 200
    assert here.json() == there.json()
    refused = httpx.get(f"{standby.base_url}/v1/topics/none", trust_env=False)
    assert refused.status_code == 404
    assert refused.json()["code"] == "topic_not_found"


def test_a_broker_that_stands_by_asks_nobody_but_the_owner(
    start_node: StartNode, endpoint: Endpoint
) -> None:
    start_node()
    standby = start_node()
    elsewhere = urlsplit(endpoint.url).netloc

    for method, target in (
        ("GET", f"@{elsewhere}/x://y"),
        ("CONNECT", f"@{elsewhere}/"),
        ("OPTIONS", "*"),
        ("GET", f"{standby.base_url}/v1/topics"),
    ):
        assert status_of(standby, f"{method} {target} HTTP/1.1") == 404

    assert not endpoint.requests


def status_of(node: BrokerProcess, request_line: str) -> int:
    """Send a request that a client would not, and return the status of the answer."""
    where = urlsplit(node.base_url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        host = f"host: {where.netloc}"
        connection.sendall(f"{request_line}\r\n{host}\r\nconnection: close\r\n\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])


def test_a_header_arrives_through_a_broker_that_stands_by_as_it_was(
    start_node: StartNode,
) -> None:
    owner, standby = start_node(), start_node()

    def publish(node: BrokerProcess, subject: bytes) -> httpx.Response:
        headers = [(b"ce-id", b"1"), (b"ce-source", b"/p"), (b"ce-subject", subject)]
        url = f"{node.base_url}/v1/topics/t/messages"
        return httpx.post(url, json=1, headers=headers, trust_env=False)

    assert publish(standby, "é".encode()).json()["duplicate"] is False
    assert publish(owner, "é".encode()).json()["duplicate"] is True
    refused = publish(standby, "é".encode("latin-1"))
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed_request")


def test_a_header_of_one_connection_goes_no_further(start_node: StartNode) -> None:
    start_node()
    standby = start_node()
    url = f"{standby.base_url}/v1/topics/t/messages"
    headers = {"connection": "close, ce-subject", "ce-subject": "s", "ce-comment": "c"}

    httpx.post(url, json=1, headers=headers, trust_env=False).raise_for_status()

    message = httpx.get(f"{url}/1", trust_env=False).json()
    assert (message.get("subject"), message["comment"]) == (None, "c")


def test_a_request_to_an_owner_that_is_frozen_ends_once_another_follows(
    start_node: StartNode,
) -> None:
    owner, standby = start_node(), start_node()
    standby.api.ok_publish("t", 1)
    url = f"{standby.base_url}/v1/topics/t"

    os.killpg(owner.process.pid, signal.SIGSTOP)
    try:
        read = httpx.get(url, trust_env=False, timeout=TAKEN_OVER_S)
    finally:
        os.killpg(owner.process.pid, signal.SIGCONT)

    assert (read.status_code, read.json()["code"]) == (503, "no_owner")


def test_a_stream_passes_through_a_broker_that_stands_by(start_node: StartNode) -> None:
    start_node()
    standby = start_node()
    standby.api.ok_publish("t", 1)

    url = f"{standby.base_url}/v1/topics/t/stream"
    with httpx.stream("GET", url, headers={"Last-Event-ID": "0"}, trust_env=False) as stream:
        lines = stream.iter_lines()
        assert any(line == "id: 1" for line in lines)
        standby.api.ok_publish("t", 2)
        assert any(line == "id: 2" for line in lines)


def test_a_broker_that_stops_hands_over_at_once(start_node: StartNode, endpoint: Endpoint) -> None:
    first, second = start_node(), start_node()
    first.api.ok_subscribe("t", endpoint.url, ordering="key", retry=QUICK_RETRY)
    with Publisher([first, second], "t") as publisher:
        wait_for(publisher, 50)
        assert first.stop() == 0
        eventually(lambda: owns(second), within_s=TAKEN_OVER_S)
        wait_for(publisher, 50)

    assert_all_came_in_order(endpoint, publisher)


def test_a_killed_brokers_work_is_taken_over(start_node: StartNode, endpoint: Endpoint) -> None:
    first, second = start_node(), start_node()
    first.api.ok_subscribe("t", endpoint.url, ordering="key", retry=QUICK_RETRY)
    with Publisher([first, second], "t") as publisher:
        wait_for(publisher, 100)
        first.kill()
        eventually(lambda: owns(second), within_s=TAKEN_OVER_S)
        wait_for(publisher, 100)

    assert_all_came_in_order(endpoint, publisher)


def test_a_frozen_broker_sends_nothing_once_it_goes_on(
    start_node: StartNode, endpoint: Endpoint
) -> None:
    first, second = start_node(), start_node()
    first.api.ok_subscribe("t", endpoint.url, ordering="key", retry=QUICK_RETRY)
    with Publisher([first, second], "t") as publisher:
        wait_for(publisher, 100)
        os.killpg(first.process.pid, signal.SIGSTOP)
        eventually(lambda: owns(second), within_s=TAKEN_OVER_S)
        # What the first had sent, and not written down, comes again from the second: not later.
        eventually(lambda: second.api.ok_status("t")["backlog"] == 0, within_s=TAKEN_OVER_S)
        thawed_at = time.monotonic()
        os.killpg(first.process.pid, signal.SIGCONT)
        wait_for(publisher, 100)
        eventually(lambda: first.is_ready() and not owns(first), within_s=TAKEN_OVER_S)

    assert_all_came_in_order(endpoint, publisher)
    requests = list(endpoint.requests)
    before = {int(each.body) for each in requests if each.at < thawed_at}
    after = {int(each.body) for each in requests if each.at >= thawed_at}
    assert after, "deliveries went on"
    assert not before & after, "what had come came again from the one that was frozen"


def test_publishes_outlive_a_server_that_is_killed(
    start_node: StartNode, nats: NatsServer, endpoint: Endpoint
) -> None:
    node = start_node()
    node.api.ok_subscribe("t", endpoint.url, ordering="key", retry=QUICK_RETRY)
    with Publisher([node], "t") as publisher:
        wait_for(publisher, 100)
        nats.kill()
        nats.start()
        wait_for(publisher, 100)

    assert_all_came_in_order(endpoint, publisher)


def test_what_needs_a_server_that_is_gone_is_refused_and_hangs_nobody(
    start_node: StartNode, nats: NatsServer
) -> None:
    node = start_node()
    node.api.ok_publish("t", 1)
    nats.kill()

    answer = httpx.post(
        f"{node.base_url}/v1/topics/t/messages", json=2, trust_env=False, timeout=40
    )

    assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown")
    nats.start()
    eventually(lambda: owns(node), within_s=TAKEN_OVER_S)
    node.api.ok_publish("t", 3)


def test_the_loss_of_a_leader_loses_nothing(
    start_node: StartNode, nats_cluster: NatsCluster, endpoint: Endpoint
) -> None:
    first, second = start_node(), start_node()
    first.api.ok_subscribe("t", endpoint.url, ordering="key", retry=QUICK_RETRY)
    stream = parse_address("nats://x/drill").stream
    with Publisher([first, second], "t") as publisher:
        wait_for(publisher, 100)
        nats_cluster.leader(stream).kill()
        wait_for(publisher, 100)

    assert_all_came_in_order(endpoint, publisher)


def test_a_broker_leaves_a_server_that_is_frozen(
    start_node: StartNode, nats_cluster: NatsCluster
) -> None:
    """A frozen server, or one that no packet reaches any more, closes no connection."""
    first, second = start_node(), start_node()
    first.api.ok_publish("t", 1)
    first.kill()
    server = eventually(lambda: next((s for s in nats_cluster.servers if s.has_clients()), None))
    server.freeze()

    eventually(lambda: owns(second), within_s=TAKEN_OVER_S)
    second.api.ok_publish("t", 2)


def test_store_moves_from_its_file_with_everything_in_it(
    start_broker: StartBroker, start_node: StartNode, nats: NatsServer, endpoint: Endpoint
) -> None:
    alone = start_broker()
    endpoint.script = lambda request: Answer(422 if request.key == "dead" else 500)
    alone.api.ok_subscribe("t", endpoint.url, retry=SLOW_RETRY)
    alone.api.ok_publish("t", "a", key="dead")
    alone.api.ok_publish("t", "b", key="waits")
    later = {"id": "later", "source": "/p", "deliverat": "2100-01-01T00:00:00Z"}
    good(alone.api.publish_event("t", event(**later)))
    eventually(lambda: alone.api.dead_letters("t") and alone.api.ok_status("t")["retrying"])
    alone.stop()
    url = f"nats://{nats.address}/drill"

    moved = run_broker("migrate", f"sqlite:///{alone.folder / 'broker.db'}", url)
    again = run_broker("migrate", f"sqlite:///{alone.folder / 'broker.db'}", url)

    assert (moved.returncode, moved.stderr) == (0, "")
    assert again.returncode == 1, "there is something now"
    endpoint.script = lambda request: Answer()
    node = start_node()
    assert [each["data"] for each in node.api.all_messages("t")] == ["a", "b"]
    assert [each["sequence"] for each in node.api.dead_letters("t")] == [1]
    assert [each["id"] for each in node.api.scheduled("t")] == ["later"]
    assert node.api.ok_publish("t", "c", key="other") == 3
    eventually(lambda: 3 in endpoint.sequences)
    prefixes = {request.webhook_id.rpartition("_")[0] for request in list(endpoint.requests)}
    assert len(prefixes) == 1, "messages have the names they had"


def test_nothing_is_moved_while_a_broker_uses_it(
    start_broker: StartBroker, nats: NatsServer
) -> None:
    store = f"sqlite:///{start_broker().folder / 'broker.db'}"
    done = run_broker("migrate", store, f"nats://{nats.address}/drill")
    assert done.returncode == 2
    assert "Another broker" in done.stderr


def test_a_broker_with_an_empty_folder_begins_with_a_snapshot(
    start_node: StartNode, nats: NatsServer
) -> None:
    """64 MiB of writes make the owner put a snapshot into the object store."""
    first = start_node()
    half = "x" * (512 * 1024)
    for n in range(140):
        first.api.ok_publish("t", f"{n} {half}")
    eventually(
        lambda: "snapshot" in first.log() and not first.log().count("No snapshot"), within_s=60
    )
    second = start_node()
    first.kill()
    eventually(lambda: owns(second), within_s=TAKEN_OVER_S)

    assert "made anew from a snapshot" in second.log()
    numbers = [each["data"].split()[0] for each in second.api.all_messages("t", limit=10)]
    assert numbers == [str(n) for n in range(140)]


def test_next_owner_signs_with_the_secrets_that_the_last_one_encrypted(
    start_node: StartNode, endpoint: Endpoint
) -> None:
    secret, key = new_secret(), {"BROKER_ENCRYPTION_KEY": "ab" * 32}
    first, second = start_node(**key), start_node(**key)
    first.api.ok_subscribe("t", endpoint.url, secret=secret, retry=QUICK_RETRY)
    eventually(lambda: second.is_answering())

    first.kill()
    eventually(lambda: owns(second), within_s=TAKEN_OVER_S)
    sequence = second.api.ok_publish("t", 1)
    eventually(lambda: sequence in endpoint.sequences)

    verify(endpoint.requests[-1], secret)
    for node in (first, second):
        for file in (node.folder / "replica").iterdir():
            assert secret.removeprefix("whsec_").encode() not in file.read_bytes()
