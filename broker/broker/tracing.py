"""OpenTelemetry spans of publishes and attempts, for messages that carry a trace.

A message's `traceparent` and `tracestate` (the CloudEvents extension for distributed tracing) say
where it was made, and stay as they are. What the broker does with it becomes spans of that trace:
one for its publish, one for each attempt to deliver it. A request with one message carries the
attempt's own `traceparent` as an HTTP header, so that what the endpoint does hangs below it.
"""

import time
from collections.abc import Mapping, Sequence
from threading import Thread
from typing import TYPE_CHECKING

from broker.cloudevents import attributes_of
from broker.model import NewMessage

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SENDING_S = 3.0


class NoOpenTelemetry(Exception):
    """Traces are asked for, but the packages that send them are not there."""


def tracing_from(environ: Mapping[str, str], version: str) -> "Tracing | None":
    """Send spans to where OpenTelemetry's variables say, if they say so. Raises NoOpenTelemetry.

    Must be called in the process that works: the thread that sends does not survive a fork.
    """
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or not any(environ.get(name, "").strip() for name in ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise NoOpenTelemetry(
            f"{ENDPOINTS[0]} is set, but {error.name} is not installed: "
            "install broker[otlp], or leave it unset."
        ) from None
    resource = Resource.create({} if environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "broker"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider, version)


class Attempt:
    """The spans of one request, one for each of its messages that carries a trace."""

    def __init__(self, spans: "Sequence[Span]", headers: list[str]) -> None:
        self.headers = headers
        self._spans = spans

    def ended(self, status: int, error: str) -> None:
        """Hear how the request ended; `status` is 0 where no answer came."""
        from opentelemetry.trace import Status, StatusCode

        for span in self._spans:
            if status:
                span.set_attribute("http.response.status_code", status)
            if not 200 <= status < 300:
                span.set_status(Status(StatusCode.ERROR, error or f"answered {status}"))
            span.end()

    def lost(self) -> None:
        """Hear that nobody knows how it ended."""
        self.ended(0, "the request ended without an outcome")


class Tracing:
    """Makes spans."""

    def __init__(self, provider: "TracerProvider", version: str) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("broker", version)
        self._kind = SpanKind
        self._propagator = TraceContextTextMapPropagator()

    def published(self, topic: str, messages: Sequence[NewMessage], began_ns: int) -> None:
        """Hear of a publish that began then, and whose messages are on disk now."""
        for message in messages:
            found = self._made(message.attributes)
            if found is not None:
                context, about = found
                span = self._tracer.start_span(
                    f"publish {topic}",
                    context,
                    self._kind.SERVER,
                    {**about, "messaging.destination.name": topic},
                    start_time=began_ns,
                )
                span.end()

    def attempt(
        self, topic: str, subscription: str, number: int, messages: Sequence[bytes]
    ) -> Attempt | None:
        """Begin an attempt with messages of these attributes; None where none carries a trace."""
        spans = []
        now = time.time_ns()
        for attributes in messages:
            found = self._made(attributes)
            if found is not None:
                context, about = found
                about |= {
                    "messaging.destination.name": topic,
                    "messaging.destination.subscription.name": subscription,
                    "webhook.attempt": number,
                }
                name = f"deliver {topic}/{subscription}"
                kind = self._kind.CLIENT
                spans.append(self._tracer.start_span(name, context, kind, about, start_time=now))
        if not spans:
            return None
        return Attempt(spans, self._headers(spans[0]) if len(messages) == 1 else [])

    def stop(self) -> None:
        """Send what has not been sent yet, for SENDING_S at most."""
        # Its own time limit does not hold while a request to the collector is under way.
        sending = Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        sending.start()
        sending.join(SENDING_S)

    def _made(self, attributes: bytes) -> "tuple[Context, dict[str, str | int]] | None":
        """Return where a message was made and what to tell of it, if it carries a trace."""
        if b'"traceparent"' not in attributes:
            return None
        from opentelemetry.trace import get_current_span

        decoded = attributes_of(attributes)
        carrier = {
            name: str(decoded[name]) for name in ("traceparent", "tracestate") if name in decoded
        }
        context = self._propagator.extract(carrier)
        if not get_current_span(context).get_span_context().is_valid:
            return None
        about: dict[str, str | int] = {
            "messaging.system": "broker",
            "cloudevents.event_id": str(decoded["id"]),
            "cloudevents.event_source": str(decoded["source"]),
            "cloudevents.event_type": str(decoded["type"]),
        }
        return context, about

    def _headers(self, span: "Span") -> list[str]:
        from opentelemetry.trace import set_span_in_context

        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        return [f"{name}: {value}" for name, value in carrier.items()]
