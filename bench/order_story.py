"""Where an order's time goes, from the timestamps that the services themselves keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from bench.percentiles import Spread, spread_of

NS_PER_MS = 1_000_000
CREATED, DELIVERED = "order.created", ("shipment.delivered", "shipment.returned")
STEPS = (
    "taken by the order service",
    "published, delivered, registered by the shipping service",
    "shipped, at the depot's next look",
    "delivered, at the one after it",
    "published, delivered, told by the notification service",
)


@dataclass(frozen=True, slots=True)
class Story:
    """The moments of one order, in epoch nanoseconds, in the order of STEPS; the first is due."""

    moments_ns: tuple[int, ...]

    @property
    def total_ns(self) -> int:
        """Say how long it took from due to told."""
        return self.moments_ns[-1] - self.moments_ns[0]


def epoch_ns(timestamp: str) -> int:
    """Read a time as the services write it: RFC 3339 with milliseconds."""
    moment = datetime.fromisoformat(timestamp)
    return round(moment.timestamp() * 1000) * NS_PER_MS


def stories_of(
    due_ns: Mapping[str, int],
    orders: Sequence[Mapping[str, Any]],
    changes: Sequence[Mapping[str, Any]],
    notifications: Sequence[Mapping[str, Any]],
) -> list[Story]:
    """Put together what each service knows of each order; `due_ns` is by customer.

    `changes` are the shipment's events: `order_id`, `status`, `changed_at`. Raises KeyError where
    a part of a story is missing.
    """
    moved = {(each["order_id"], each["status"]): epoch_ns(each["changed_at"]) for each in changes}
    told = {
        each["order_id"]: epoch_ns(each["created_at"])
        for each in notifications
        if each["event_type"] in DELIVERED
    }
    stories = []
    for order in orders:
        order_id = order["id"]
        end = moved.get((order_id, "DELIVERED")) or moved[(order_id, "RETURNED")]
        stories.append(
            Story(
                (
                    due_ns[order["customer_id"]],
                    epoch_ns(order["created_at"]),
                    moved[(order_id, "REGISTERED")],
                    moved[(order_id, "SHIPPED")],
                    end,
                    told[order_id],
                )
            )
        )
    return stories


def total_of(stories: Sequence[Story]) -> Spread:
    """Sum up how long whole stories took."""
    return spread_of([story.total_ns for story in stories])


def steps_of(stories: Sequence[Story]) -> list[tuple[str, Spread]]:
    """Sum up each step."""
    return [
        (
            name,
            spread_of([story.moments_ns[at + 1] - story.moments_ns[at] for story in stories]),
        )
        for at, name in enumerate(STEPS)
    ]


def slowest(steps: Sequence[tuple[str, Spread]]) -> str:
    """Name the step that takes longest in the usual case."""
    return max(steps, key=lambda step: step[1].p50_ms)[0]


def median_ms(stories: Sequence[Story]) -> float:
    """Say how long the usual story took."""
    return median(story.total_ns for story in stories) / NS_PER_MS
