"""What is audited: a kind of stack, with the storm over it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from audit.fault_log import FaultLog
from audit.figures import Figures
from audit.pulse import Pulse
from audit.webhooks import Webhooks


class Subject(Protocol):
    """Brokers that run with whatever else belongs to them, in a folder of their own."""

    @property
    def broker_urls(self) -> Sequence[str]:
        """Where publishes may go, to any of them."""

    @property
    def answer_s(self) -> float:
        """How long a publisher waits for an answer."""

    @property
    def topics(self) -> Sequence[str]:
        """What is published to."""

    def start(self) -> None:
        """Start everything, and wait until it is ready. Raises AssertionError."""

    def close(self) -> None:
        """Leave no process behind."""

    def storm(
        self, seconds: float, webhooks: Webhooks, pulse: Pulse, log: FaultLog
    ) -> AbstractContextManager[object]:
        """Give load and faults for so long; leaving the `with` ends and heals them all."""

    def progress(self) -> str:
        """Say what more there is to say of how far things have come."""

    def recover(self, log: FaultLog) -> None:
        """Wait until everything is ready after the storm. Raises AssertionError."""

    def figures(self, log: FaultLog) -> Sequence[Figures]:
        """Count what there is to count beside the audit's own messages."""

    def check(self, log: FaultLog) -> None:
        """Stop everything in good order, and look at what it leaves."""
