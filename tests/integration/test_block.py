"""`when_exhausted: block`: a message that cannot be delivered stops its key until a person acts."""

from __future__ import annotations

import pytest

from support.api import INSTANT_RETRY, SLOW_RETRY, Api, accepted, good
from support.broker_process import BrokerProcess
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, always, verdict
from support.eventually import eventually
from support.problem import read_problem
from support.witness import Witness

OK = Answer(200)
TWICE = {**INSTANT_RETRY, "max_attempts": 2}


class Patient:
    """An endpoint's script that fails messages with the data 0 until it is healed."""

    def __init__(self, failure: Answer | None = None) -> None:
        self.failure = failure or Answer(500)
        self.healed = False

    def __call__(self, request: Received) -> Answer:
        return self.failure if request.body == b"0" and not self.healed else OK


def subscribe(api: Api, topic: str, url: str, **fields: object) -> None:
    """Create the subscription `s` that blocks after two attempts."""
    api.ok_subscribe(topic, url, **{"when_exhausted": "block", "retry": TWICE, **fields})


def blocked(api: Api, topic: str) -> list[int]:
    """Give the sequences of the blocked deliveries."""
    return [each["sequence"] for each in api.deliveries(topic, "blocked")]


def block_key(api: Api, topic: str, endpoint: Endpoint, **fields: object) -> list[int]:
    """Publish three messages of the key `k`, have the first blocked, and give their sequences."""
    subscribe(api, topic, endpoint.url, **fields)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]
    eventually(lambda: blocked(api, topic) == sequences[:1])
    return sequences


def test_exhausted_message_blocks_its_key(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.script = Patient()
    sequences = block_key(api, topic, endpoint)
    free = [api.ok_publish(topic, 1, key=key) for key in ("other", None)]

    eventually(lambda: set(free) <= set(endpoint.sequences) and api.backlog(topic) == 3)
    witness.let_pass(api)

    assert [each for each in endpoint.sequences if each in sequences] == sequences[:1] * 2
    shown = api.ok_status(topic)
    assert (shown["blocked_keys"], shown["dead_letters"], shown["backlog"]) == (1, 0, 3)
    assert shown["when_exhausted"] == "block"


def test_blocked_delivery_is_listed_with_its_attempts(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = Patient()
    sequences = block_key(api, topic, endpoint)

    (entry,) = api.deliveries(topic, "blocked")

    assert entry["sequence"] == sequences[0]
    assert (entry["state"], entry["attempt"], entry["key"]) == ("blocked", 3, "k")
    assert entry["next_attempt_at"] is None
    assert "500" in entry["last_error"]
    assert [each["attempt"] for each in api.attempts(topic, sequences[0])] == [1, 2]


@pytest.mark.parametrize("status", [413, 415, 422])
def test_permanent_refusal_blocks_at_once(
    api: Api, topic: str, endpoint: Endpoint, status: int
) -> None:
    endpoint.script = Patient(Answer(status))
    sequences = block_key(api, topic, endpoint, retry=SLOW_RETRY)

    assert endpoint.sequences == sequences[:1]


def test_retries_that_are_asked_for_end_in_a_block(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = Patient(verdict("retry"))
    block_key(api, topic, endpoint)

    assert len(endpoint.requests) == 2


def test_missing_receipt_blocks(api: Api, topic: str, endpoint: Endpoint) -> None:
    subscribe(api, topic, endpoint.url, guarantee="exactly-once")
    api.ok_publish(topic, 0, key="k")

    (entry,) = eventually(lambda: api.deliveries(topic, "blocked"))

    assert "no_receipt" in entry["last_error"]


def test_retry_of_a_blocked_delivery_lets_its_key_go_on(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = patient = Patient()
    sequences = block_key(api, topic, endpoint)

    patient.healed = True
    accepted(api.act(topic, f"deliveries/{sequences[0]}/retry"))

    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == [*sequences[:1] * 2, *sequences]
    shown = api.ok_status(topic)
    assert (shown["blocked_keys"], shown["dead_letters"]) == (0, 0)


def test_retry_of_a_blocked_delivery_may_fail_again(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = patient = Patient()
    sequences = block_key(api, topic, endpoint)

    accepted(api.act(topic, f"deliveries/{sequences[0]}/retry"))
    eventually(lambda: len(endpoint.requests) > 2 and blocked(api, topic) == sequences[:1])
    assert set(endpoint.sequences) == set(sequences[:1])
    assert api.ok_status(topic)["blocked_keys"] == 1

    patient.healed = True
    accepted(api.act(topic, f"deliveries/{sequences[0]}/retry"))
    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.first_deliveries == sequences


def test_dead_letter_of_a_blocked_delivery_lets_its_key_go_on(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = Patient()
    sequences = block_key(api, topic, endpoint)

    accepted(api.act(topic, f"deliveries/{sequences[0]}/dead-letter"))

    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == [*sequences[:1] * 2, *sequences[1:]]
    (dead,) = api.dead_letters(topic)
    assert (dead["sequence"], dead["attempts"]) == (sequences[0], 2)
    assert dead["reason"]
    assert api.ok_status(topic)["blocked_keys"] == 0


def test_topic_order_blocks_the_topic(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.script = patient = Patient()
    subscribe(api, topic, endpoint.url, ordering="topic")
    keys = ["a", "b", None]
    sequences = [api.ok_publish(topic, n, key=key) for n, key in enumerate(keys)]
    eventually(lambda: blocked(api, topic) == sequences[:1])

    witness.let_pass(api)
    assert endpoint.sequences == sequences[:1] * 2
    assert api.backlog(topic) == 3

    patient.healed = True
    accepted(api.act(topic, f"deliveries/{sequences[0]}/retry"))
    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == [*sequences[:1] * 2, *sequences]


def test_dead_letter_frees_a_blocked_topic(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = Patient()
    subscribe(api, topic, endpoint.url, ordering="topic")
    sequences = [api.ok_publish(topic, n, key=f"k{n}") for n in range(3)]
    eventually(lambda: blocked(api, topic) == sequences[:1])

    accepted(api.act(topic, f"deliveries/{sequences[0]}/dead-letter"))

    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == [*sequences[:1] * 2, *sequences[1:]]
    assert [each["sequence"] for each in api.dead_letters(topic)] == sequences[:1]


@pytest.mark.parametrize(("ordering", "key"), [("key", None), ("none", "k")])
def test_message_without_order_blocks_only_itself(
    api: Api, topic: str, endpoint: Endpoint, ordering: str, key: str | None
) -> None:
    endpoint.script = patient = Patient()
    subscribe(api, topic, endpoint.url, ordering=ordering)
    sequences = [api.ok_publish(topic, n, key=key) for n in range(4)]

    eventually(lambda: blocked(api, topic) == sequences[:1] and api.backlog(topic) == 1)
    assert sorted(endpoint.first_deliveries) == sequences

    patient.healed = True
    accepted(api.act(topic, f"deliveries/{sequences[0]}/retry"))
    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences.count(sequences[0]) == 3


def test_many_keys_may_be_blocked(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = patient = Patient(Answer(404))
    subscribe(api, topic, endpoint.url, max_in_flight=2)
    sequences = {key: [api.ok_publish(topic, n, key=key) for n in range(3)] for key in "abcdef"}
    firsts = [each[0] for each in sequences.values()]

    eventually(lambda: sorted(blocked(api, topic)) == firsts)
    assert api.ok_status(topic)["blocked_keys"] == 6
    assert set(endpoint.sequences) == set(firsts)

    patient.healed = True
    for first in firsts:
        accepted(api.act(topic, f"deliveries/{first}/retry"))
    eventually(lambda: api.backlog(topic) == 0)
    for each in sequences.values():
        assert [at for at in endpoint.first_deliveries if at in each] == each


def test_members_of_a_failed_batch_are_blocked_one_by_one(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(Answer(422))
    events = [event(id=str(n), partitionkey=f"k{n}") for n in range(3)]
    told = good(api.publish_batch(topic, events))["messages"]
    sequences = [each["sequence"] for each in told]
    subscribe(api, topic, endpoint.url, format="batch", start="beginning")
    eventually(lambda: blocked(api, topic) == sequences)

    endpoint.script = always(OK)
    accepted(api.act(topic, f"deliveries/{sequences[1]}/retry"))

    eventually(lambda: blocked(api, topic) == [sequences[0], sequences[2]])
    assert endpoint.sequences == [*sequences, sequences[1]]


# -- the same two actions on a delivery that waits for its next attempt


def retry_key(api: Api, topic: str, endpoint: Endpoint) -> list[int]:
    """Have the first of three messages of a key wait an hour for its next attempt."""
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]
    eventually(lambda: len(api.deliveries(topic, "retrying")) == 1)
    return sequences


def test_retry_of_a_retrying_delivery_comes_at_once(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = patient = Patient()
    sequences = retry_key(api, topic, endpoint)

    patient.healed = True
    accepted(api.act(topic, f"deliveries/{sequences[0]}/retry"))

    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == [sequences[0], *sequences]
    assert endpoint.requests[1].attempt == 2


def test_dead_letter_of_a_retrying_delivery_lets_its_key_go_on(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = Patient()
    sequences = retry_key(api, topic, endpoint)

    accepted(api.act(topic, f"deliveries/{sequences[0]}/dead-letter"))

    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == sequences
    (dead,) = api.dead_letters(topic)
    assert (dead["sequence"], dead["attempts"]) == (sequences[0], 1)


@pytest.mark.parametrize("action", ["retry", "dead-letter"])
def test_only_blocked_and_retrying_deliveries_can_be_acted_on(
    api: Api, topic: str, endpoint: Endpoint, action: str
) -> None:
    endpoint.script = Patient()
    settled = api.ok_publish(topic, 1, key="settled")
    api.ok_subscribe(topic, endpoint.url, start="beginning", retry=SLOW_RETRY)
    eventually(lambda: endpoint.sequences == [settled] and api.backlog(topic) == 0)
    waiting = [api.ok_publish(topic, n, key="k") for n in range(2)]
    eventually(lambda: len(api.deliveries(topic, "retrying")) == 1)

    for sequence in (settled, waiting[1], 10**6):
        read_problem(api.act(topic, f"deliveries/{sequence}/{action}"), 404, 409)
    read_problem(api.act(topic, f"deliveries/x/{action}"), 400, 404, 422)

    shown = api.ok_status(topic)
    assert (shown["backlog"], shown["dead_letters"]) == (2, 0)
    assert endpoint.sequences == [settled, waiting[0]]


def test_retry_of_a_paused_subscription_waits_for_its_resuming(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.script = patient = Patient()
    sequences = block_key(api, topic, endpoint)
    patient.healed = True
    api.pause(topic)

    accepted(api.act(topic, f"deliveries/{sequences[0]}/retry"))
    witness.let_pass(api)
    assert len(endpoint.requests) == 2

    api.resume(topic)
    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == [*sequences[:1] * 2, *sequences]


# -- restarts


def test_block_survives_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.script = patient = Patient()
    sequences = block_key(restartable.api, topic, endpoint)
    before = restartable.api.deliveries(topic, "blocked")
    patient.healed = True

    restartable.kill()
    restartable.start()
    witness.let_pass(restartable.api)

    assert restartable.api.deliveries(topic, "blocked") == before
    assert restartable.api.ok_status(topic)["blocked_keys"] == 1
    assert endpoint.sequences == sequences[:1] * 2
    accepted(restartable.api.act(topic, f"deliveries/{sequences[0]}/retry"))
    eventually(lambda: restartable.api.backlog(topic) == 0)
    assert endpoint.sequences == [*sequences[:1] * 2, *sequences]


@pytest.mark.parametrize("waits", ["blocked", "retrying"])
def test_what_is_published_after_a_kill_overtakes_nothing(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint, witness: Witness, waits: str
) -> None:
    endpoint.script = patient = Patient()
    act = block_key if waits == "blocked" else retry_key
    sequences = act(restartable.api, topic, endpoint)
    sent = len(endpoint.requests)

    restartable.kill()
    restartable.start()
    sequences += [restartable.api.ok_publish(topic, n, key="k") for n in range(3, 6)]
    witness.let_pass(restartable.api)
    assert len(endpoint.requests) == sent
    assert restartable.api.backlog(topic) == 6

    patient.healed = True
    accepted(restartable.api.act(topic, f"deliveries/{sequences[0]}/retry"))
    eventually(lambda: restartable.api.backlog(topic) == 0)
    assert endpoint.sequences[sent:] == sequences


def test_block_of_a_topic_survives_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.script = patient = Patient()
    subscribe(restartable.api, topic, endpoint.url, ordering="topic")
    sequences = [restartable.api.ok_publish(topic, n, key=f"k{n}") for n in range(3)]
    eventually(lambda: blocked(restartable.api, topic) == sequences[:1])
    patient.healed = True

    restartable.kill()
    restartable.start()
    witness.let_pass(restartable.api)
    assert endpoint.sequences == sequences[:1] * 2

    accepted(restartable.api.act(topic, f"deliveries/{sequences[0]}/retry"))
    eventually(lambda: restartable.api.backlog(topic) == 0)
    assert endpoint.sequences == [*sequences[:1] * 2, *sequences]


def test_actions_survive_a_kill(restartable: BrokerProcess, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = Patient()
    api = restartable.api
    subscribe(api, topic, endpoint.url)
    sequences = {key: [api.ok_publish(topic, n, key=key) for n in range(2)] for key in "ab"}
    eventually(lambda: len(blocked(api, topic)) == 2)
    endpoint.script = always(OK)
    api.pause(topic)

    accepted(api.act(topic, f"deliveries/{sequences['a'][0]}/retry"))
    accepted(api.act(topic, f"deliveries/{sequences['b'][0]}/dead-letter"))
    restartable.kill()
    restartable.start()
    restartable.api.resume(topic)
    eventually(lambda: restartable.api.backlog(topic) == 0)

    later = endpoint.sequences[4:]
    assert [each for each in later if each in sequences["a"]] == sequences["a"]
    assert [each for each in later if each in sequences["b"]] == sequences["b"][1:]
    (dead,) = restartable.api.dead_letters(topic)
    assert dead["sequence"] == sequences["b"][0]
