"""An endpoint that answers `later`, and tells at the ack URL how it ended."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest

from support.api import INSTANT_RETRY, SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess, StartBroker
from support.cloudevent import event
from support.endpoint import Answer, Endpoint, Received, always, by_attempt, verdict
from support.eventually import eventually
from support.problem import read_problem
from support.signature import new_secret
from support.witness import Witness

OK = Answer(200)
LATER = verdict("later")


def subscribe(api: Api, topic: str, url: str, **fields: object) -> None:
    """Create the subscription `s` that may answer later."""
    api.ok_subscribe(topic, url, **{"allow_later": True, "retry": INSTANT_RETRY, **fields})


def ack_url(request: Received) -> str:
    """The URL at which this request's delivery is concluded."""
    return request.headers["webhook-ack-url"]


def tell(url: str, verdict: str, **fields: Any) -> httpx.Response:
    """Give a late verdict, without any credentials."""
    return httpx.post(url, json={"verdict": verdict, **fields}, trust_env=False)


def leased(api: Api, topic: str, count: int = 1) -> bool:
    """Say whether so many deliveries wait for a late verdict, and no request is out any more."""
    out = api.deliveries(topic, "in-flight")
    return len(out) == count and all(each["ack_deadline_at"] for each in out)


def first_leased(api: Api, topic: str, endpoint: Endpoint) -> Received:
    """Wait until the first request was answered and its delivery is leased."""
    eventually(lambda: len(endpoint.timeline) >= 2 and leased(api, topic))
    return endpoint.requests[0]


# -- the field


def test_later_is_not_allowed_unless_told(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)
    assert api.ok_status(topic)["allow_later"] is False

    good(api.put_subscription(topic, "s", allow_later=True))
    assert api.ok_status(topic)["allow_later"] is True


def test_later_needs_a_public_url(start_broker: StartBroker, endpoint: Endpoint) -> None:
    api = start_broker(BROKER_PUBLIC_URL=None).api

    problem = read_problem(
        api.put_subscription("t", "s", endpoint=endpoint.url, allow_later=True), 422
    )

    assert problem.names("allow_later")
    assert "BROKER_PUBLIC_URL".lower() in problem.text
    assert api.get_subscription("t", "s").status_code == 404
    api.ok_subscribe("t", endpoint.url, allow_later=False)


@pytest.mark.parametrize("format", ["binary", "structured", "batch"])
def test_ack_url_is_sent_below_the_public_url(
    api: Api, topic: str, endpoint: Endpoint, format: str
) -> None:
    subscribe(api, topic, endpoint.url, format=format)
    api.ok_publish(topic, 1)

    eventually(lambda: endpoint.requests)

    assert ack_url(endpoint.requests[0]).startswith(f"{api.base_url}/")
    eventually(lambda: api.backlog(topic) == 0)


def test_public_url_may_have_a_path(start_broker: StartBroker, endpoint: Endpoint) -> None:
    api = start_broker(BROKER_PUBLIC_URL="https://broker.example/behind/a/proxy/").api
    subscribe(api, "t", endpoint.url)
    api.ok_publish("t", 1)

    eventually(lambda: endpoint.requests)

    url = ack_url(endpoint.requests[0])
    assert url.startswith("https://broker.example/behind/a/proxy/")
    assert "//" not in url.removeprefix("https://")


def test_each_attempt_has_a_url_of_its_own(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(Answer(500), Answer(500), OK)
    subscribe(api, topic, endpoint.url)
    api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 3)

    assert len({ack_url(request) for request in endpoint.requests}) == 3


# -- verdicts


def test_ack_settles(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(LATER)
    subscribe(api, topic, endpoint.url)
    sequence = api.ok_publish(topic, 1)
    request = first_leased(api, topic, endpoint)
    (waiting,) = api.deliveries(topic, "in-flight")
    assert (waiting["sequence"], waiting["attempt"]) == (sequence, 1)
    assert api.backlog(topic) == 1

    answer = tell(ack_url(request), "ack")

    assert "settled" in answer.text
    assert good(answer)
    eventually(lambda: api.backlog(topic) == 0)
    assert api.deliveries(topic, "in-flight") == []
    assert endpoint.sequences == [sequence]


def test_retry_is_a_failed_attempt(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(LATER, OK)
    subscribe(api, topic, endpoint.url)
    sequence = api.ok_publish(topic, 1)

    good(tell(ack_url(first_leased(api, topic, endpoint)), "retry"))

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)
    assert [request.attempt for request in endpoint.requests] == [1, 2]
    assert [each["attempt"] for each in api.attempts(topic, sequence)] == [1]


def test_dead_letter_is_taken_at_once(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(LATER, OK)
    subscribe(api, topic, endpoint.url)
    sequence = api.ok_publish(topic, 1)

    good(tell(ack_url(first_leased(api, topic, endpoint)), "dead-letter"))

    (dead,) = eventually(lambda: api.dead_letters(topic))
    assert (dead["sequence"], len(endpoint.requests), api.backlog(topic)) == (sequence, 1, 0)


def test_lease_that_lapses_is_a_failed_attempt(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(LATER, OK)
    subscribe(api, topic, endpoint.url, ack_deadline_s=0.3)
    sequence = api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 2 and api.backlog(topic) == 0)

    assert [request.attempt for request in endpoint.requests] == [1, 2]
    (failed,) = api.attempts(topic, sequence)
    assert failed["attempt"] == 1
    first, second = [request.at for request in endpoint.requests]
    assert second - first > 0.28


def test_leases_that_lapse_end_in_a_dead_letter(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(LATER)
    retry = {**INSTANT_RETRY, "max_attempts": 2}
    subscribe(api, topic, endpoint.url, ack_deadline_s=0.1, retry=retry)
    api.ok_publish(topic, 1)

    (dead,) = eventually(lambda: api.dead_letters(topic))

    assert dead["attempts"] == len(endpoint.requests) == 2


def test_extend_puts_the_lapse_off(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(LATER, OK)
    subscribe(api, topic, endpoint.url, ack_deadline_s=1)
    api.ok_publish(topic, 1)
    request = first_leased(api, topic, endpoint)

    # As long as every answer comes in time, the lease outlives its first deadline.
    told = 0
    while time.monotonic() - request.at < 2:
        answer = tell(ack_url(request), "extend")
        assert good(answer)
        told += 1

    assert told > 1
    assert len(endpoint.requests) == 1
    good(tell(ack_url(request), "ack"))
    eventually(lambda: api.backlog(topic) == 0)
    assert len(endpoint.requests) == 1


def test_key_is_held_as_long_as_it_is_leased(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.script = lambda request: LATER if request.body == b"0" else OK
    subscribe(api, topic, endpoint.url)
    held = [api.ok_publish(topic, n, key="k") for n in range(3)]
    request = first_leased(api, topic, endpoint)
    free = [api.ok_publish(topic, n, key=key) for n, key in [(1, "other"), (2, None)]]

    eventually(lambda: set(free) <= set(endpoint.sequences))
    witness.let_pass(api)
    assert not set(held[1:]) & set(endpoint.sequences)

    good(tell(ack_url(request), "ack"))
    eventually(lambda: api.backlog(topic) == 0)
    assert [each for each in endpoint.sequences if each in held] == held


def test_topic_order_waits_for_a_lease(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.script = lambda request: LATER if request.body == b"0" else OK
    subscribe(api, topic, endpoint.url, ordering="topic")
    sequences = [api.ok_publish(topic, n, key=f"k{n}") for n in range(3)]
    request = first_leased(api, topic, endpoint)

    witness.let_pass(api)
    assert endpoint.sequences == sequences[:1]

    good(tell(ack_url(request), "ack"))
    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == sequences


def test_key_stays_in_order_when_a_late_verdict_is_retry(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = lambda request: LATER if (request.body, request.attempt) == (b"0", 1) else OK
    subscribe(api, topic, endpoint.url)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]

    good(tell(ack_url(first_leased(api, topic, endpoint)), "retry"))

    eventually(lambda: api.backlog(topic) == 0)
    assert endpoint.sequences == [sequences[0], *sequences]


# -- a verdict before the answer


@pytest.mark.parametrize("answered", [OK, LATER, Answer(500), Answer(422), verdict("retry")])
@pytest.mark.parametrize("told", ["ack", "retry", "dead-letter"])
def test_verdict_before_the_answer_wins(
    api: Api, topic: str, endpoint: Endpoint, answered: Answer, told: str
) -> None:
    def tell_first(request: Received) -> Answer:
        if request.attempt > 1:
            return OK
        assert tell(ack_url(request), told).is_success
        return answered

    endpoint.script = tell_first
    subscribe(api, topic, endpoint.url)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(2)]

    eventually(lambda: set(sequences) == set(endpoint.sequences) and api.backlog(topic) == 0)

    dead = [each["sequence"] for each in api.dead_letters(topic)]
    first, second = sequences
    if told == "ack":
        assert (endpoint.sequences, dead) == ([first, second], [])
    elif told == "retry":
        assert (endpoint.sequences, dead) == ([first, first, second, second], [])
    else:
        assert (endpoint.sequences, dead) == ([first, second], [first, second])


def test_next_message_of_a_key_is_not_sent_before_the_request_has_ended(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    release = threading.Event()

    def tell_and_stay(request: Received) -> Answer:
        if request.body == b"0":
            assert tell(ack_url(request), "ack").is_success
            release.wait(20)
        return OK

    endpoint.script = tell_and_stay
    subscribe(api, topic, endpoint.url)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(2)]
    eventually(lambda: endpoint.requests)
    witness.let_pass(api)
    release.set()

    eventually(lambda: api.backlog(topic) == 0)

    assert endpoint.sequences == sequences


# -- URLs that are old, forged, wrong


def test_second_verdict_changes_nothing(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(LATER)
    subscribe(api, topic, endpoint.url)
    api.ok_publish(topic, 1)
    url = ack_url(first_leased(api, topic, endpoint))
    good(tell(url, "ack"))
    eventually(lambda: api.backlog(topic) == 0)

    answers = [tell(url, told) for told in ("ack", "retry", "dead-letter", "extend")]

    # A repeat may hear what the first one heard; whatever it hears, nothing follows.
    assert {good(answer)["result"] for answer in answers} <= {"settled", "lapsed"}
    shown = api.ok_status(topic)
    assert (shown["backlog"], shown["dead_letters"], shown["retrying"]) == (0, 0, 0)
    assert len(endpoint.requests) == 1


def test_url_of_an_earlier_attempt_has_lapsed(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(Answer(500), LATER)
    subscribe(api, topic, endpoint.url)
    api.ok_publish(topic, 1)
    eventually(lambda: len(endpoint.timeline) == 4 and leased(api, topic))
    first, second = endpoint.requests

    assert "lapsed" in tell(ack_url(first), "ack").text
    assert api.backlog(topic) == 1

    assert "settled" in tell(ack_url(second), "ack").text
    eventually(lambda: api.backlog(topic) == 0)


def test_url_of_a_settled_request_has_lapsed(api: Api, topic: str, endpoint: Endpoint) -> None:
    subscribe(api, topic, endpoint.url)
    api.ok_publish(topic, 1)
    eventually(lambda: endpoint.requests and api.backlog(topic) == 0)

    answer = tell(ack_url(endpoint.requests[0]), "dead-letter")

    assert "lapsed" in answer.text
    assert api.ok_status(topic)["dead_letters"] == 0


def test_url_of_a_lapsed_lease_has_lapsed(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(LATER)
    subscribe(api, topic, endpoint.url, ack_deadline_s=0.1, retry=SLOW_RETRY)
    api.ok_publish(topic, 1)
    eventually(lambda: api.ok_status(topic)["retrying"] == 1)

    assert "lapsed" in tell(ack_url(endpoint.requests[0]), "ack").text
    assert api.backlog(topic) == 1


def test_url_from_before_a_seek_has_lapsed(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.script = lambda request: LATER if len(endpoint.requests) == 1 else OK
    subscribe(api, topic, endpoint.url)
    sequence = api.ok_publish(topic, 1, key="k")
    request = first_leased(api, topic, endpoint)

    api.pause(topic)
    assert api.seek(topic, "beginning") == 1
    assert "lapsed" in tell(ack_url(request), "ack").text
    assert api.backlog(topic) == 1

    api.resume(topic)
    eventually(lambda: endpoint.sequences == [sequence] * 2 and api.backlog(topic) == 0)
    assert endpoint.requests[1].attempt == 1


def change_last(url: str) -> str:
    """Change one character in the middle of the last segment."""
    head, _, token = url.rpartition("/")
    at = len(token) // 2
    return f"{head}/{token[:at]}{'A' if token[at] != 'A' else 'B'}{token[at + 1 :]}"


@pytest.mark.parametrize(
    "forge",
    [
        change_last,
        lambda url: url[:-10],
        lambda url: url + "A",
        lambda url: url.rpartition("/")[0] + "/",
        lambda url: url.rpartition("/")[0] + "/x",
        lambda url: url.rpartition("/")[0] + "/" + "A" * 4000,
        lambda url: url.rpartition("/")[0] + "/%00%ff",
        lambda url: url.rpartition("/")[0] + "/é…",
    ],
    ids=["changed", "cut", "longer", "empty", "short", "long", "bytes", "text"],
)
def test_forged_url_settles_nothing(api: Api, topic: str, endpoint: Endpoint, forge: Any) -> None:
    endpoint.script = always(LATER)
    subscribe(api, topic, endpoint.url)
    api.ok_publish(topic, 1)
    url = ack_url(first_leased(api, topic, endpoint))

    read_problem(tell(forge(url), "ack"), 400, 401, 403, 404)

    assert api.backlog(topic) == 1
    assert leased(api, topic)


def test_url_is_good_for_its_own_subscription_only(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(LATER)
    for name in ("one", "two"):
        fields = {"name": name, "allow_later": True, "secret": new_secret()}
        api.ok_subscribe(topic, endpoint.url, **fields)
    api.ok_publish(topic, 1)
    eventually(lambda: len(endpoint.timeline) == 4)
    eventually(lambda: all(api.deliveries(topic, "in-flight", name) for name in ("one", "two")))
    by_name = {
        request.headers["webhook-subscription"].partition("/")[2]: ack_url(request)
        for request in endpoint.requests
    }

    # The same secret signs for both, and the message is the same: only the name is another.
    swapped = f"{topic}/two/".join(by_name["one"].rsplit(f"{topic}/one/", 1))
    if swapped != by_name["one"]:
        answer = tell(swapped, "ack")
        assert "settled" not in answer.text
    assert api.backlog(topic, "two") == 1

    good(tell(by_name["two"], "ack"))
    eventually(lambda: api.backlog(topic, "two") == 0)
    assert api.backlog(topic, "one") == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"{}", 422),
        (b'{"verdict": "maybe"}', 422),
        (b'{"verdict": null}', 422),
        (b'{"verdict": ["ack"]}', 422),
        (b'{"verdict": {"ack": 1}}', 422),
        (b'{"verdict": "ack", "colour": "red"}', 422),
    ],
)
def test_wrong_verdict_is_refused_and_changes_nothing(
    api: Api, topic: str, endpoint: Endpoint, body: bytes, status: int
) -> None:
    endpoint.script = always(LATER)
    subscribe(api, topic, endpoint.url)
    api.ok_publish(topic, 1)
    url = ack_url(first_leased(api, topic, endpoint))

    answer = httpx.post(
        url, content=body, headers={"content-type": "application/json"}, trust_env=False
    )

    read_problem(answer, status, 422)
    assert leased(api, topic)
    assert "settled" in tell(url, "ack").text


def test_url_of_a_deleted_subscription_is_not_found(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(LATER)
    subscribe(api, topic, endpoint.url)
    api.ok_publish(topic, 1)
    url = ack_url(first_leased(api, topic, endpoint))

    api.delete_subscription(topic, "s")
    read_problem(tell(url, "ack"), 404)

    subscribe(api, topic, endpoint.url, start="beginning")
    eventually(lambda: len(endpoint.requests) == 2 and leased(api, topic))
    read_problem(tell(url, "ack"), 403, 404)
    assert api.backlog(topic) == 1


def test_url_needs_no_api_key(start_broker: StartBroker, endpoint: Endpoint) -> None:
    key = "a-key-of-at-least-16-characters"
    endpoint.script = always(LATER)
    broker = start_broker(BROKER_API_KEYS="on", BROKER_ADMIN_KEY=key)
    broker.api.http.headers["authorization"] = f"Bearer {key}"
    subscribe(broker.api, "t", endpoint.url)
    broker.api.ok_publish("t", 1)
    url = ack_url(first_leased(broker.api, "t", endpoint))

    read_problem(tell(change_last(url), "ack"), 401, 403, 404)
    assert "settled" in tell(url, "ack").text
    eventually(lambda: broker.api.backlog("t") == 0)


def test_old_secret_is_good_for_urls_that_are_out(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(LATER)
    subscribe(api, topic, endpoint.url)
    api.ok_publish(topic, 1)
    url = ack_url(first_leased(api, topic, endpoint))

    api.rotate_secret(topic)

    assert "settled" in tell(url, "ack").text


# -- batches, receipts, pauses, restarts


def lease_batch(api: Api, topic: str, endpoint: Endpoint, **fields: object) -> list[int]:
    """Have a batch of four, two of each key, answered with `later`; give their sequences."""
    endpoint.script = lambda request: LATER if len(endpoint.requests) == 1 else OK
    events = [event(id=str(n), partitionkey="ab"[n % 2]) for n in range(4)]
    told = good(api.publish_batch(topic, events))["messages"]
    subscribe(api, topic, endpoint.url, format="batch", start="beginning", **fields)
    eventually(lambda: len(endpoint.timeline) == 2 and api.deliveries(topic, "in-flight"))
    eventually(lambda: all(each["ack_deadline_at"] for each in api.deliveries(topic, "in-flight")))
    return [each["sequence"] for each in told]


def test_batch_has_one_url_for_all(api: Api, topic: str, endpoint: Endpoint) -> None:
    sequences = lease_batch(api, topic, endpoint)

    good(tell(ack_url(endpoint.requests[0]), "ack"))

    eventually(lambda: api.backlog(topic) == 0)
    assert sorted(endpoint.sequences) == sequences


def test_batch_positions_may_be_singled_out_late(api: Api, topic: str, endpoint: Endpoint) -> None:
    a0, b0, a1, b1 = lease_batch(api, topic, endpoint)
    places = {sequence: at for at, sequence in enumerate(endpoint.requests[0].sequences)}

    url = ack_url(endpoint.requests[0])
    good(tell(url, "ack", retry=[places[a0]], dead_letter=[places[b0]]))

    eventually(lambda: api.backlog(topic) == 0 and len(endpoint.sequences) >= 6)
    assert endpoint.sequences[4:] == [a0, a1]
    assert [each["sequence"] for each in api.dead_letters(topic)] == [b0]
    assert b1 not in endpoint.sequences[4:]


@pytest.mark.parametrize("positions", [[4], [-1], ["0"], "0", [0.5], {"0": 1}])
def test_wrong_positions_are_refused(
    api: Api, topic: str, endpoint: Endpoint, positions: Any
) -> None:
    lease_batch(api, topic, endpoint)

    answer = tell(ack_url(endpoint.requests[0]), "ack", retry=positions)

    assert read_problem(answer, 422).names("retry")
    assert api.backlog(topic) == 4
    assert "settled" in tell(ack_url(endpoint.requests[0]), "ack").text


def test_exactly_once_wants_a_receipt_with_a_late_ack(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(LATER)
    subscribe(api, topic, endpoint.url, guarantee="exactly-once")
    sequence = api.ok_publish(topic, 1)
    first = first_leased(api, topic, endpoint)

    answer = tell(ack_url(first), "ack")
    assert answer.status_code < 500
    if answer.is_success:  # a failed attempt, or a refusal that changes nothing
        eventually(lambda: len(endpoint.timeline) == 4 and leased(api, topic))
        assert api.attempts(topic, sequence)[0]["error"] == "no_receipt"
    assert api.backlog(topic) == 1

    good(tell(ack_url(endpoint.requests[-1]), "ack", receipt="processed"))
    eventually(lambda: api.backlog(topic) == 0)


def test_verdict_counts_while_paused(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(LATER)
    subscribe(api, topic, endpoint.url)
    api.ok_publish(topic, 1)
    request = first_leased(api, topic, endpoint)

    api.pause(topic)
    good(tell(ack_url(request), "ack"))

    eventually(lambda: api.backlog(topic) == 0)


@pytest.mark.parametrize("end", [BrokerProcess.kill, BrokerProcess.stop])
def test_lease_survives_a_restart(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint, witness: Witness, end: Any
) -> None:
    endpoint.script = lambda request: LATER if request.body == b"0" else OK
    subscribe(restartable.api, topic, endpoint.url)
    sequences = [restartable.api.ok_publish(topic, n, key="k") for n in range(2)]
    request = first_leased(restartable.api, topic, endpoint)

    end(restartable)
    restartable.start()
    witness.let_pass(restartable.api)
    assert endpoint.sequences == sequences[:1]
    assert leased(restartable.api, topic)
    assert "settled" in tell(ack_url(request), "ack").text

    eventually(lambda: restartable.api.backlog(topic) == 0)
    assert endpoint.sequences == sequences


def test_lease_lapses_over_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = by_attempt(LATER, OK)
    subscribe(restartable.api, topic, endpoint.url, ack_deadline_s=1)
    restartable.api.ok_publish(topic, 1)
    first_leased(restartable.api, topic, endpoint)

    restartable.kill()
    restartable.start()

    eventually(lambda: restartable.api.backlog(topic) == 0)
    assert [request.attempt for request in endpoint.requests] == [1, 2]


def test_late_ack_survives_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = always(LATER)
    subscribe(restartable.api, topic, endpoint.url, ack_deadline_s=1)
    restartable.api.ok_publish(topic, 1, key="k")
    url = ack_url(first_leased(restartable.api, topic, endpoint))
    assert "settled" in tell(url, "ack").text

    restartable.kill()
    restartable.start()

    endpoint.script = always(OK)
    last = restartable.api.ok_publish(topic, 2, key="k")
    eventually(lambda: restartable.api.backlog(topic) == 0 and last in endpoint.sequences)
    assert len(endpoint.requests) == 2
