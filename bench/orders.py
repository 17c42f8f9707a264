"""An order through all four services, each with a database of its own."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from bench.deliveries import POLL_S, STUCK_S
from bench.finding import Finding, Say
from bench.order_story import slowest, steps_of, stories_of, total_of
from bench.result import CountsDiffer
from bench.scale import Scale
from bench.schedule import Publisher, Schedule
from bench.server_process import ServerProcess
from bench.service_processes import Services, running_services
from bench.table import Table

NEWS_PER_ORDER = 4
PAGE = 1000
BURST_CUSTOMERS = 8  # each sends the next order after the answer to the last
SUBSCRIPTIONS = (
    ("order", "shipping-service"),
    ("order", "notification-service"),
    ("shipment", "notification-service"),
)


def measure_orders(folder: Path, scale: Scale, say: Say) -> Finding:
    """Place orders by the clock, then as fast as they are taken, until each story is told."""
    with running_services(folder) as services:
        _await_subscriptions(services)
        say(f"{scale.orders_rate} orders a second for {scale.orders_s} s")
        schedule = Schedule(scale.orders_s * scale.orders_rate, scale.orders_rate)
        publisher = Publisher(services.order.port, "/orders", order_of)
        times = publisher.run(schedule)
        _await_news(services, schedule.count)
        due_ns = {customer(index): due for index, due in enumerate(times.due_ns)}
        steady = stories_of(
            due_ns,
            list(_pages(services.order, "orders")),
            [each["data"] for each in _pages(services.broker, "messages", "/v1/topics/shipment")],
            list(_pages(services.notification, "notifications")),
        )
        if len(steady) != schedule.count:
            raise CountsDiffer(f"{schedule.count} orders were placed, {len(steady)} are known")

        say(f"orders from {BURST_CUSTOMERS} customers, each after the other")
        started_at = time.time()
        placed = _burst(services, scale.step_s * scale.steps)
        last_at = _await_news(services, schedule.count + placed)
    total, steps = total_of(steady), steps_of(steady)
    rate = placed / (last_at - started_at)
    rows = [*steps, ("all, from due to the last notification", total)]
    return Finding(
        sentences=(
            f"At {scale.orders_rate} orders/s, half of the stories were told {total.p50_ms:.0f} ms"
            f" after their order was due, 99 % within {total.p99_ms:.0f} ms.",
            f"The slowest step: {slowest(steps)}.",
            f"At full speed {rate:.0f} orders/s were taken and told to the end:"
            f" {rate * NEWS_PER_ORDER:.0f} notifications/s.",
        ),
        tables=(
            Table(
                ("step, ms", "p50", "p99", "longest"),
                tuple(
                    (
                        name,
                        f"{spread.p50_ms:.0f}",
                        f"{spread.p99_ms:.0f}",
                        f"{spread.max_ms:.0f}",
                    )
                    for name, spread in rows
                ),
            ),
        ),
        figures={"p99_ms": total.p99_ms, "p50_ms": total.p50_ms, "orders_per_second": rate},
    )


def customer(index: int) -> str:
    """Name the customer of one order."""
    return f"c-{index}"


def order_of(index: int) -> bytes:
    """Build the request that places one order."""
    return msgspec.json.encode(
        {"customer_id": customer(index), "item_id": "tea pot", "quantity": 2, "price": 27.25}
    )


def _burst(services: Services, seconds: float) -> int:
    """Place orders for so long; return how many."""
    until = time.monotonic() + seconds

    def buy(number: int) -> int:
        count = 0
        while time.monotonic() < until:
            services.order.post("/orders", order_of(number))
            count += 1
        return count

    with ThreadPoolExecutor(BURST_CUSTOMERS) as pool:
        return sum(pool.map(buy, range(BURST_CUSTOMERS)))


def _await_subscriptions(services: Services) -> None:
    """Wait until the services have made their subscriptions."""

    def made() -> bool:
        listed = services.broker.get("/v1/topics")["topics"]
        found = {(topic["name"], name) for topic in listed for name in topic["subscriptions"]}
        return found >= set(SUBSCRIPTIONS)

    _await_progress(lambda: int(made()), 1)


def _await_news(services: Services, orders: int) -> float:
    """Wait until so many stories are told to the end; return when that was seen."""
    wanted = orders * NEWS_PER_ORDER
    told = last = 0

    def count() -> int:
        nonlocal told, last
        for each in _pages(services.notification, "notifications", after=last):
            told, last = told + 1, each["id"]
        return told

    _await_progress(count, wanted)
    if told != wanted:
        raise CountsDiffer(f"{wanted:,} notifications are owed, {told:,} are written")
    return time.time()


def _await_progress(count: Callable[[], int], wanted: int) -> None:
    most, seen_at = count(), time.monotonic()
    while most < wanted:
        if time.monotonic() - seen_at > STUCK_S:
            raise CountsDiffer(f"after {STUCK_S:.0f} s without more, {most:,} of {wanted:,} came")
        time.sleep(POLL_S)
        now = count()
        if now > most:
            most, seen_at = now, time.monotonic()


def _pages(
    service: ServerProcess, noun: str, prefix: str = "", after: Any = None
) -> Iterator[dict[str, Any]]:
    following = after
    while True:
        position = "" if following is None else f"&after={following}"
        page = service.get(f"{prefix}/{noun}?limit={PAGE}{position}")
        yield from page[noun]
        following = page["next"]
        if following is None:
            return
