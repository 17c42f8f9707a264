"""`consent`: an endpoint is asked, by OPTIONS, before it is sent to."""

from __future__ import annotations

import pytest

from support.api import Api, good
from support.broker_process import BrokerProcess, StartBroker
from support.endpoint import Answer, Endpoint, Received, always
from support.eventually import eventually
from support.problem import read_problem
from support.witness import Witness

ORIGIN = "127.0.0.1"  # the host of the tests' BROKER_PUBLIC_URL
AGREES = always(Answer(204, {"WebHook-Allowed-Origin": ORIGIN, "WebHook-Allowed-Rate": "*"}))
REFUSES = always(Answer(200, {"WebHook-Allowed-Origin": "other.example"}))
KNOWS_NOTHING = always(Answer(405, {"Allow": "POST"}))


def test_consent_is_off_unless_it_is_wanted(api: Api, topic: str, endpoint: Endpoint) -> None:
    api.ok_subscribe(topic, endpoint.url)
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: endpoint.sequences == [sequence])

    shown = api.ok_status(topic)
    assert (shown["consent"], shown["consent_state"], endpoint.asked) == ("off", None, [])
    assert "webhook-request-origin" not in endpoint.requests[0].headers


@pytest.mark.parametrize("value", ["yes", True, 1, [], "Required"])
def test_wrong_consent_is_refused(api: Api, topic: str, endpoint: Endpoint, value: object) -> None:
    problem = read_problem(
        api.put_subscription(topic, "s", endpoint=endpoint.url, consent=value), 422
    )

    assert problem.names("consent")


def test_endpoint_is_asked_as_cloudevents_has_it(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.consent = AGREES
    fields = {"consent": "required", "rate_limit": 2.5, "headers": {"authorization": "Bearer 1"}}
    api.ok_subscribe(topic, endpoint.url, **fields)
    eventually(lambda: api.ok_status(topic)["consent_state"] == "agreed")

    (asked,) = endpoint.asked
    assert (asked.method, asked.path, asked.body) == ("OPTIONS", "/hook", b"")
    assert asked.headers["webhook-request-origin"] == ORIGIN
    assert asked.headers["webhook-request-rate"] == "150"
    assert asked.headers["authorization"] == "Bearer 1"
    assert asked.headers["webhook-subscription"] == f"{topic}/s"
    assert asked.headers["user-agent"].startswith("broker/")
    assert "webhook-signature" not in asked.headers


@pytest.mark.parametrize("consent", ["required", "if-supported"])
def test_endpoint_that_agrees_is_sent_to_and_told_the_origin(
    api: Api, topic: str, endpoint: Endpoint, consent: str
) -> None:
    endpoint.consent = AGREES
    api.ok_subscribe(topic, endpoint.url, consent=consent)
    sequences = [api.ok_publish(topic, n) for n in range(3)]

    eventually(lambda: sorted(endpoint.sequences) == sequences)

    assert api.ok_status(topic)["consent_state"] == "agreed"
    assert {each.headers["webhook-request-origin"] for each in endpoint.requests} == {ORIGIN}
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(405), "405"),
        (Answer(200), "WebHook-Allowed-Origin"),
        (Answer(302, {"Location": "/yes"}), "302"),
        (Answer(503), "503"),
        (Answer(200, {"WebHook-Allowed-Origin": "other.example"}), "other.example"),
        (Answer(200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "much"}), "much"),
        (Answer(hang_up=True), "without an answer"),
        (Answer(200, {"WebHook-Allowed-Origin": "*"}, delay_s=2), "in time"),
        (Answer(raw=b"HTTP/1.1 200 OK\r\nWebHook-Allowed-Origin: *\r\n"), "broke"),
    ],
)
def test_nothing_is_sent_without_the_consent_that_is_required(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness, answer: Answer, told: str
) -> None:
    endpoint.consent = always(answer)
    api.ok_subscribe(topic, endpoint.url, consent="required", timeout_s=0.5)
    sequences = [api.ok_publish(topic, n, key="k") for n in range(3)]
    eventually(lambda: told in (api.ok_status(topic)["last_error"] or ""))
    witness.let_pass(api)

    shown = api.ok_status(topic)
    assert (shown["state"], shown["backlog"], shown["dead_letters"]) == ("active", 3, 0)
    assert shown["consent_state"] in {"awaited", "refused"}
    assert endpoint.requests == []

    endpoint.consent = AGREES  # it is asked again by itself
    eventually(lambda: endpoint.sequences == sequences, within_s=30)
    eventually(lambda: api.backlog(topic) == 0)
    assert api.ok_status(topic)["last_error"] is None


@pytest.mark.parametrize("status", [200, 204, 403, 404, 405, 501])
def test_endpoint_that_knows_no_question_is_sent_to_if_that_will_do(
    api: Api, topic: str, endpoint: Endpoint, status: int
) -> None:
    endpoint.consent = always(Answer(status))
    api.ok_subscribe(topic, endpoint.url, consent="if-supported")
    sequence = api.ok_publish(topic, 1)

    eventually(lambda: endpoint.sequences == [sequence])

    assert api.ok_status(topic)["consent_state"] == "unsupported"
    assert "webhook-request-origin" not in endpoint.requests[0].headers


def test_endpoint_that_refuses_is_not_sent_to(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.consent = REFUSES
    api.ok_subscribe(topic, endpoint.url, consent="if-supported")
    api.ok_publish(topic, 1)
    eventually(lambda: api.ok_status(topic)["consent_state"] == "refused")

    witness.let_pass(api)

    assert (endpoint.requests, api.backlog(topic)) == ([], 1)


def test_resume_has_the_endpoint_asked_at_once(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.consent = KNOWS_NOTHING
    api.ok_subscribe(topic, endpoint.url, consent="required")
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: len(endpoint.asked) == 3)  # 1 and 2 s apart; the next in 4
    api.pause(topic)
    endpoint.consent = AGREES

    api.resume(topic)

    eventually(lambda: endpoint.sequences == [sequence], within_s=3)


def test_new_endpoint_is_asked_and_the_old_one_when_it_comes_back(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.consent = AGREES
    api.ok_subscribe(topic, endpoint.url, consent="required")
    first = api.ok_publish(topic, 1)
    eventually(lambda: endpoint.sequences == [first])

    with Endpoint() as moved:
        good(api.put_subscription(topic, "s", endpoint=moved.url))
        second = api.ok_publish(topic, 2)
        eventually(lambda: moved.asked)
        witness.let_pass(api)
        assert (moved.requests, api.backlog(topic)) == ([], 1)

        moved.consent = AGREES
        eventually(lambda: moved.sequences == [second])

    good(api.put_subscription(topic, "s", endpoint=endpoint.url))
    eventually(lambda: len(endpoint.asked) == 2)


def test_put_of_what_is_there_asks_nothing(
    api: Api, topic: str, endpoint: Endpoint, witness: Witness
) -> None:
    endpoint.consent = AGREES
    for _ in range(3):
        good(api.put_subscription(topic, "s", endpoint=endpoint.url, consent="required"))
        eventually(lambda: api.ok_status(topic)["consent_state"] == "agreed")

    witness.let_pass(api)

    assert len(endpoint.asked) == 1


def test_consent_survives_a_kill(
    restartable: BrokerProcess, topic: str, endpoint: Endpoint
) -> None:
    api = restartable.api
    endpoint.consent = AGREES
    api.ok_subscribe(topic, endpoint.url, consent="required")
    first = api.ok_publish(topic, 1)
    eventually(lambda: endpoint.sequences == [first])
    eventually(lambda: api.backlog(topic) == 0)
    endpoint.consent = KNOWS_NOTHING

    restartable.kill()
    restartable.start()
    second = restartable.api.ok_publish(topic, 2)

    eventually(lambda: second in endpoint.sequences)
    assert len(endpoint.asked) == 1
    assert restartable.api.ok_status(topic)["consent_state"] == "agreed"


def test_broker_under_another_name_asks_anew(start_broker: StartBroker, endpoint: Endpoint) -> None:
    broker = start_broker(BROKER_PUBLIC_URL=None)
    endpoint.consent = always(Answer(204, {"WebHook-Allowed-Origin": "broker"}))
    broker.api.ok_subscribe("t", endpoint.url, consent="required")
    eventually(lambda: broker.api.ok_status("t")["consent_state"] == "agreed")
    broker.stop()

    broker.set(BROKER_PUBLIC_URL="https://Events.Example.com/broker")
    broker.start()

    eventually(lambda: broker.api.ok_status("t")["consent_state"] == "refused")
    told = [each.headers["webhook-request-origin"] for each in endpoint.asked[:2]]
    assert told == ["broker", "events.example.com"]


def test_allowed_rate_bounds_the_rate(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.consent = always(
        Answer(204, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "600"})
    )
    sequences = [api.ok_publish(topic, n) for n in range(16)]
    api.ok_subscribe(topic, endpoint.url, consent="required", start="beginning", rate_limit=1000)

    eventually(lambda: sorted(endpoint.sequences) == sequences)

    first, *_, last = sorted(request.at for request in endpoint.requests)
    assert last - first >= 15 / 10 * 0.9  # 600 a minute, the first at once


def test_endpoint_inside_is_not_even_asked(start_broker: StartBroker, endpoint: Endpoint) -> None:
    endpoint.consent = AGREES
    api = start_broker(BROKER_ALLOWED_TARGETS=None).api
    api.ok_subscribe("t", endpoint.url, consent="required")

    eventually(lambda: "not an allowed target" in (api.ok_status("t")["last_error"] or ""))

    assert (endpoint.connections, endpoint.asked) == (0, [])


def test_question_follows_no_redirect(api: Api, topic: str, endpoint: Endpoint) -> None:
    with Endpoint() as other:
        other.consent = AGREES
        endpoint.consent = always(Answer(307, {"Location": other.url}))
        api.ok_subscribe(topic, endpoint.url, consent="required")
        eventually(lambda: len(endpoint.asked) > 1)

        assert other.connections == 0


def test_answer_that_does_not_end_is_cut_off(api: Api, topic: str, endpoint: Endpoint) -> None:
    endpoint.consent = always(Answer(200, {"WebHook-Allowed-Origin": "*"}, endless=True))
    api.ok_subscribe(topic, endpoint.url, consent="required")
    sequence = api.ok_publish(topic, 1)

    eventually(lambda: endpoint.sequences == [sequence])  # its headers have said all


def test_endpoint_that_is_down_is_asked_once_it_is_up(api: Api, topic: str) -> None:
    with Endpoint() as gone:
        port = gone.port
    api.ok_subscribe(topic, f"http://127.0.0.1:{port}/hook", consent="if-supported")
    sequence = api.ok_publish(topic, 1)
    eventually(lambda: "refused the connection" in (api.ok_status(topic)["last_error"] or ""))

    with Endpoint(port=port) as back:
        eventually(lambda: back.sequences == [sequence], within_s=30)
        assert api.ok_status(topic)["consent_state"] == "unsupported"


def test_every_subscription_asks_for_itself(api: Api, topic: str, endpoint: Endpoint) -> None:
    def consent(request: Received) -> Answer:
        mine = request.headers["webhook-subscription"] == f"{topic}/a"
        return Answer(204, {"WebHook-Allowed-Origin": "*"} if mine else {})

    endpoint.consent = consent
    for name in ("a", "b"):
        api.ok_subscribe(topic, endpoint.url, name, consent="required")

    eventually(lambda: api.ok_status(topic, "a")["consent_state"] == "agreed")
    eventually(lambda: api.ok_status(topic, "b")["last_error"])
    assert api.ok_status(topic, "b")["consent_state"] == "awaited"


def test_missing_consent_is_seen_in_the_metrics(api: Api, topic: str, endpoint: Endpoint) -> None:
    labels = f'{{subscription="s",topic="{topic}"}}'
    sample = f"broker_subscription_without_consent{labels} "
    endpoint.consent = KNOWS_NOTHING
    api.ok_subscribe(topic, endpoint.url, consent="required")
    eventually(lambda: sample + "1.0" in api.http.get("/metrics").text)

    endpoint.consent = AGREES
    eventually(lambda: sample + "0.0" in api.http.get("/metrics").text)
