"""Order: by key, by topic, by nothing, with endpoints that fail."""

from __future__ import annotations

import itertools
import random
import threading
from collections import defaultdict

import pytest

from support.api import QUICK_RETRY, SLOW_RETRY, Api, good
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, settled_before
from support.eventually import eventually


def publish_keys(api: Api, topic: str, keys: str, rounds: int) -> dict[str, list[int]]:
    """Publish `rounds` messages of each key in turn, and give the sequences of each."""
    sequences: dict[str, list[int]] = defaultdict(list)
    for n, key in itertools.product(range(rounds), keys):
        sequences[key].append(api.ok_publish(topic, n, key=key))
    return sequences


def assert_one_after_another(endpoint: Endpoint, sequences: list[int]) -> None:
    """Check that each message was settled before the next one was sent."""
    timeline = list(endpoint.timeline)
    for earlier, later in itertools.pairwise(sequences):
        assert settled_before(timeline, earlier, later), (earlier, later)


@pytest.mark.parametrize("ordering", ["key", "topic"])
def test_messages_of_a_key_come_one_after_another(
    api: Api, topic: str, endpoint: Endpoint, ordering: str
) -> None:
    api.ok_subscribe(topic, endpoint.url, ordering=ordering)
    sequences = publish_keys(api, topic, "abcde", 20)

    eventually(lambda: len(endpoint.sequences) == 100)

    for each in sequences.values():
        assert_one_after_another(endpoint, each)


def test_messages_of_a_key_keep_their_order_while_some_fail(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    dice = random.Random(7)
    failing = {n: dice.choice([0, 0, 0, 1, 2]) for n in range(1, 1000)}
    statuses = itertools.cycle([500, 404, 302, 503])
    endpoint.script = lambda request: (
        Answer(next(statuses))
        if request.attempt <= failing[request.sequence % 999 + 1]
        else Answer(200)
    )
    retry = {"max_attempts": 0, "min_backoff_s": 0.01, "max_backoff_s": 0.05}
    api.ok_subscribe(topic, endpoint.url, retry=retry)
    sequences = publish_keys(api, topic, "abcdefgh", 15)

    eventually(lambda: api.ok_status(topic)["backlog"] == 0, within_s=30)

    assert len(set(endpoint.sequences)) == 120
    for each in sequences.values():
        assert_one_after_another(endpoint, each)


def test_messages_of_a_key_keep_their_order_after_a_time_out(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    slow = [0]
    endpoint.script = lambda request: Answer(
        delay_s=1.0 if request.sequence == slow[0] and request.attempt == 1 else 0
    )
    slow[0] = api.ok_publish(topic, 0, key="k")
    later = [api.ok_publish(topic, n, key="k") for n in range(1, 4)]
    api.ok_subscribe(topic, endpoint.url, timeout_s=0.3, start="beginning")

    eventually(lambda: later[-1] in endpoint.sequences)

    assert endpoint.first_deliveries == [slow[0], *later]


def test_failing_key_holds_back_only_itself(api: Api, topic: str, endpoint: Endpoint) -> None:
    healed = threading.Event()
    endpoint.script = lambda request: (
        Answer(500) if request.key == "bad" and not healed.is_set() else Answer(200)
    )
    retry = {"max_attempts": 0, "min_backoff_s": 0.3, "max_backoff_s": 0.5}
    api.ok_subscribe(topic, endpoint.url, retry=retry)
    sequences: dict[str, list[int]] = {"bad": [], "x": [], "": []}
    for n in range(10):
        sequences["bad"].append(api.ok_publish(topic, n, key="bad"))
        sequences["x"].append(api.ok_publish(topic, n, key="x"))
        sequences[""].append(api.ok_publish(topic, n))

    free = {*sequences["x"], *sequences[""]}
    eventually(lambda: free <= set(endpoint.sequences))
    assert not set(sequences["bad"][1:]) & set(endpoint.sequences)
    eventually(lambda: api.ok_status(topic)["backlog"] == 10)

    healed.set()
    eventually(lambda: api.ok_status(topic)["backlog"] == 0)
    assert_one_after_another(endpoint, sequences["bad"])


def test_slow_key_holds_back_only_itself(api: Api, topic: str, endpoint: Endpoint) -> None:
    done = threading.Event()

    def hold_slow_key(request: Received) -> Answer:
        if request.key == "slow":
            done.wait(10)
        return Answer()

    endpoint.script = hold_slow_key
    api.ok_subscribe(topic, endpoint.url)
    slow = [api.ok_publish(topic, n, key="slow") for n in range(3)]
    sequences = publish_keys(api, topic, "abc", 30)

    others = {each for of_key in sequences.values() for each in of_key}
    eventually(lambda: others <= set(endpoint.sequences))
    assert not set(slow[1:]) & set(endpoint.sequences)

    done.set()
    eventually(lambda: set(slow) <= set(endpoint.sequences))
    assert_one_after_another(endpoint, slow)


def test_many_waiting_keys_do_not_fill_the_window(api: Api, topic: str, endpoint: Endpoint) -> None:
    healed = threading.Event()
    endpoint.script = lambda request: (
        Answer(404)
        if (request.key or "").startswith("bad") and not healed.is_set()
        else Answer(200)
    )
    retry = {"max_attempts": 0, "min_backoff_s": 0.5, "max_backoff_s": 1}
    api.ok_subscribe(topic, endpoint.url, max_in_flight=2, retry=retry)
    events = [
        event(id=f"{key}-{n}", partitionkey=f"bad-{key}") for n in range(5) for key in range(40)
    ]
    good(api.publish_batch(topic, events))
    sequence = api.ok_publish(topic, 1, key="fine")

    eventually(lambda: sequence in endpoint.sequences)
    healed.set()

    eventually(lambda: api.ok_status(topic)["backlog"] == 0, within_s=30)
    by_key: dict[str | None, list[int]] = defaultdict(list)
    for request in endpoint.requests:
        by_key[request.key].append(request.sequence)
    for sequences in by_key.values():
        assert sequences == sorted(sequences)


def test_topic_order_waits_for_a_failing_message(api: Api, topic: str, endpoint: Endpoint) -> None:
    healed = threading.Event()
    endpoint.script = lambda request: (
        Answer(500) if request.key == "bad" and not healed.is_set() else Answer(200)
    )
    retry = {"max_attempts": 0, "min_backoff_s": 0.05, "max_backoff_s": 0.3}
    api.ok_subscribe(topic, endpoint.url, ordering="topic", retry=retry)
    sequences = [api.ok_publish(topic, n, key=key) for n, key in enumerate(["a", "bad", "b", "c"])]
    sequences.append(api.ok_publish(topic, "without key"))
    eventually(lambda: len(endpoint.requests) >= 4)
    assert set(endpoint.sequences) == set(sequences[:2])

    healed.set()
    eventually(lambda: set(endpoint.sequences) == set(sequences))

    assert_one_after_another(endpoint, sequences)
    assert endpoint.most_at_once == 1


def test_no_order_lets_a_key_pass_its_failing_message(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: Answer(500 if request.body == b"0" else 200)
    api.ok_subscribe(topic, endpoint.url, ordering="none", retry=SLOW_RETRY)
    sequences = [api.ok_publish(topic, 0, key="k")]
    eventually(lambda: api.ok_status(topic)["retrying"] == 1)
    sequences += [api.ok_publish(topic, n, key="k") for n in range(1, 6)]

    eventually(lambda: set(endpoint.sequences) == set(sequences))


def test_no_order_sends_a_key_side_by_side(api: Api, topic: str, endpoint: Endpoint) -> None:
    enough = threading.Event()

    def hold(_request: Received) -> Answer:
        enough.wait(10)
        return Answer()

    endpoint.script = hold
    api.ok_subscribe(topic, endpoint.url, ordering="none", max_in_flight=4)
    for n in range(8):
        api.ok_publish(topic, n, key="k")

    eventually(lambda: len(endpoint.requests) == 4)
    enough.set()
    eventually(lambda: len(endpoint.requests) == 8)


def test_exhausted_message_lets_its_key_go_on(api: Api, topic: str, endpoint: Endpoint) -> None:
    first = [0]
    endpoint.script = lambda request: Answer(500 if request.sequence == first[0] else 200)
    api.put_topic(topic)
    first[0] = api.ok_publish(topic, 0, key="k")
    others = [api.ok_publish(topic, n, key="k") for n in range(1, 4)]
    api.ok_subscribe(
        topic, endpoint.url, start="beginning", retry={**QUICK_RETRY, "max_attempts": 2}
    )

    eventually(lambda: api.ok_status(topic)["dead_letters"] == 1)
    eventually(lambda: endpoint.sequences == [first[0]] * 2 + others)


def test_batches_keep_the_order_of_a_key(api: Api, topic: str, endpoint: Endpoint) -> None:
    dice = random.Random(3)
    lock = threading.Lock()

    def sometimes(_request: Received) -> Answer:
        with lock:
            return Answer(dice.choice([200, 200, 404]))

    endpoint.script = sometimes
    retry = {"max_attempts": 0, "min_backoff_s": 0.01, "max_backoff_s": 0.05}
    api.ok_subscribe(topic, endpoint.url, format="batch", max_batch=10, retry=retry)
    for part in range(10):
        events = [event(id=f"{part}-{n}", partitionkey="abc"[n % 3]) for n in range(20)]
        good(api.publish_batch(topic, events))

    eventually(lambda: api.ok_status(topic)["backlog"] == 0, within_s=30)

    by_key: dict[str, list[int]] = defaultdict(list)
    for request in endpoint.requests:
        for each in request.events:
            by_key[each["partitionkey"]].append(int(each["sequence"]))
    for sequences in by_key.values():
        firsts = list(dict.fromkeys(sequences))
        assert firsts == sorted(firsts)
    assert sum(len(set(sequences)) for sequences in by_key.values()) == 200


def test_one_producer_sees_its_keys_delivered_in_publish_order(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    order: list[int] = []
    lock = threading.Lock()

    def produce(number: int) -> None:
        for n in range(25):
            sequence = api.ok_publish(topic, n, key=f"k{number}")
            with lock:
                order.append(sequence)

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    eventually(lambda: len(endpoint.sequences) == 150)
    by_key: dict[str | None, list[object]] = defaultdict(list)
    for request in endpoint.requests:
        by_key[request.key].append(request.body)
    assert len(order) == len(set(order)) == 150
    assert all(bodies == [b"%d" % n for n in range(25)] for bodies in by_key.values())
