"""What the broker does with a message that carries a trace becomes part of that trace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.api import INSTANT_RETRY, Api, good
from support.broker_process import BrokerProcess, StartBroker, free_port
from support.cloudevent import event
from support.collector import Collector, collecting
from support.endpoint import Answer, Endpoint, by_attempt
from support.eventually import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
MADE = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{MADE}-01"
SERVER, CLIENT = 2, 3


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BrokerProcess, Collector]]:
    """A broker that sends its spans to a collector."""
    with collecting() as collector:
        running = BrokerProcess(tmp_path_factory.mktemp("traced"), **collector.settings)
        try:
            yield running.start(), collector
        finally:
            running.close()
            print(running.log()[-20_000:])


@pytest.fixture
def api(traced: tuple[BrokerProcess, Collector]) -> Api:
    """A client of that broker."""
    return traced[0].api


@pytest.fixture
def collector(traced: tuple[BrokerProcess, Collector]) -> Collector:
    """Where its spans come."""
    return traced[1]


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic of the test's own."""
    return f"traced-{abs(hash(request.node.name))}"


def test_publish_and_attempt_hang_below_the_producer(
    api: Api, topic: str, endpoint: Endpoint, collector: Collector
) -> None:
    api.ok_subscribe(topic, endpoint.url, "sub")
    api.ok_publish(
        topic,
        "a secret",
        id="m-1",
        source="/shop",
        type="sold",
        key="k",
        traceparent=TRACEPARENT,
        tracestate="vendor=1",
    )

    (publish,) = eventually(lambda: collector.spans(f"publish {topic}"))
    (deliver,) = eventually(lambda: collector.spans(f"deliver {topic}/sub"))

    for span, kind in ((publish, SERVER), (deliver, CLIENT)):
        assert (span.service, span.kind, span.failed) == ("broker", kind, None)
        assert (span.trace, span.parent) == (TRACE, MADE)
        assert span.began_ns < span.ended_ns
        assert span.attributes.items() >= {
            ("messaging.system", "broker"),
            ("messaging.destination.name", topic),
            ("cloudevents.event_id", "m-1"),
            ("cloudevents.event_source", "/shop"),
            ("cloudevents.event_type", "sold"),
        }
        assert "secret" not in span.text
    assert deliver.attributes.items() >= {
        ("messaging.destination.subscription.name", "sub"),
        ("webhook.attempt", 1),
        ("http.response.status_code", 200),
    }
    (request,) = endpoint.requests
    assert request.headers["ce-traceparent"] == TRACEPARENT
    assert request.headers["ce-tracestate"] == "vendor=1"
    assert request.headers["traceparent"] == f"00-{TRACE}-{deliver.id}-01"
    assert request.headers["tracestate"] == "vendor=1"


def test_each_attempt_is_a_span_that_says_how_it_ended(
    api: Api, topic: str, endpoint: Endpoint, collector: Collector
) -> None:
    endpoint.script = by_attempt(Answer(503), Answer(hang_up=True), Answer(200))
    api.ok_subscribe(topic, endpoint.url, retry=INSTANT_RETRY)
    api.ok_publish(topic, 1, traceparent=TRACEPARENT)

    eventually(lambda: len(collector.spans(f"deliver {topic}/s")) == 3)

    spans = collector.spans(f"deliver {topic}/s")
    assert [span.attributes["webhook.attempt"] for span in spans] == [1, 2, 3]
    assert [span.failed for span in spans] == [
        "answered 503",
        "the endpoint closed the connection without an answer",
        None,
    ]
    assert [span.attributes.get("http.response.status_code") for span in spans] == [503, None, 200]
    assert len({span.id for span in spans}) == 3


def test_each_message_of_a_batch_is_in_its_own_trace(
    api: Api, topic: str, endpoint: Endpoint, collector: Collector
) -> None:
    traces = [f"{n:032x}" for n in range(1, 4)]
    events = [event(id=trace, traceparent=f"00-{trace}-{MADE}-01") for trace in traces]
    good(api.publish_batch(topic, [*events, event(id="untraced")]))
    api.ok_subscribe(topic, endpoint.url, format="batch", start="beginning")

    eventually(lambda: len(collector.spans(f"deliver {topic}/s")) == 3)

    for name in (f"publish {topic}", f"deliver {topic}/s"):
        assert sorted(span.trace for span in collector.spans(name)) == traces
    (request,) = endpoint.requests
    assert "traceparent" not in request.headers


@pytest.mark.parametrize(
    "traceparent",
    [None, "00-1-2-3", "nonsense", f"00-{'0' * 32}-{MADE}-01", f"ff-{TRACE}-{MADE}-01"],
)
def test_message_without_a_trace_begins_none(
    api: Api, topic: str, endpoint: Endpoint, collector: Collector, traceparent: str | None
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    attributes = {} if traceparent is None else {"traceparent": traceparent}
    api.ok_publish(topic, 1, key="k", **attributes)
    api.ok_publish(topic, 2, key="k", id="second", traceparent=TRACEPARENT)

    (span,) = eventually(lambda: collector.spans(f"deliver {topic}/s"))
    assert span.attributes["cloudevents.event_id"] == "second"
    assert len(collector.spans(f"publish {topic}")) == 1
    first, _ = endpoint.requests
    assert "traceparent" not in first.headers
    assert first.headers.get("ce-traceparent") == traceparent


def test_trace_that_is_not_recorded_is_passed_on_all_the_same(
    api: Api, topic: str, endpoint: Endpoint, collector: Collector
) -> None:
    api.ok_subscribe(topic, endpoint.url)
    api.ok_publish(topic, 1, key="k", traceparent=f"00-{TRACE}-{MADE}-00")
    api.ok_publish(topic, 2, key="k", id="second", traceparent=TRACEPARENT)

    (span,) = eventually(lambda: collector.spans(f"deliver {topic}/s"))
    assert span.attributes["cloudevents.event_id"] == "second"
    first, _ = endpoint.requests
    version, trace, _, flags = first.headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "00")


def test_collector_that_is_not_there_holds_up_nothing(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    broker = start_broker(OTEL_EXPORTER_OTLP_ENDPOINT=nobody, OTEL_BSP_SCHEDULE_DELAY="50")
    broker.api.ok_subscribe("t", endpoint.url)
    for number in range(20):
        broker.api.ok_publish("t", number, traceparent=TRACEPARENT)

    eventually(lambda: len(endpoint.requests) == 20)
    assert broker.stop() == 0


def test_where_nothing_is_said_of_a_collector_there_is_no_header(
    start_broker: StartBroker, endpoint: Endpoint
) -> None:
    broker = start_broker()
    broker.api.ok_subscribe("t", endpoint.url)
    broker.api.ok_publish("t", 1, traceparent=TRACEPARENT)

    (request,) = eventually(lambda: endpoint.requests)
    assert request.headers["ce-traceparent"] == TRACEPARENT
    assert "traceparent" not in request.headers


def test_tracing_can_be_disabled(start_broker: StartBroker, endpoint: Endpoint) -> None:
    with collecting() as collector:
        broker = start_broker(**collector.settings, OTEL_SDK_DISABLED="true")
        broker.api.ok_subscribe("t", endpoint.url)
        broker.api.ok_publish("t", 1, traceparent=TRACEPARENT)

        (request,) = eventually(lambda: endpoint.requests)
        broker.stop()
        assert "traceparent" not in request.headers
        assert collector.spans() == []
