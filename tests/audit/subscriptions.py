"""What the audit subscribes to: every guarantee, ordering and way of sending that it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from broker.partition import cell_of
from broker_client.formats import BATCH
from support.signature import new_secret

TOPIC = "audit"  # where all is in one cell
TIMEOUT_S = 2.0
MAX_BATCH = 20
FIELDS: dict[str, Any] = {
    "start": "beginning",
    "timeout_s": TIMEOUT_S,
    "max_in_flight": 16,
    "max_batch": MAX_BATCH,
    "retry": {"max_attempts": 0, "min_backoff_s": 0.1, "max_backoff_s": 1.0},
}
CONTENT_TYPE = {
    "structured": "application/cloudevents+json",
    "batch": BATCH,
    "binary": "application/json",
}


@dataclass(frozen=True, slots=True)
class Audited:
    """One audited subscription of each topic; both names are the path of its endpoint."""

    name: str
    guarantee: str
    ordering: str = "key"
    format: str = "binary"

    @property
    def retried(self) -> bool:
        """Whether nothing of it may be lost."""
        return self.guarantee != "at-most-once"

    @property
    def receipts(self) -> bool:
        """Whether its endpoint proves that it has processed a message."""
        return self.guarantee == "exactly-once"

    @property
    def promise(self) -> str:
        """Its guarantee and ordering in a few words."""
        batch = ", in batches" if self.format == "batch" else ""
        return f"{self.guarantee}, by {self.ordering}{batch}"

    def fields(self, base_url: str, topic: str, seed: int) -> dict[str, Any]:
        """Give the body of its PUT."""
        return {
            **FIELDS,
            "endpoint": f"{base_url}/{topic}/{self.name}",
            "secret": secrets(seed)[0],
            "guarantee": self.guarantee,
            "ordering": self.ordering,
            "format": self.format,
        }


def topics_of(cells: int) -> Sequence[str]:
    """Name one topic of each cell of a store, in the order of the cells."""
    found: dict[int, str] = {}
    number = 1
    while len(found) < cells:
        name = TOPIC if number == 1 else f"{TOPIC}-{number}"
        found.setdefault(cell_of(name, cells), name)
        number += 1
    return [found[cell] for cell in range(cells)]


def secrets(seed: int) -> tuple[str, str]:
    """Give the secrets that sign the requests: the first, and the one to rotate to and fro."""
    return new_secret(seed), new_secret(-seed - 1)


AUDITED = {
    each.name: each
    for each in (
        Audited("by-key", "at-least-once"),
        Audited("by-topic", "at-least-once", ordering="topic", format="structured"),
        Audited("batched", "at-least-once", format="batch"),
        Audited("at-most-once", "at-most-once"),
        Audited("exactly-once", "exactly-once"),
        Audited("exactly-once-batched", "exactly-once", format="batch"),
    )
}
