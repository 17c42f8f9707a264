"""Pull: leases that outlive a restart, long polls, order across pullers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess
from support.cloudevent import Json, event
from support.endpoint import Endpoint
from support.eventually import eventually
from support.problem import read_problem

SOON_AGAIN = {"max_attempts": 20, "min_backoff_s": 0.01, "max_backoff_s": 0.02}


class Puller:
    """A client of one pull subscription."""

    def __init__(self, api: Api, topic: str, **fields: Any) -> None:
        self._base_url = api.base_url
        self._topic = topic
        fields = {"start": "beginning", "retry": SOON_AGAIN, **fields}
        good(api.put_subscription(topic, "s", **fields))

    def call(self, act: str, **body: Any) -> httpx.Response:
        with Api(self._base_url, timeout_s=40) as api:
            return api.act(self._topic, act, body=body)

    def pull(self, **body: Any) -> list[Json]:
        return list(good(self.call("pull", **body))["deliveries"])

    def say(self, act: str, deliveries: list[Json], **body: Any) -> list[str]:
        ids = [each["ack_id"] for each in deliveries]
        results = good(self.call(act, ack_ids=ids, **body))["results"]
        assert [each["ack_id"] for each in results] == ids
        return [each["result"] for each in results]


def data(deliveries: list[Json]) -> list[Any]:
    return [each["message"]["data"] for each in deliveries]


def sequences(deliveries: list[Json]) -> list[int]:
    return [each["message"]["sequence"] for each in deliveries]


def fill(api: Api, topic: str, *keys: str | None) -> None:
    """Publish one message each, numbered from 0, with these keys."""
    for number, key in enumerate(keys):
        api.ok_publish(topic, number, key=key)


def test_pulled_message_is_whole_and_settled_by_its_ack(api: Api, topic: str) -> None:
    puller = Puller(api, topic)
    api.ok_publish(topic, {"a": 1}, id="m-1", source="/shop", type="sold", key="k")

    (delivery,) = puller.pull()

    assert delivery["attempt"] == 1
    assert delivery["replay"] is False
    assert delivery["message"] == api.get_message(topic, 1).json()
    assert api.ok_status(topic)["in_flight"] == 1
    assert puller.say("ack", [delivery]) == ["settled"]
    shown = api.ok_status(topic)
    assert (shown["backlog"], shown["in_flight"]) == (0, 0)
    assert puller.pull() == []


def test_pull_hands_out_no_more_than_is_asked_for(api: Api, topic: str) -> None:
    puller = Puller(api, topic)
    fill(api, topic, *[None] * 7)

    assert data(puller.pull(max_messages=3)) == [0, 1, 2]
    assert data(puller.pull(max_messages=1)) == [3]
    assert data(puller.pull()) == [4, 5, 6]
    assert puller.pull() == []


def test_answer_ends_when_its_messages_have_sixteen_mib(api: Api, topic: str) -> None:
    puller = Puller(api, topic)
    piece = b"x" * 1_000_000
    for _ in range(20):
        good(api.post(topic, piece, {"content-type": "text/plain"}))

    answers: list[list[int]] = []
    while sum(map(len, answers)) < 20:
        answers.append(sequences(puller.pull(wait_s=5)))
        assert 1 <= len(answers[-1]) <= 17  # the seventeenth brings it to 16 MiB; it may be fewer
    assert [sequence for answer in answers for sequence in answer] == [*range(1, 21)]


def test_key_has_one_message_out_and_goes_on_after_its_ack(api: Api, topic: str) -> None:
    puller = Puller(api, topic)
    fill(api, topic, "a", "a", "b", None, "a", "b", None)

    first = puller.pull()
    assert data(first) == [0, 2, 3, 6]
    assert puller.pull() == []
    assert puller.say("ack", first) == ["settled"] * 4
    second = puller.pull()
    assert data(second) == [1, 5]
    puller.say("ack", second[:1])
    assert data(puller.pull()) == [4]


def test_ordered_topic_has_one_message_out(api: Api, topic: str) -> None:
    puller = Puller(api, topic, ordering="topic")
    fill(api, topic, "a", "b", None)

    for number in range(3):
        delivered = puller.pull()
        assert data(delivered) == [number]
        assert puller.pull() == []
        puller.say("ack", delivered)


def test_unordered_messages_are_all_handed_out(api: Api, topic: str) -> None:
    puller = Puller(api, topic, ordering="none")
    fill(api, topic, *["a"] * 5)

    assert data(puller.pull()) == [0, 1, 2, 3, 4]


def test_nack_is_a_failed_attempt_and_comes_again_after_its_delay(api: Api, topic: str) -> None:
    puller = Puller(api, topic)
    fill(api, topic, "a", "a")

    first = puller.pull()
    assert puller.say("nack", first) == ["settled"]
    again = puller.pull(wait_s=10)
    assert (data(again), again[0]["attempt"]) == ([0], 2)
    assert puller.say("nack", again, delay_s=3600) == ["settled"]
    assert puller.pull() == []
    (waiting,) = api.deliveries(topic, "retrying")
    assert (waiting["sequence"], waiting["attempt"]) == (1, 3)
    assert [each["error"] for each in api.attempts(topic, 1)] == ["handed back by a nack"] * 2


def test_nack_after_the_last_attempt_is_a_dead_letter(api: Api, topic: str) -> None:
    puller = Puller(api, topic, retry={**SOON_AGAIN, "max_attempts": 2})
    fill(api, topic, "a", "a")

    puller.say("nack", puller.pull())
    puller.say("nack", puller.pull(wait_s=10))

    assert [each["sequence"] for each in api.dead_letters(topic)] == [1]
    assert data(puller.pull(wait_s=10)) == [1]


def test_lease_that_lapses_spends_an_attempt(api: Api, topic: str) -> None:
    puller = Puller(api, topic, ack_deadline_s=0.2)
    fill(api, topic, "a", "a")

    first = puller.pull()
    patient = Puller(api, topic, ack_deadline_s=60)  # however slow the machine is
    again = patient.pull(wait_s=10)

    assert (data(again), again[0]["attempt"]) == ([0], 2)
    assert puller.say("ack", first) == ["lapsed"]
    assert puller.say("ack", again) == ["settled"]


def test_lease_lapses_whether_or_not_anybody_pulls(api: Api, topic: str) -> None:
    puller = Puller(api, topic, ack_deadline_s=0.1, retry={**SOON_AGAIN, "max_attempts": 1})
    fill(api, topic, None)
    puller.pull()

    assert eventually(lambda: api.dead_letters(topic))[0]["sequence"] == 1


def test_extended_lease_lapses_later(api: Api, topic: str) -> None:
    puller = Puller(api, topic, ack_deadline_s=0.5)
    fill(api, topic, "a")
    first = puller.pull()

    assert puller.say("extend", first, ack_deadline_s=3600) == ["settled"]

    assert puller.pull(wait_s=1.5) == []
    assert puller.say("ack", first) == ["settled"]


def test_id_of_another_attempt_or_subscription_is_told(api: Api, topic: str) -> None:
    puller = Puller(api, topic)
    fill(api, topic, None, None)
    one, two = puller.pull()
    assert puller.say("ack", [one]) == ["settled"]
    other = Puller(api, f"{topic}-other")
    api.ok_publish(f"{topic}-other", 0)
    (foreign,) = other.pull()
    api.delete_topic(f"{topic}-other", force=True)

    strange = [{"ack_id": each} for each in ("", "x", "ä", two["ack_id"][:-2] + "AA")]
    told = puller.say("ack", [one, foreign, *strange, two, two])
    assert told == ["lapsed", "unknown", *["unknown"] * 4, "settled", "settled"]


def test_seek_makes_old_ids_lapse_and_holds_the_key_until_its_lease_ends(
    api: Api, topic: str
) -> None:
    puller = Puller(api, topic)
    fill(api, topic, "a", "b")
    first = puller.pull(max_messages=1)
    assert api.seek(topic, "beginning") == 2

    assert data(puller.pull()) == [1]
    assert puller.say("ack", first) == ["lapsed"]
    replayed = puller.pull(wait_s=10)
    assert (data(replayed), replayed[0]["replay"]) == ([0], True)


def test_long_poll_ends_when_a_message_comes(api: Api, topic: str) -> None:
    puller = Puller(api, topic)
    with ThreadPoolExecutor(1) as pool:
        pulling = pool.submit(puller.pull, wait_s=30)
        eventually(lambda: api.ok_status(topic)["state"] == "active")
        fill(api, topic, "a")
        assert data(pulling.result(timeout=10)) == [0]


def test_long_poll_ends_with_nothing_after_its_time(api: Api, topic: str) -> None:
    started = time.monotonic()
    assert Puller(api, topic).pull(wait_s=0.3) == []
    assert time.monotonic() - started >= 0.3


def test_paused_subscription_hands_out_nothing_until_it_goes_on(api: Api, topic: str) -> None:
    puller = Puller(api, topic)
    api.pause(topic)
    fill(api, topic, "a")
    assert puller.pull() == []
    with ThreadPoolExecutor(1) as pool:
        pulling = pool.submit(puller.pull, wait_s=30)
        api.resume(topic)
        assert data(pulling.result(timeout=10)) == [0]


def test_client_that_went_away_is_given_nothing(api: Api, topic: str) -> None:
    puller = Puller(api, topic)
    body = json.dumps({"wait_s": 30}).encode()
    request = (
        b"POST /v1/topics/%s/subscriptions/s/pull HTTP/1.1\r\nHost: x\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (topic.encode(), len(body), body)
    )
    port = int(api.base_url.rpartition(":")[2])
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(request)
            assert puller.pull() == []  # the broker has come as far as this

    def served() -> bool:
        fill(api, topic, None)
        return data(puller.pull(wait_s=1)) == [0]

    assert eventually(served)
    assert {each["attempt"] for each in api.deliveries(topic, "in-flight")} == {1}


def test_at_most_once_is_settled_by_handing_it_out(api: Api, topic: str) -> None:
    puller = Puller(api, topic, guarantee="at-most-once")
    fill(api, topic, "a", "a", None)

    delivered = puller.pull(max_messages=1)

    assert delivered[0]["ack_id"] is None
    assert api.ok_status(topic)["backlog"] == 2
    assert data(delivered + puller.pull() + puller.pull()) == [0, 1, 2]
    assert api.ok_status(topic)["backlog"] == 0


def test_exactly_once_takes_the_ack_for_a_receipt(api: Api, topic: str) -> None:
    puller = Puller(api, topic, guarantee="exactly-once")
    fill(api, topic, "a")

    assert puller.say("ack", puller.pull()) == ["settled"]
    assert api.ok_status(topic)["backlog"] == 0


def test_expired_message_is_not_handed_out(api: Api, topic: str) -> None:
    puller = Puller(api, topic)
    api.ok_publish(topic, 0, expirytime="2020-01-01T00:00:00Z", key="a")
    api.ok_publish(topic, 1, key="a")

    assert data(puller.pull()) == [1]


def test_subscription_that_is_pushed_is_not_pulled(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    api.ok_subscribe(topic, endpoint.url)

    for act, body in (("pull", {}), ("ack", {"ack_ids": ["x"]})):
        problem = read_problem(api.act(topic, act, body=body), 409)
        assert problem.code == "not_a_pull_subscription"


def test_subscription_may_change_between_pull_and_push(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    puller = Puller(api, topic)
    fill(api, topic, "a", "a", None)
    first = puller.pull(max_messages=1)
    good(api.put_subscription(topic, "s", endpoint=endpoint.url))

    eventually(lambda: [each.sequence for each in endpoint.requests] == [3])
    good(api.put_subscription(topic, "s", endpoint=None))
    assert puller.say("ack", first) == ["settled"]
    assert data(puller.pull(wait_s=10)) == [1]


def test_rate_limit_holds_for_pulls(api: Api, topic: str) -> None:
    puller = Puller(api, topic, rate_limit=1)
    fill(api, topic, *[None] * 3)

    assert data(puller.pull()) == [0]
    assert data(puller.pull(wait_s=10)) == [1]


@pytest.mark.parametrize(
    ("act", "body", "fields"),
    [
        ("pull", {"max_messages": 0}, ["max_messages"]),
        ("pull", {"max_messages": 1001}, ["max_messages"]),
        ("pull", {"max_messages": "1"}, ["max_messages"]),
        ("pull", {"max_messages": True, "wait_s": 31}, ["max_messages", "wait_s"]),
        ("pull", {"wait_s": -1, "colour": 1}, ["colour", "wait_s"]),
        ("ack", {}, ["ack_ids"]),
        ("ack", {"ack_ids": []}, ["ack_ids"]),
        ("ack", {"ack_ids": "x"}, ["ack_ids"]),
        ("ack", {"ack_ids": ["x", 1]}, ["ack_ids[1]"]),
        ("ack", {"ack_ids": ["x"], "delay_s": 1}, ["delay_s"]),
        ("nack", {"ack_ids": ["x"], "delay_s": -1}, ["delay_s"]),
        ("nack", {"ack_ids": ["x"], "delay_s": "1"}, ["delay_s"]),
        ("extend", {"ack_ids": ["x"], "ack_deadline_s": 0}, ["ack_deadline_s"]),
        ("extend", {"ack_ids": ["x"], "ack_deadline_s": 86401}, ["ack_deadline_s"]),
    ],
)
def test_wrong_body_is_refused_with_its_fields(
    api: Api, topic: str, act: str, body: Json, fields: list[str]
) -> None:
    puller = Puller(api, topic)
    fill(api, topic, None)

    assert sorted(read_problem(puller.call(act, **body), 422).fields) == sorted(fields)
    assert data(puller.pull()) == [0]


@pytest.mark.parametrize("act", ["pull", "ack", "nack", "extend"])
def test_body_that_is_no_object_and_unknown_subscription_are_refused(
    api: Api, topic: str, act: str
) -> None:
    Puller(api, topic)
    path = f"/v1/topics/{topic}/subscriptions"
    for body in (b"{", b"[]", b"\xff", b"1", b'{"ack_ids": ["\xff"]}', b'{"\xff": 1}'):
        read_problem(api.http.post(f"{path}/s/{act}", content=body), 400)
    unknown = api.http.post(f"{path}/none/{act}", json={"ack_ids": ["x"]} if act != "pull" else {})
    assert read_problem(unknown, 404).code == "subscription_not_found"


def test_leases_outlive_a_kill(restartable: BrokerProcess) -> None:
    api = restartable.api
    puller = Puller(api, "pulled")
    fill(api, "pulled", "a", "a", "b", None)
    first = puller.pull(max_messages=2)
    assert data(first) == [0, 2]
    restartable.kill()
    restartable.start()

    assert data(puller.pull()) == [3]
    assert puller.say("ack", first) == ["settled", "settled"]
    assert data(puller.pull(wait_s=10)) == [1]


def test_stop_ends_long_polls_at_once_and_loses_nothing(restartable: BrokerProcess) -> None:
    api = restartable.api
    puller = Puller(api, "polled")
    with ThreadPoolExecutor(1) as pool:
        pulling = pool.submit(puller.pull, wait_s=30)
        eventually(lambda: api.ok_status("polled", "s"))
        restartable.stop()
        assert pulling.result(timeout=1) == []
    restartable.start()
    fill(restartable.api, "polled", "a")
    assert data(puller.pull(wait_s=10)) == [0]


def test_many_pullers_share_a_subscription_in_order_of_keys(api: Api, topic: str) -> None:
    """Pullers ack, nack or forget at random: none is lost, and no key has two out at once."""
    deadline_s = 1.0
    puller = Puller(api, topic, ack_deadline_s=deadline_s)
    keys = "abcdefg"
    total = 140
    events = [event(id=str(n), partitionkey=keys[n % len(keys)], data=n) for n in range(total)]
    good(api.publish_batch(topic, events))
    lock = threading.Lock()
    leased_until: dict[str, float] = {}
    done: set[int] = set()

    def take(key: str, number: int, until: float) -> None:
        with lock:
            # No sooner than this has the lease of another ended that did not end by its answer.
            assert time.monotonic() >= leased_until.get(key, 0.0), "two of one key are out"
            assert not any(
                each % len(keys) == number % len(keys) and each > number for each in done
            )
            leased_until[key] = until

    def work(seed: int) -> None:
        turn = 0
        while len(done) < total:
            turn += 1
            until = time.monotonic() + deadline_s
            for delivery in puller.pull(max_messages=3, wait_s=0.2):
                key, number = delivery["message"]["partitionkey"], delivery["message"]["data"]
                take(key, number, until)
                chance = (seed * 31 + number * 7 + turn) % 10
                if chance == 0:
                    continue  # forgotten: it lapses
                with lock:
                    leased_until.pop(key, None)
                (result,) = puller.say("nack" if chance == 1 else "ack", [delivery])
                if chance != 1 and result == "settled":
                    done.add(number)

    pool = ThreadPoolExecutor(6)
    try:
        for future in [pool.submit(work, seed) for seed in range(6)]:
            future.result(timeout=100)
    finally:
        done.update(range(total))  # lets those that still work end
        pool.shutdown()


@pytest.fixture
def watchers() -> Iterator[list[httpx.Client]]:
    opened: list[httpx.Client] = []
    yield opened
    for each in opened:
        each.close()


def test_hundred_long_polls_are_served_one_message_each(
    api: Api, topic: str, watchers: list[httpx.Client]
) -> None:
    Puller(api, topic)
    path = f"/v1/topics/{topic}/subscriptions/s/pull"
    watchers += [httpx.Client(base_url=api.base_url, trust_env=False) for _ in range(100)]
    body = {"max_messages": 1, "wait_s": 30}
    with ThreadPoolExecutor(100) as pool:
        pulling = [
            pool.submit(partial(each.post, path, json=body, timeout=40)) for each in watchers
        ]
        fill(api, topic, *[None] * 100)
        found = [good(each.result(timeout=30))["deliveries"] for each in pulling]

    assert sorted(delivery["message"]["data"] for (delivery,) in found) == [*range(100)]
