"""What one case did in one round."""

from dataclasses import dataclass

from bench.percentiles import Spread
from bench.process_tree import Memory
from bench.servers import ServerUnderTest


class CountsDiffer(Exception):
    """Not all that was published was stored and delivered, so the rate means nothing."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the server under test used: processor time, and its sizes at the end."""

    cpu_s: float
    memory: Memory
    database_bytes: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Times from the moment a message was due to be published.

    `curve_ms` are the percentiles to the webhook at SHARES.
    """

    to_webhook: Spread
    to_answer: Spread
    to_send: Spread
    curve_ms: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The messages of one case, the time they took, and what that cost the server.

    `errors` counts requests, `backlog` the messages not yet delivered when publishing ended.
    """

    messages: int
    seconds: float
    cost: Cost
    errors: int = 0
    backlog: int = 0
    latency: Latency | None = None

    @property
    def per_second(self) -> float:
        """Give the rate."""
        return self.messages / self.seconds

    @property
    def cpu_s_per_1000(self) -> float:
        """Give the processor seconds that a thousand messages take."""
        return self.cost.cpu_s / self.messages * 1000


def cost_since(cpu_s: float, server: ServerUnderTest) -> Cost:
    """Look at a server whose processor time was `cpu_s` before the work began."""
    return Cost(server.cpu_seconds() - cpu_s, server.memory(), server.database_bytes())
