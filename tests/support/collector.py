"""A collector of traces, which takes in what comes over OTLP/HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.endpoint import Endpoint

PATH = "/v1/traces"


@dataclass(frozen=True)
class Span:
    """A span; ids are in hexadecimal, as `traceparent` has them, and `failed` has its error."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    failed: str | None
    attributes: Mapping[str, str | int]
    began_ns: int
    ended_ns: int
    text: str = field(repr=False)


class Collector:
    """One that runs."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.url = f"http://127.0.0.1:{endpoint.port}"

    @property
    def settings(self) -> dict[str, str]:
        """The variables that have a process send its spans here, and soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def spans(self, name: str | None = None) -> list[Span]:
        """Return the spans so far, or those of a name, in the order in which they began."""
        found = [span for request in self._endpoint.requests for span in _spans_of(request.body)]
        found.sort(key=lambda span: span.began_ns)
        return [span for span in found if name is None or span.name == name]


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector."""
    with Endpoint() as endpoint:
        yield Collector(endpoint)
    assert endpoint.faults == [], "the collector itself failed"


def _spans_of(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        (service,) = (
            each.value.string_value
            for each in resource.resource.attributes
            if each.key == "service.name"
        )
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service,
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.status.message if span.status.code == 2 else None,
                    {
                        each.key: each.value.string_value or each.value.int_value
                        for each in span.attributes
                    },
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    str(span),
                )
