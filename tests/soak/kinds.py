"""What the soak subscribes: a subscription of every kind, well and ill."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TOPIC = "soak"
KEPT_S = 60.0
"""How long everything is kept that need not be kept for longer: messages, ids, dead letters."""
EVEN = "soak.even"
ODD = "soak.odd"
SLOW_S = 0.05
FAILS_ONCE, GIVEN_UP = 7, 50
"""Of the failing one every so-manieth message is refused once, or for good."""

TOPIC_CONFIG: dict[str, Any] = {"retention": {"max_age_s": KEPT_S}, "dedup_window_s": KEPT_S}
_FIELDS: dict[str, Any] = {
    "start": "beginning",
    "max_in_flight": 64,
    "timeout_s": 10,
    "retry": {"max_attempts": 0, "min_backoff_s": 0.1, "max_backoff_s": 1.0},
    "dead_letter_retention_s": KEPT_S,
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One subscription; its name is also the path of its endpoint.

    `even_only` is given half of the messages. `lossy` may lose what its endpoint did not take, and
    `dead` never gets any.
    """

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    pulls: bool = False
    even_only: bool = False
    lossy: bool = False
    dead: bool = False

    def body(self, receiver_url: str, nowhere: str) -> dict[str, Any]:
        """Give the body of its PUT."""
        base = nowhere if self.dead else receiver_url
        endpoint = None if self.pulls else f"{base}/{self.name}"
        return {**_FIELDS, "endpoint": endpoint, **self.fields}


KINDS = (
    Kind("ok"),
    Kind("batched", {"format": "batch", "max_batch": 100}),
    Kind("exactly-once", {"guarantee": "exactly-once"}),
    Kind("at-most-once", {"guarantee": "at-most-once"}, lossy=True),
    Kind("slow", {"ordering": "none", "max_in_flight": 256}),
    Kind("failing"),
    Kind("filtered", {"filters": [{"sql": f"type = '{EVEN}'"}]}, even_only=True),
    Kind("dead", {"max_backlog_age_s": KEPT_S, "max_in_flight": 8}, dead=True),
    Kind("pull", {"ordering": "none"}, pulls=True),
)
RECEIVED = tuple(kind for kind in KINDS if not kind.pulls and not kind.dead)
STREAM = "stream"
