"""Traces through events, with OpenTelemetry where it is installed and set up.

An event made within a trace carries it (`traceparent`, `tracestate`), and its handler goes on with
it. Without OpenTelemetry, or where an application has set up no tracer, nothing happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from broker_client.delivery import Delivery
from broker_client.event import Event

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # the extra is not installed
    INSTALLED = False
else:
    INSTALLED = True
    _tracer = trace.get_tracer("broker_client")
    _w3c = TraceContextTextMapPropagator()

ATTRIBUTES = ("traceparent", "tracestate")


class Ending(Protocol):
    """Hears how the handling of a delivery ended."""

    def __call__(self, kind: str, *, done: bool) -> None:
        """Hear it."""


def stamped(topic: str, event: Event) -> Event:
    """Return the event with the trace it is made in, unless it carries one.

    The span `create <topic>` marks where that was: all that becomes of the event hangs below it.
    """
    if not INSTALLED or "traceparent" in event.extensions:
        return event
    with _tracer.start_as_current_span(
        f"create {topic}", kind=trace.SpanKind.PRODUCER, attributes=_about(topic, event)
    ):
        carrier: dict[str, str] = {}
        _w3c.inject(carrier)
    if not carrier:  # no tracer is set up
        return event
    return replace(event, extensions={**event.extensions, **carrier})


@contextmanager
def processing(delivery: Delivery, consumer: str) -> Iterator[Ending]:
    """Handle a delivery within the trace that its event carries; yield where to tell the end.

    Where the request is traced already (by an instrumentation of Flask, say), its span is gone on
    with.
    """
    if not INSTALLED:
        yield lambda kind, *, done: None
        return
    with _tracer.start_as_current_span(
        f"process {consumer}",
        context=_origin(delivery),
        kind=trace.SpanKind.CONSUMER,
        attributes={**_about(delivery.topic, delivery.event), "webhook.attempt": delivery.attempt},
    ) as span:

        def ended(kind: str, *, done: bool) -> None:
            span.set_attribute("broker.outcome", kind)
            if not done:
                span.set_status(trace.StatusCode.ERROR, kind)

        yield ended


def _origin(delivery: Delivery) -> Context | None:
    """Return the context to go on with; None for the current one."""
    made = _context_of(delivery.event.extensions)
    current = trace.get_current_span().get_span_context()
    known = trace.get_current_span(made).get_span_context()
    if current.is_valid and (not known.is_valid or current.trace_id == known.trace_id):
        return None
    sent = _context_of(delivery.trace)
    return sent if trace.get_current_span(sent).get_span_context().is_valid else made


def _context_of(carrier: Mapping[str, object]) -> Context:
    return _w3c.extract({n: str(carrier[n]) for n in ATTRIBUTES if n in carrier}, Context())


def _about(topic: str, event: Event) -> dict[str, str]:
    return {
        "messaging.system": "broker",
        "messaging.destination.name": topic,
        "cloudevents.event_id": event.id,
        "cloudevents.event_source": event.source,
        "cloudevents.event_type": event.type,
    }
