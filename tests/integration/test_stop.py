"""Stopping: SIGTERM, open connections, what is under way; one broker a folder."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import threading
import time

import httpx
import psutil
import pytest

from support.api import Api
from support.broker_process import BrokerProcess, StartBroker, has_ended
from support.endpoint import Answer, Endpoint, Received, always
from support.eventually import eventually
from support.workers import terminate_each_at_once


def test_sigterm_stops_an_idle_broker_cleanly(start_broker: StartBroker) -> None:
    broker = start_broker()
    processes = [broker.courier(), broker.worker()]

    assert broker.stop() == 0
    assert all(has_ended(process) for process in processes)
    assert "Traceback" not in broker.log()


def test_sigint_stops_it_cleanly(start_broker: StartBroker) -> None:
    broker = start_broker()

    broker.process.send_signal(signal.SIGINT)

    assert broker.wait() == 0
    assert "Traceback" not in broker.log()


@pytest.mark.parametrize("age_s", [0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_sigterm_is_heeded_by_a_worker_that_starts(start_broker: StartBroker, age_s: float) -> None:
    broker = start_broker()
    old = broker.worker()
    old.kill()
    arbiter = psutil.Process(broker.process.pid)
    eventually(lambda: any(child != old for child in arbiter.children()))

    time.sleep(age_s)
    broker.process.terminate()

    assert broker.wait(within_s=20) == 0  # a worker that forgot it is killed after 30


def test_worker_heeds_a_sigterm_that_comes_as_soon_as_it_is_there(
    start_broker: StartBroker,
) -> None:
    broker = start_broker()

    terminate_each_at_once(broker.process.pid, count=5)

    assert broker.stop() == 0
    assert "Traceback" not in broker.log()


def test_sigterm_stops_with_connections_open(start_broker: StartBroker) -> None:
    broker = start_broker()
    silent, kept_alive, cut = b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /healthz HTT"
    with contextlib.ExitStack() as connections:
        for sent in (silent, kept_alive, cut) * 3:
            connection = socket.create_connection(("127.0.0.1", broker.port), timeout=10)
            connections.enter_context(connection).sendall(sent)
            if sent == kept_alive:
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")

        assert broker.stop() == 0
    assert "Traceback" not in broker.log()
    assert "Forcing close" not in broker.log()


def test_silent_connections_hold_up_nobody(start_broker: StartBroker) -> None:
    broker = start_broker()
    with contextlib.ExitStack() as connections:
        for _ in range(200):
            connections.enter_context(socket.create_connection(("127.0.0.1", broker.port)))

        assert broker.api.ok_publish("t", 1) > 0


def test_sigterm_answers_every_publish_it_took(start_broker: StartBroker) -> None:
    broker = start_broker()
    acknowledged: set[int] = set()
    faults: list[str] = []

    def publish() -> None:
        with Api(broker.base_url) as api:
            while True:
                try:
                    answer = api.publish("t", 1)
                except httpx.TransportError:
                    return
                if answer.status_code == 201:
                    acknowledged.add(answer.json()["sequence"])
                elif answer.status_code != 503:
                    faults.append(answer.text)
                    return

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(acknowledged) > 50)
    assert broker.stop() == 0
    for thread in threads:
        thread.join()

    broker.start()
    stored = {message["sequence"] for message in broker.api.all_messages("t", limit=500)}
    assert stored >= acknowledged
    assert faults == []


def test_sigterm_lets_the_requests_under_way_end(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(delay_s=1))
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url)
    sequences = [broker.api.ok_publish("t", n) for n in range(5)]
    eventually(lambda: len(endpoint.requests) == 5)

    assert broker.stop() == 0
    broker.start()
    last = broker.api.ok_publish("t", "last")
    eventually(lambda: last in endpoint.sequences)

    assert sorted(endpoint.sequences) == [*sequences, last]


def test_sigterm_does_not_wait_longer_than_the_drain(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    release = threading.Event()

    def hold(_request: Received) -> Answer:
        release.wait(60)
        return Answer()

    endpoint.script = hold
    broker = start_broker(BROKER_DRAIN_S="1")
    broker.api.ok_subscribe("t", endpoint.url, timeout_s=60)
    sequence = broker.api.ok_publish("t", 1)
    eventually(lambda: endpoint.requests)

    code = broker.stop()
    release.set()

    assert code == 0
    broker.start()
    eventually(lambda: broker.api.ok_status("t")["backlog"] == 0)
    assert endpoint.sequences == [sequence, sequence]


def test_second_broker_on_a_folder_is_refused_with_a_sentence(
    start_broker: StartBroker,
) -> None:
    first = start_broker()
    store = f"sqlite:///{first.folder / 'broker.db'}"
    other_folder = first.folder / "other"
    other_folder.mkdir()
    second = BrokerProcess(other_folder, BROKER_STORE=store)
    try:
        second.launch()

        assert second.wait() != 0
        assert re.search(r"another|already|in use|locked", second.log(), re.IGNORECASE)
        assert str(first.folder) in second.log()
        assert "Traceback" not in second.log()
        assert first.is_ready()
        assert first.api.ok_publish("t", 1) > 0
    finally:
        second.close()


def test_folder_is_free_again_after_a_kill(start_broker: StartBroker) -> None:
    broker = start_broker()
    children = psutil.Process(broker.process.pid).children(recursive=True)
    broker.process.kill()
    broker.process.wait()

    eventually(lambda: all(has_ended(child) for child in children))

    broker.start()
    assert broker.api.ok_publish("t", 1) > 0
