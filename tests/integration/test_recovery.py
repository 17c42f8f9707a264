"""kill -9 at the worst moments: nothing that was answered is lost, no key loses its order."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from dataclasses import dataclass, field

import httpx
import pytest

from support.api import SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess, StartBroker, has_ended
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, always, by_attempt
from support.eventually import eventually
from support.signature import new_secret, verify


@dataclass
class Publishers:
    """Threads that publish, each its own key, until the broker goes away."""

    api: Api
    topic: str
    acknowledged: dict[str, int] = field(default_factory=dict)

    def start(self, count: int, run: int) -> list[threading.Thread]:
        """Start `count` threads; `run` keeps the ids of one start apart from another's."""
        threads = [
            threading.Thread(target=self._publish, args=(f"{run}-{number}",))
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        return threads

    def wait_for(self, count: int) -> None:
        """Wait until so many messages have been answered with 201."""
        eventually(lambda: len(self.acknowledged) >= count)

    def _publish(self, key: str) -> None:
        with Api(self.api.base_url) as api:
            for n in itertools.count():
                name = f"{key}-{n}"
                try:
                    answer = api.publish(self.topic, n, id=name, source="/p", key=key)
                except httpx.TransportError:
                    return
                if answer.status_code != 201:
                    return
                self.acknowledged[name] = answer.json()["sequence"]


def assert_keys_in_order(endpoint: Endpoint) -> None:
    """Check that the first deliveries of each key came in the order of the log."""
    firsts: dict[str | None, dict[int, None]] = defaultdict(dict)
    for request in endpoint.requests:
        for each in request.events:
            firsts[each.get("partitionkey")].setdefault(int(each["sequence"]))
    for key, sequences in firsts.items():
        assert key is None or list(sequences) == sorted(sequences), key


def test_kill_while_publishing_loses_nothing_that_was_answered(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url)
    publishers = Publishers(broker.api, "t")

    for run in range(2):
        threads = publishers.start(8, run)
        publishers.wait_for(len(publishers.acknowledged) + 300)
        broker.kill()
        for thread in threads:
            thread.join()
        broker.start()

    stored = list(broker.api.all_messages("t", limit=500))
    sequences = [message["sequence"] for message in stored]
    by_id = {message["id"]: message["sequence"] for message in stored}
    assert sequences == sorted(set(sequences))
    assert len(by_id) == len(stored)
    assert by_id.items() >= publishers.acknowledged.items()
    assert broker.api.ok_publish("t", "after") > sequences[-1]
    eventually(lambda: set(endpoint.sequences) >= set(sequences), within_s=30)
    assert_keys_in_order(endpoint)


def test_kill_while_publishing_batches_keeps_each_whole_or_not_at_all(
    start_broker: StartBroker,
) -> None:
    broker = start_broker()
    answered: list[int] = []

    def publish() -> None:
        with Api(broker.base_url) as api:
            for part in itertools.count():
                events = [event(id=f"{part}-{n}", data=[part, n]) for n in range(50)]
                try:
                    good(api.publish_batch("t", events))
                except httpx.TransportError:
                    return
                answered.append(part)

    thread = threading.Thread(target=publish)
    thread.start()
    eventually(lambda: len(answered) >= 20)
    broker.kill()
    thread.join()
    broker.start()

    stored: dict[int, list[int]] = defaultdict(list)
    for message in broker.api.all_messages("t", limit=500):
        part, n = message["data"]
        stored[part].append(n)
    assert stored.keys() >= set(answered)
    assert all(members == list(range(50)) for members in stored.values())


def test_known_id_is_still_known_after_kill(start_broker: StartBroker) -> None:
    broker = start_broker()
    sequence = broker.api.ok_publish("t", 1, id="m")

    broker.kill()
    broker.start()

    again = good(broker.api.publish("t", 1, id="m"))
    assert (again["sequence"], again["duplicate"]) == (sequence, True)
    assert broker.api.publish("t", 2, id="m").status_code == 409


def test_kill_while_delivering_delivers_everything_in_key_order(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(delay_s=0.01))
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url, max_in_flight=8)
    sequences: list[int] = []
    for part in range(10):
        events = [event(id=f"{part}-{n}", partitionkey="abcdefgh"[n % 8]) for n in range(40)]
        told = good(broker.api.publish_batch("t", events))["messages"]
        sequences += [entry["sequence"] for entry in told]

    for share in (0.2, 0.5, 0.7):
        endpoint.wait_for(int(share * len(sequences)))
        broker.kill()
        broker.start()

    eventually(lambda: broker.api.ok_status("t")["backlog"] == 0, within_s=30)
    assert set(endpoint.sequences) == set(sequences)
    assert_keys_in_order(endpoint)


def test_kill_while_some_fail_keeps_order_and_attempts(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: (
        Answer(404) if request.sequence % 5 == 0 and request.attempt < 3 else Answer(200)
    )
    broker = start_broker()
    retry = {"max_attempts": 0, "min_backoff_s": 0.1, "max_backoff_s": 0.3}
    broker.api.ok_subscribe("t", endpoint.url, retry=retry)
    events = [event(id=str(n), partitionkey=f"k{n % 20}") for n in range(300)]
    told = good(broker.api.publish_batch("t", events))["messages"]
    sequences = {entry["sequence"] for entry in told}

    for wanted in (50, 150):
        endpoint.wait_for(wanted)
        broker.kill()
        broker.start()

    eventually(lambda: broker.api.ok_status("t")["backlog"] == 0, within_s=30)
    assert set(endpoint.sequences) == sequences
    assert_keys_in_order(endpoint)
    assert broker.api.ok_status("t")["dead_letters"] == 0


def test_kill_of_the_courier_loses_nothing(start_broker: StartBroker, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(delay_s=0.02))
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url, max_in_flight=8)
    events = [event(id=str(n), partitionkey=f"k{n % 10}") for n in range(200)]
    told = good(broker.api.publish_batch("t", events))["messages"]
    sequences = {entry["sequence"] for entry in told}
    worker = broker.worker().pid

    for wanted in (20, 80):
        endpoint.wait_for(wanted)
        victim = broker.courier()
        victim.kill()
        victim.wait(10)

    eventually(lambda: broker.api.ok_status("t")["backlog"] == 0, within_s=30)
    assert set(endpoint.sequences) == sequences
    assert_keys_in_order(endpoint)
    assert broker.worker().pid == worker
    assert broker.is_ready()


def test_kill_of_a_courier_disturbs_none_of_another(
    start_broker: StartBroker, endpoint: Endpoint, other_endpoint: Endpoint
) -> None:
    broker = start_broker(BROKER_COURIERS="2")
    for name, receiver in {"first": endpoint, "second": other_endpoint}.items():
        receiver.script = always(Answer(delay_s=0.02))
        broker.api.ok_subscribe("t", receiver.url, name, max_in_flight=8)
    victim, survivor = broker.couriers(2)
    events = [event(id=str(n), partitionkey=f"k{n % 10}") for n in range(200)]
    told = good(broker.api.publish_batch("t", events))["messages"]
    sequences = [entry["sequence"] for entry in told]

    for wanted in (20, 80):
        endpoint.wait_for(wanted)
        victim.kill()
        victim.wait(10)
        (victim,) = [each for each in broker.couriers(2) if each != survivor]

    for name in ("first", "second"):
        eventually(lambda name=name: broker.api.ok_status("t", name)["backlog"] == 0, within_s=30)
    assert set(endpoint.sequences) == set(sequences)
    assert sorted(other_endpoint.sequences) == sequences
    for receiver in (endpoint, other_endpoint):
        assert_keys_in_order(receiver)
    eventually(broker.is_ready)


def test_kill_of_the_worker_brings_a_new_one(start_broker: StartBroker, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(delay_s=0.02))
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url, max_in_flight=8)
    events = [event(id=str(n), partitionkey=f"k{n % 10}") for n in range(200)]
    told = good(broker.api.publish_batch("t", events))["messages"]
    worker, courier = broker.worker(), broker.courier()

    endpoint.wait_for(20)
    worker.kill()

    eventually(lambda: has_ended(courier))
    eventually(broker.is_ready, within_s=30)
    eventually(lambda: broker.api.ok_status("t")["backlog"] == 0, within_s=30)
    assert set(endpoint.sequences) == {entry["sequence"] for entry in told}
    assert_keys_in_order(endpoint)
    assert broker.worker().pid != worker.pid


def test_attempt_number_and_webhook_id_survive_kill(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    endpoint.script = by_attempt(Answer(500), Answer(500), Answer(200))
    secret = new_secret()
    broker = start_broker()
    retry = {"max_attempts": 9, "min_backoff_s": 2, "max_backoff_s": 2}
    broker.api.ok_subscribe("t", endpoint.url, retry=retry, secret=secret)
    broker.api.ok_publish("t", {"n": 1})
    eventually(lambda: broker.api.ok_status("t")["retrying"] == 1)

    broker.kill()
    broker.start()
    eventually(lambda: broker.api.ok_status("t")["backlog"] == 0)

    attempts = [request.attempt for request in endpoint.requests]
    assert attempts == sorted(attempts)
    assert {1, 2, 3} == set(attempts)
    assert len({request.webhook_id for request in endpoint.requests}) == 1
    for request in endpoint.requests:
        verify(request, secret)


@pytest.mark.parametrize("end", [BrokerProcess.kill, BrokerProcess.stop])
def test_retry_schedule_survives_a_restart(
    start_broker: StartBroker, endpoint: Endpoint, end: object
) -> None:
    endpoint.script = lambda request: Answer(500 if request.key == "bad" else 200)
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url, retry=SLOW_RETRY)
    bad = [broker.api.ok_publish("t", n, key="bad") for n in range(3)]
    eventually(lambda: broker.api.ok_status("t")["retrying"] == 1)

    assert callable(end)
    end(broker)
    broker.start()
    fresh = [broker.api.ok_publish("t", n, key="good") for n in range(10)]
    eventually(lambda: set(fresh) <= set(endpoint.sequences))

    eventually(lambda: broker.api.ok_status("t")["backlog"] == 3)
    assert broker.api.ok_status("t")["retrying"] == 1
    assert [each for each in endpoint.sequences if each in bad] == bad[:1]


def test_dead_letters_and_settings_survive_kill(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(422))
    broker = start_broker()
    broker.api.put_topic("t", dedup_window_s=77)
    broker.api.ok_subscribe("t", endpoint.url, ordering="topic", headers={"X-A": "b"})
    broker.api.ok_publish("t", 1)
    before = eventually(lambda: _with_dead_letter(broker.api))

    broker.kill()
    broker.start()

    after = broker.api.ok_status("t")
    changing = {"last_error", "oldest_unsettled_s"}
    assert {name: value for name, value in after.items() if name not in changing} == {
        name: value for name, value in before.items() if name not in changing
    }
    assert good(broker.api.get_topic("t"))["dedup_window_s"] == 77
    endpoint.script = always(Answer(200))
    sequence = broker.api.ok_publish("t", 2)
    request = eventually(
        lambda: next((each for each in endpoint.requests if each.sequence == sequence), None)
    )
    assert request.headers["x-a"] == "b"


def test_settled_messages_are_not_sent_again_after_a_clean_stop(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url)
    sequences = [broker.api.ok_publish("t", n, key=f"k{n % 3}") for n in range(50)]
    eventually(lambda: broker.api.ok_status("t")["backlog"] == 0)

    assert broker.stop() == 0
    broker.start()
    last = broker.api.ok_publish("t", "last")
    eventually(lambda: last in endpoint.sequences)

    assert sorted(endpoint.sequences) == [*sequences, last]


def test_kill_between_two_answers_of_a_key_repeats_but_never_reorders(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    first_seen = threading.Event()
    release = threading.Event()

    def hold_first(request: Received) -> Answer:
        if not first_seen.is_set():
            first_seen.set()
            release.wait(20)
        return Answer()

    endpoint.script = hold_first
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url)
    sequences = [broker.api.ok_publish("t", n, key="k") for n in range(3)]
    assert first_seen.wait(10)

    broker.kill()
    release.set()
    broker.start()

    eventually(lambda: set(endpoint.sequences) == set(sequences))
    assert endpoint.first_deliveries == sequences
    assert endpoint.sequences.count(sequences[0]) == 2


def _with_dead_letter(api: Api) -> dict[str, object] | None:
    shown = api.ok_status("t")
    return shown if shown["dead_letters"] == 1 and shown["in_flight"] == 0 else None
