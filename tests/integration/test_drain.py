"""SIGTERM: what is in flight is finished, the rest waits; nothing is lost, nothing doubled."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field

import httpx

from support.api import INSTANT_RETRY, Api, good
from support.broker_process import BrokerProcess, StartBroker
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, always, receipt
from support.eventually import eventually

OK = Answer(200)


@dataclass
class Persistent:
    """Threads that publish, and repeat with the same id whatever is not answered with 201."""

    base_url: str
    topic: str
    acknowledged: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)

    def start(self, count: int) -> list[threading.Thread]:
        """Begin, each thread with a key of its own."""
        threads = [threading.Thread(target=self._publish, args=(f"k{n}",)) for n in range(count)]
        for thread in threads:
            thread.start()
        return threads

    def _publish(self, key: str) -> None:
        with Api(self.base_url) as api:
            for n in itertools.count():
                if self.enough.is_set():
                    return
                self._insist(api, key, n)

    def _insist(self, api: Api, key: str, n: int) -> None:
        id = f"{key}-{n}"
        while True:
            try:
                answer = api.publish(self.topic, n, id=id, source="/p", key=key)
            except httpx.TransportError:
                self.enough.wait(0.02)
                continue
            if answer.status_code == 503:
                continue
            if answer.status_code not in (200, 201):
                self.faults.append(answer.text)
                return
            self.acknowledged[id] = answer.json()["sequence"]
            return


def test_restarts_under_load_lose_nothing_and_double_nothing(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(200, delay_s=0.005))
    restartable.api.ok_subscribe(topic, endpoint.url, max_in_flight=16)
    publishers = Persistent(restartable.base_url, topic)
    threads = publishers.start(6)

    for _ in range(2):
        wanted = len(publishers.acknowledged) + 150
        eventually(lambda wanted=wanted: len(publishers.acknowledged) >= wanted)
        assert restartable.stop() == 0
        restartable.start()
    publishers.enough.set()
    for thread in threads:
        thread.join()
    eventually(lambda: restartable.api.backlog(topic) == 0, within_s=30)

    assert publishers.faults == []
    stored = [each["sequence"] for each in restartable.api.all_messages(topic, limit=500)]
    assert sorted(publishers.acknowledged.values()) == stored
    assert sorted(endpoint.sequences) == stored
    for key in range(6):
        of_key = [each.sequence for each in endpoint.requests if each.key == f"k{key}"]
        assert of_key == sorted(of_key)


def test_what_is_not_sent_before_the_end_comes_after_the_start(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(200, delay_s=0.4))
    api = restartable.api
    api.ok_subscribe(topic, endpoint.url, max_in_flight=4)
    told = good(api.publish_batch(topic, [event(id=str(n)) for n in range(60)]))["messages"]
    eventually(lambda: len(endpoint.requests) == 4)

    assert restartable.stop() == 0
    ended = [step for step in endpoint.timeline if step.answer is not None]
    assert len(ended) == len(endpoint.requests) < 60
    endpoint.script = always(OK)
    restartable.start()
    eventually(lambda: restartable.api.backlog(topic) == 0)

    assert sorted(endpoint.sequences) == [each["sequence"] for each in told]


def test_outcomes_that_come_while_it_drains_are_kept(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    release = threading.Event()
    statuses = {b"0": 200, b"1": 422, b"2": 503}

    def hold(request: Received) -> Answer:
        release.wait(20)
        headers = {"Retry-After": "3600"} if request.body == b"2" else {}
        return Answer(statuses[request.body], headers)

    endpoint.script = hold
    restartable.api.ok_subscribe(topic, endpoint.url)
    sequences = [restartable.api.ok_publish(topic, n, key=f"k{n}") for n in range(3)]
    eventually(lambda: len(endpoint.requests) == 3)

    restartable.process.terminate()
    eventually(lambda: not restartable.is_answering())
    release.set()
    assert restartable.wait() == 0
    restartable.start()

    shown = restartable.api.ok_status(topic)
    assert (shown["backlog"], shown["retrying"], shown["dead_letters"]) == (1, 1, 1)
    assert [each["sequence"] for each in restartable.api.dead_letters(topic)] == [sequences[1]]
    (waiting,) = restartable.api.deliveries(topic, "retrying")
    assert (waiting["sequence"], waiting["attempt"]) == (sequences[2], 2)
    assert sorted(endpoint.sequences) == sequences


def test_drain_of_exactly_once_processes_nothing_twice(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(200, receipt().headers, delay_s=0.02))
    restartable.api.ok_subscribe(
        topic, endpoint.url, guarantee="exactly-once", max_in_flight=8, retry=INSTANT_RETRY
    )
    events = [event(id=str(n), partitionkey=f"k{n % 20}") for n in range(200)]
    told = good(restartable.api.publish_batch(topic, events))["messages"]

    eventually(lambda: len(endpoint.requests) >= 60)
    assert restartable.stop() == 0
    restartable.start()
    eventually(lambda: restartable.api.backlog(topic) == 0)

    assert sorted(endpoint.sequences) == [each["sequence"] for each in told]


def test_drain_ends_after_its_time_though_a_request_hangs(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    release = threading.Event()

    def hang(request: Received) -> Answer:
        if request.key == "hangs":
            release.wait(60)
        return OK

    endpoint.script = hang
    broker = start_broker(BROKER_DRAIN_S="1")
    broker.api.ok_subscribe("t", endpoint.url, timeout_s=60)
    hung = broker.api.ok_publish("t", 1, key="hangs")
    fine = [broker.api.ok_publish("t", n, key="fine") for n in range(3)]
    eventually(lambda: len(endpoint.requests) == 4)
    eventually(lambda: broker.api.backlog("t") == 1)

    assert broker.stop() == 0
    release.set()
    broker.start()
    eventually(lambda: broker.api.backlog("t") == 0)

    assert endpoint.sequences.count(hung) == 2
    assert [each for each in endpoint.sequences if each in fine] == fine
