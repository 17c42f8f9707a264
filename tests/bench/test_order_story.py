"""An order's story is put together from what each service knows, and its slowest step is named."""

from typing import Any

import pytest
from bench.order_story import STEPS, epoch_ns, slowest, steps_of, stories_of, total_of
from bench.percentiles import Spread

START = "2026-03-01T10:00:00.000Z"


def at(ms: int) -> str:
    return f"2026-03-01T10:00:00.{ms:03}Z"


def story(last: str = "DELIVERED") -> tuple[list[dict[str, Any]], ...]:
    orders = [{"id": "o1", "customer_id": "c-0", "created_at": at(2)}]
    moved = (("REGISTERED", 12), ("SHIPPED", 112), (last, 362))
    changes = [{"order_id": "o1", "status": s, "changed_at": at(ms)} for s, ms in moved]
    told = (("order.created", 20), ("shipment.shipped", 130), (f"shipment.{last.lower()}", 380))
    notifications = [
        {"order_id": "o1", "event_type": kind, "created_at": at(ms)} for kind, ms in told
    ]
    return orders, changes, notifications


@pytest.mark.parametrize("last", ["DELIVERED", "RETURNED"])
def test_steps_add_up_to_the_whole(last: str) -> None:
    stories = stories_of({"c-0": epoch_ns(START)}, *story(last))
    steps = steps_of(stories)
    assert [spread.p50_ms for _, spread in steps] == [2.0, 10.0, 100.0, 250.0, 18.0]
    assert total_of(stories) == Spread(380.0, 380.0, 380.0)


def test_slowest_step_is_named() -> None:
    stories = stories_of({"c-0": epoch_ns(START)}, *story())
    assert slowest(steps_of(stories)) == STEPS[3]


def test_story_without_its_end_is_refused() -> None:
    orders, changes, notifications = story()
    with pytest.raises(KeyError):
        stories_of({"c-0": 0}, orders, changes, notifications[:-1])
