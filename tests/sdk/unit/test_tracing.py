"""Events carry the trace they are made in, and handlers go on with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from broker_client import Event, tracing
from broker_client.delivery import Delivery, read_deliveries

TRACE = "0af7651916cd43dd8448eb211c80319c"
MADE, SENT = "b7ad6b7169203331", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{MADE}-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Set up a tracer; its spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def event(**extensions: str) -> Event:
    """An event with extensions."""
    return Event(type="sold", source="/shop", id="1", data={"secret": 1}, extensions=extensions)


def delivered(made: Event, **headers: str) -> Delivery:
    """That event as it comes in a request."""
    content = {"content-type": "application/cloudevents+json", **headers}
    (delivery,) = read_deliveries("order", content, made.to_json().encode())
    return delivery


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    """The one span that has ended."""
    (span,) = spans.get_finished_spans()
    return span


def test_event_carries_the_trace_it_is_made_in(spans: InMemorySpanExporter) -> None:
    made = tracing.stamped("order", event(tenant="a"))

    span = only(spans)
    assert span.name == "create order"
    assert span.kind is trace.SpanKind.PRODUCER
    assert span.attributes is not None
    assert span.attributes["cloudevents.event_id"] == "1"
    assert "secret" not in span.to_json()
    context = span.get_span_context()
    assert context is not None
    ids = f"{context.trace_id:032x}-{context.span_id:016x}"
    traceparent = f"00-{ids}-{context.trace_flags:02x}"
    assert made.extensions == {"tenant": "a", "traceparent": traceparent}
    assert tracing.stamped("order", made) is made


def test_trace_of_the_event_itself_is_kept(spans: InMemorySpanExporter) -> None:
    given = event(traceparent=TRACEPARENT)
    assert tracing.stamped("order", given) is given
    assert spans.get_finished_spans() == ()


def test_event_is_left_alone_where_no_tracer_is_set_up() -> None:
    given = event()
    assert tracing.stamped("order", given) is given


def test_event_is_left_alone_without_opentelemetry(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "INSTALLED", False)
    given = event()
    assert tracing.stamped("order", given) is given
    with tracing.processing(delivered(event(traceparent=TRACEPARENT)), "order/ship") as ended:
        ended("processed", done=True)
    assert spans.get_finished_spans() == ()


@pytest.mark.parametrize(
    ("headers", "parent"),
    [
        ({}, MADE),
        ({"traceparent": f"00-{TRACE}-{SENT}-01"}, SENT),
        ({"traceparent": "nonsense"}, MADE),
    ],
)
def test_handler_goes_on_with_the_request_or_else_with_the_event(
    spans: InMemorySpanExporter, headers: dict[str, str], parent: str
) -> None:
    delivery = delivered(event(traceparent=TRACEPARENT), **headers)
    with tracing.processing(delivery, "order/ship") as ended:
        inner = trace.get_current_span().get_span_context()
        ended("processed", done=True)

    span = only(spans)
    assert (span.name, span.kind) == ("process order/ship", trace.SpanKind.CONSUMER)
    assert inner == span.get_span_context()
    assert inner.trace_id == int(TRACE, 16)
    assert span.parent is not None
    assert span.parent.span_id == int(parent, 16)
    assert span.status.status_code is trace.StatusCode.UNSET


@pytest.mark.parametrize("extensions", [{}, {"traceparent": TRACEPARENT}])
def test_request_that_is_traced_already_is_gone_on_with(
    spans: InMemorySpanExporter, extensions: dict[str, str]
) -> None:
    delivery = delivered(event(**extensions))
    outer = tracing._context_of({"traceparent": f"00-{TRACE}-{SENT}-01"})
    with (
        tracing._tracer.start_as_current_span("POST /webhooks/order", outer) as request,
        tracing.processing(delivery, "order/ship"),
    ):
        pass

    handled, _ = spans.get_finished_spans()
    assert handled.parent == request.get_span_context()


def test_event_without_a_trace_begins_one(spans: InMemorySpanExporter) -> None:
    with tracing.processing(delivered(event()), "order/ship"):
        pass
    assert only(spans).parent is None


def test_failure_shows(spans: InMemorySpanExporter) -> None:
    with tracing.processing(delivered(event()), "order/ship") as ended:
        ended("failed", done=False)

    span = only(spans)
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["broker.outcome"] == "failed"
