"""Sending a process's spans to a collector over OTLP."""

from __future__ import annotations

import os
from collections.abc import Mapping
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_STOP_S = 3.0


class Traces:
    """Sends spans where OpenTelemetry's own variables say (`OTEL_EXPORTER_OTLP_ENDPOINT`).

    `service` is the name they come under, unless `OTEL_SERVICE_NAME` says another. It needs the
    extra `otlp`, and only where a variable is set. In a server that forks, start it in each worker;
    an application that sets up OpenTelemetry by itself has no use for it.
    """

    def __init__(self, service: str, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._service = environment.get("OTEL_SERVICE_NAME") or service
        disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        self._wanted = not disabled and any(environment.get(name) for name in _ENDPOINTS)
        self._provider: TracerProvider | None = None

    def start(self) -> None:
        """Begin to send, if a variable says where; a second call changes nothing.

        Raises ImportError where the extra is missing.
        """
        if not self._wanted or self._provider is not None:
            return
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({SERVICE_NAME: self._service})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(self._provider)

    def stop(self) -> None:
        """Send what has not been sent yet, for three seconds at most."""
        if self._provider is not None:
            sending = Thread(target=self._provider.shutdown, name="last spans", daemon=True)
            sending.start()
            sending.join(_STOP_S)
