"""At most once: every message is tried once and never again, whatever happens to whom."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict

import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess, StartBroker, free_port
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, always, verdict
from support.eventually import eventually

OK = Answer(200)
# A broker that retried would do so at once, before the next message of the key.
RETRY = {"max_attempts": 0, "min_backoff_s": 0, "max_backoff_s": 0}


def subscribe(api: Api, topic: str, url: str, **fields: object) -> None:
    """Create the subscription `s` that takes each message at most once."""
    api.ok_subscribe(topic, url, guarantee="at-most-once", retry=RETRY, **fields)


def done(api: Api, topic: str) -> bool:
    """Say whether nothing is owed and nothing is out: what is out is owed no more."""
    shown = api.ok_status(topic)
    owed = {name: shown[name] for name in ("backlog", "in_flight", "state", "last_error")}
    assert (owed["backlog"], owed["in_flight"]) == (0, 0), owed
    return True


def finish(api: Api, topic: str, endpoint: Endpoint) -> list[int]:
    """Publish one more message, wait for the end of everything, and give what came before it.

    A message is owed no more shortly before it is out: the last one tells that all others are.
    """
    last = api.ok_publish(topic, "last")
    eventually(lambda: last in endpoint.sequences and done(api, topic))
    return [each for each in endpoint.sequences if each != last]


def publish_many(api: Api, topic: str, count: int, keys: int = 0) -> list[int]:
    """Publish a batch, over some keys or without one, and give its sequences."""
    key = {n: {"partitionkey": f"k{n % keys}"} if keys else {} for n in range(count)}
    events = [event(id=str(n), data=n, **key[n]) for n in range(count)]
    return [each["sequence"] for each in good(api.publish_batch(topic, events))["messages"]]


def test_guarantee_is_shown(api: Api, topic: str, endpoint: Endpoint) -> None:
    subscribe(api, topic, endpoint.url)

    assert api.ok_status(topic)["guarantee"] == "at-most-once"


@pytest.mark.parametrize(
    "failure",
    [
        Answer(500),
        Answer(404),
        Answer(422),
        Answer(302, {"Location": "/elsewhere"}),
        Answer(hang_up=True),
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"),
        verdict("retry"),
        verdict("retry", {"Retry-After": "0"}),
        verdict("dead-letter"),
        verdict("later"),
    ],
    ids=lambda answer: f"{answer.status}-{answer.hang_up}-{answer.headers}",
)
def test_failure_is_never_repeated(
    api: Api, topic: str, endpoint: Endpoint, failure: Answer
) -> None:
    endpoint.script = lambda request: failure if request.body == b"0" else OK
    subscribe(api, topic, endpoint.url)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]

    eventually(lambda: sequences[-1] in endpoint.sequences and done(api, topic))

    assert endpoint.sequences == sequences
    shown = api.ok_status(topic)
    assert (shown["dead_letters"], shown["retrying"]) == (0, 0)


def test_connection_used_before_that_breaks_is_no_reason_to_repeat(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: Answer(hang_up=request.body == b"1")
    subscribe(api, topic, endpoint.url)

    sequences = []
    for n in range(3):  # one by one, so that the second goes where the first did
        sequences.append(api.ok_publish(topic, n, key="k"))
        eventually(lambda: sequences[-1] in endpoint.sequences and done(api, topic))

    assert endpoint.sequences == sequences


def test_time_out_is_never_repeated(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: Answer(delay_s=1.0 if request.body == b"0" else 0)
    subscribe(api, topic, endpoint.url, timeout_s=0.2)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]

    eventually(lambda: sequences[-1] in endpoint.sequences and done(api, topic))

    assert endpoint.sequences == sequences
    assert api.ok_status(topic)["last_error"]


def test_refused_connection_is_never_repeated(api: Api, topic: str) -> None:
    port = free_port()
    subscribe(api, topic, f"http://127.0.0.1:{port}/hook")
    api.ok_publish(topic, 0, key="k")
    eventually(lambda: api.ok_status(topic)["last_error"] and done(api, topic))

    with Endpoint(port=port) as endpoint:
        sequence = api.ok_publish(topic, 1, key="k")
        eventually(lambda: endpoint.requests and done(api, topic))

        assert endpoint.sequences == [sequence]


def test_failed_batch_is_never_repeated(api: Api, topic: str, endpoint: Endpoint) -> None:
    answers = itertools.cycle([Answer(500), OK, Answer(200, body=b'{"retry": [0, 1]}')])
    lock = threading.Lock()

    def in_turn(_request: Received) -> Answer:
        with lock:
            return next(answers)

    endpoint.script = in_turn
    sequences = publish_many(api, topic, 40, keys=3)
    subscribe(api, topic, endpoint.url, format="batch", max_batch=5, start="beginning")

    eventually(lambda: done(api, topic) and len(endpoint.sequences) >= 40)

    assert sorted(endpoint.sequences) == sequences


def test_next_message_of_a_key_waits_for_the_end_of_the_one_before(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: Answer(500 if request.sequence % 2 else 200, delay_s=0.005)
    subscribe(api, topic, endpoint.url)
    sequences = publish_many(api, topic, 60, keys=4)

    eventually(lambda: len(endpoint.sequences) == 60)

    out: set[str | None] = set()
    seen: dict[str | None, list[int]] = defaultdict(list)
    for step in list(endpoint.timeline):
        if step.answer is not None:
            out.discard(step.request.key)
        else:
            assert step.request.key not in out
            out.add(step.request.key)
            seen[step.request.key].append(step.request.sequence)
    assert sorted(seen.values()) == [sequences[n::4] for n in range(4)]


def test_kill_repeats_nothing_and_loses_no_more_than_was_out(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(delay_s=0.01))
    subscribe(restartable.api, topic, endpoint.url, max_in_flight=4)
    sequences = publish_many(restartable.api, topic, 300, keys=8)

    for wanted in (50, 150):
        endpoint.wait_for(wanted)
        restartable.kill()
        restartable.start()

    delivered = finish(restartable.api, topic, endpoint)
    assert len(delivered) == len(set(delivered))
    assert set(delivered) <= set(sequences)
    assert len(delivered) >= len(sequences) - 2 * 4


def test_clean_stop_repeats_nothing_and_loses_nothing(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(delay_s=0.01))
    subscribe(restartable.api, topic, endpoint.url, max_in_flight=4)
    sequences = publish_many(restartable.api, topic, 300)

    endpoint.wait_for(100)
    assert restartable.stop() == 0
    restartable.start()

    assert sorted(finish(restartable.api, topic, endpoint)) == sequences


def test_kill_of_the_courier_repeats_nothing(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(delay_s=0.02))
    subscribe(restartable.api, topic, endpoint.url, max_in_flight=4)
    sequences = publish_many(restartable.api, topic, 150, keys=8)

    endpoint.wait_for(30)
    restartable.courier().kill()

    delivered = finish(restartable.api, topic, endpoint)
    assert len(delivered) == len(set(delivered))
    assert len(delivered) >= len(sequences) - 4


def test_kill_of_a_courier_repeats_nothing_and_leaves_what_another_sends(
    start_broker: StartBroker, endpoint: Endpoint, other_endpoint: Endpoint
) -> None:
    broker = start_broker(BROKER_COURIERS="2")
    for name, receiver in {"first": endpoint, "second": other_endpoint}.items():
        receiver.script = always(Answer(delay_s=0.02))
        broker.api.ok_subscribe(
            "t", receiver.url, name, guarantee="at-most-once", retry=RETRY, max_in_flight=4
        )
    victim = broker.couriers(2)[0]
    sequences = publish_many(broker.api, "t", 150, keys=8)

    endpoint.wait_for(30)
    victim.kill()

    last = broker.api.ok_publish("t", "last")
    for receiver in (endpoint, other_endpoint):
        eventually(lambda receiver=receiver: last in receiver.sequences)
    eventually(lambda: len(other_endpoint.sequences) > len(sequences))
    assert sorted(other_endpoint.sequences) == [*sequences, last]
    assert len(endpoint.sequences) == len(set(endpoint.sequences))
    assert len(endpoint.sequences) > len(sequences) - 4


def test_paused_messages_survive_a_kill_untried(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    subscribe(restartable.api, topic, endpoint.url)
    restartable.api.pause(topic)
    sequences = publish_many(restartable.api, topic, 20)

    restartable.kill()
    restartable.start()
    assert restartable.api.backlog(topic) == 20
    restartable.api.resume(topic)

    assert sorted(finish(restartable.api, topic, endpoint)) == sequences


def test_410_pauses_only_what_comes_after(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: Answer(410 if request.body == b"0" else 200)
    subscribe(api, topic, endpoint.url)
    first = api.ok_publish(topic, 0, key="k")
    eventually(lambda: api.ok_status(topic)["state"] == "paused")
    second = api.ok_publish(topic, 1, key="k")
    assert api.backlog(topic) == 1

    api.resume(topic)

    assert finish(api, topic, endpoint) == [first, second]


def test_retry_after_delays_only_what_comes_after(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: (
        Answer(503, {"Retry-After": "1"}) if request.body == b"0" else OK
    )
    subscribe(api, topic, endpoint.url)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(2)]

    eventually(lambda: sequences[1] in endpoint.sequences)

    assert endpoint.sequences == sequences
    first, second = endpoint.requests
    assert second.at - first.at > 0.9


def test_open_circuit_spends_no_message(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = lambda _request: Answer(500 if len(endpoint.requests) <= 10 else 200)
    subscribe(api, topic, endpoint.url, max_in_flight=1)
    sequences = publish_many(api, topic, 15)

    eventually(lambda: len(endpoint.requests) == 15 and done(api, topic))

    assert sorted(endpoint.sequences) == sequences
    last, probe = endpoint.requests[9:11]
    assert probe.at - last.at > 0.9, "the circuit was never open"


def test_seek_makes_messages_owed_once_more(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(500))
    subscribe(api, topic, endpoint.url)
    sequences = publish_many(api, topic, 5)
    eventually(lambda: len(endpoint.requests) == 5 and done(api, topic))

    assert api.seek(topic, "beginning") == 5
    eventually(lambda: len(endpoint.requests) == 10 and done(api, topic))

    assert sorted(endpoint.sequences) == sorted(sequences * 2)
