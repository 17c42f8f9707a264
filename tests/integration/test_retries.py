"""What each answer of an endpoint leads to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.api import QUICK_RETRY, SLOW_RETRY, Api
from support.broker_process import BrokerProcess, StartBroker, free_port
from support.endpoint import SELF_SIGNED, Answer, Endpoint, always, by_attempt
from support.eventually import eventually

OK = Answer(200)


def settled(api: Api, topic: str, name: str = "s") -> Callable[[], bool]:
    """Say whether a subscription is owed nothing more."""
    return lambda: api.ok_status(topic, name)["backlog"] == 0


def dead_letters(api: Api, topic: str) -> Callable[[], int]:
    """Count the dead letters of a subscription."""
    return lambda: int(api.ok_status(topic)["dead_letters"])


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_settles(api: Api, topic: str, endpoint: Endpoint, status: int) -> None:
    endpoint.script = always(Answer(status))
    api.ok_subscribe(topic, endpoint.url)
    api.ok_publish(topic, 1)

    eventually(lambda: endpoint.requests and settled(api, topic)())

    assert len(endpoint.requests) == 1
    assert api.ok_status(topic)["dead_letters"] == 0


@pytest.mark.parametrize(
    "failure",
    [
        *(Answer(status) for status in (400, 401, 403, 404, 405, 409, 418, 500, 502, 503, 504)),
        Answer(hang_up=True),
        *(Answer(status, {"Location": "/elsewhere"}) for status in (301, 302, 303, 307, 308)),
        Answer(304),
        Answer(500, body=b"x" * 100_000),
        Answer(raw=b"this is no HTTP\r\n\r\n"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Le"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut short"),
    ],
    ids=lambda answer: f"{answer.status}-{answer.raw}-{answer.hang_up}-{len(answer.body)}",
)
def test_failure_is_tried_again(api: Api, topic: str, endpoint: Endpoint, failure: Answer) -> None:
    endpoint.script = by_attempt(failure, failure, OK)
    api.ok_subscribe(topic, endpoint.url)
    sequence = api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 3 and settled(api, topic)())

    assert [request.attempt for request in endpoint.requests] == [1, 2, 3]
    assert {request.path for request in endpoint.requests} == {"/hook"}
    assert endpoint.sequences == [sequence] * 3


def test_time_out_is_tried_again(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(Answer(delay_s=2), OK)
    api.ok_subscribe(topic, endpoint.url, timeout_s=0.3)
    api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 2 and settled(api, topic)())

    assert [request.attempt for request in endpoint.requests] == [1, 2]


def test_answer_that_never_ends_is_a_time_out(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(Answer(500, endless=True, pause_s=0.02), OK)
    api.ok_subscribe(topic, endpoint.url, timeout_s=0.5)
    api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 2 and settled(api, topic)())


def test_flood_of_an_answer_fills_no_memory(
    broker: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    endpoint.script = by_attempt(Answer(500, endless=True), OK)
    broker.api.ok_subscribe(topic, endpoint.url, timeout_s=1)
    broker.api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 2 and settled(broker.api, topic)())

    for process in (broker.courier(), broker.worker()):
        assert process.memory_info().rss < 400 * 1024 * 1024


def test_self_signed_certificate_is_not_trusted(api: Api, topic: str, endpoint: Endpoint) -> None:
    with Endpoint(certificate=SELF_SIGNED) as untrusted:
        api.ok_subscribe(topic, untrusted.url.replace("127.0.0.1", "localhost"))
        sequence = api.ok_publish(topic, 1)
        eventually(lambda: api.ok_status(topic)["last_error"])
        assert untrusted.requests == []

    api.put_subscription(topic, "s", endpoint=endpoint.url)
    eventually(lambda: endpoint.sequences == [sequence])


def test_slow_answer_within_the_timeout_settles(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(delay_s=0.5))
    api.ok_subscribe(topic, endpoint.url, timeout_s=10)
    api.ok_publish(topic, 1)

    eventually(lambda: endpoint.requests and settled(api, topic)())

    assert len(endpoint.requests) == 1


def test_refused_connection_is_tried_again(api: Api, topic: str) -> None:
    port = free_port()
    api.ok_subscribe(
        topic, f"http://127.0.0.1:{port}/hook", retry={**QUICK_RETRY, "max_attempts": 0}
    )
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: api.ok_status(topic)["last_error"])

    with Endpoint(port=port) as endpoint:
        eventually(lambda: endpoint.sequences == [sequence] and settled(api, topic)())

        assert endpoint.requests[0].attempt > 1


def test_unknown_host_is_tried_again(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, "http://nowhere.invalid/hook")
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: api.ok_status(topic)["last_error"])

    api.put_subscription(topic, "s", endpoint=endpoint.url)

    eventually(lambda: endpoint.sequences == [sequence])


def test_wrong_protocol_is_tried_again(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url.replace("http:", "https:"))
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: api.ok_status(topic)["last_error"])

    api.put_subscription(topic, "s", endpoint=endpoint.url)

    eventually(lambda: endpoint.sequences == [sequence])


def test_attempts_end_in_a_dead_letter(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(500))
    api.ok_subscribe(topic, endpoint.url, retry={**QUICK_RETRY, "max_attempts": 3})
    api.ok_publish(topic, 1)

    eventually(dead_letters(api, topic))
    shown = api.ok_status(topic)

    assert [request.attempt for request in endpoint.requests] == [1, 2, 3]
    assert (shown["dead_letters"], shown["backlog"], shown["retrying"]) == (1, 0, 0)


def test_single_attempt_is_not_repeated(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = always(Answer(500))
    api.ok_subscribe(topic, endpoint.url, retry={**QUICK_RETRY, "max_attempts": 1})
    api.ok_publish(topic, 1)

    eventually(dead_letters(api, topic))

    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("status", [413, 415, 422])
def test_permanent_refusal_is_a_dead_letter_at_once(
    api: Api, topic: str, endpoint: Endpoint, status: int
) -> None:
    endpoint.script = lambda request: Answer(status) if request.key == "bad" else OK
    api.ok_subscribe(topic, endpoint.url)
    bad = api.ok_publish(topic, 1, key="bad")
    eventually(dead_letters(api, topic))
    good = api.ok_publish(topic, 2, key="good")

    eventually(lambda: good in endpoint.sequences and settled(api, topic)())

    assert endpoint.sequences == [bad, good]


def test_dead_letter_lets_its_key_go_on(api: Api, topic: str, endpoint: Endpoint) -> None:
    sequences = [0]
    endpoint.script = lambda request: Answer(422) if request.sequence == sequences[0] else OK
    sequences[0] = api.ok_publish(topic, 0, key="k")
    sequences.append(api.ok_publish(topic, 1, key="k"))
    api.ok_subscribe(topic, endpoint.url, start="beginning")

    eventually(lambda: endpoint.sequences == sequences)


def test_waits_never_pass_the_longest_backoff(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(*[Answer(404)] * 9, OK)
    retry = {"max_attempts": 10, "min_backoff_s": 0.01, "max_backoff_s": 0.02}
    api.ok_subscribe(topic, endpoint.url, retry=retry)
    api.ok_publish(topic, 1)

    eventually(lambda: len(endpoint.requests) == 10)  # 2^9 times the shortest would be 5 s


def test_backoff_keeps_a_retry_waiting(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = lambda request: Answer(500) if request.key == "bad" else OK
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    bad = api.ok_publish(topic, 0, key="bad")
    eventually(lambda: api.ok_status(topic)["retrying"] == 1)

    for n in range(20):
        api.ok_publish(topic, n, key="good")
    eventually(lambda: len(endpoint.requests) == 21)
    eventually(lambda: api.backlog(topic) == 1)  # the last answer may still be on its way

    assert endpoint.sequences.count(bad) == 1


def test_waits_are_spread_by_jitter(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(Answer(404), OK)
    retry = {"max_attempts": 5, "min_backoff_s": 1, "max_backoff_s": 1}
    api.ok_subscribe(topic, endpoint.url, retry=retry)
    for n in range(30):
        api.ok_publish(topic, n)

    eventually(lambda: len(endpoint.requests) == 60)

    failed = {each.sequence: each.at for each in endpoint.requests if each.attempt == 1}
    waits = [each.at - failed[each.sequence] for each in endpoint.requests if each.attempt == 2]
    assert max(waits) - min(waits) > 0.3


def test_later_waits_may_be_longer(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.script = by_attempt(*[Answer(404)] * 4, OK)
    retry = {"max_attempts": 9, "min_backoff_s": 0.1, "max_backoff_s": 60}
    api.ok_subscribe(topic, endpoint.url, retry=retry)
    for n in range(20):
        api.ok_publish(topic, n)

    eventually(lambda: len(endpoint.requests) == 100)

    def longest(attempt: int) -> float:
        """The longest wait before an attempt: of 20 at full jitter, near its bound."""
        at = {(each.sequence, each.attempt): each.at for each in endpoint.requests}
        sequences = set(endpoint.sequences)
        return max(at[each, attempt] - at[each, attempt - 1] for each in sequences)

    assert longest(5) > 2 * longest(2)  # bounds 0.8 s and 0.1 s


def test_new_messages_pass_a_failing_one_without_key(
    api: Api, topic: str, endpoint: Endpoint
) -> None:
    first = [0]
    endpoint.script = lambda request: Answer(500) if request.sequence == first[0] else OK
    api.ok_subscribe(topic, endpoint.url, retry=SLOW_RETRY)
    first[0] = api.ok_publish(topic, 0)
    others = [api.ok_publish(topic, n) for n in range(1, 10)]

    eventually(lambda: set(endpoint.sequences) >= set(others))


def test_proxy_of_the_environment_is_not_used(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    with Endpoint() as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        names = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
        api = start_broker(**dict.fromkeys(names, address), NO_PROXY="", no_proxy="").api
        api.ok_subscribe("t", endpoint.url)
        api.ok_publish("t", 1)

        eventually(lambda: endpoint.requests)

        assert proxy.connections == 0
