"""The count after the storm: what the services hold, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ARRIVED = frozenset({"DELIVERED", "RETURNED"})


@dataclass(frozen=True, slots=True)
class Census:
    """What the services list once everything has come to rest.

    `orders` are order ids; `shipments` are pairs of order id and status; `news` are pairs of order
    id and event type, one for each notification, in the order they were written down.
    """

    orders: tuple[str, ...]
    shipments: tuple[tuple[str, str], ...]
    news: tuple[tuple[str, str], ...]

    def faults(self, answered: Iterable[str]) -> list[str]:
        """Say what is lost, there twice, unfinished or out of order; nothing if all is well.

        `answered` are the orders that a customer was told are taken.
        """
        return [
            *self._lost_orders(answered),
            *self._wrong_shipments(),
            *self._wrong_news(),
        ]

    def _lost_orders(self, answered: Iterable[str]) -> Iterator[str]:
        for order in sorted(set(answered) - set(self.orders)):
            yield f"order {order} was answered and is lost"
        for order, count in Counter(self.orders).items():
            if count > 1:
                yield f"order {order} is there {count} times"

    def _wrong_shipments(self) -> Iterator[str]:
        counts = Counter(order for order, _ in self.shipments)
        for order in self.orders:
            if counts[order] != 1:
                yield f"order {order} has {counts[order]} shipments"
        for order in sorted(counts.keys() - set(self.orders)):
            yield f"a shipment is there for {order}, which is no order"
        for order, status in self.shipments:
            if status not in ARRIVED:
                yield f"the shipment of order {order} stays {status}"

    def _wrong_news(self) -> Iterator[str]:
        told = self._told()
        status = dict(self.shipments)
        for order in self.orders:
            expected = story(status.get(order, "nowhere"))
            if told.get(order, ([], [])) != expected:
                yield f"order {order} was told as {told.get(order)}, not {expected}"
        for order in sorted(told.keys() - set(self.orders)):
            yield f"news of {order}, which is no order"

    def _told(self) -> dict[str, tuple[list[str], list[str]]]:
        """Collect each order's news, one list a topic: order holds within a topic only."""
        told: dict[str, tuple[list[str], list[str]]] = {}
        for order, kind in self.news:
            of_order, of_shipment = told.setdefault(order, ([], []))
            (of_order if kind.startswith("order.") else of_shipment).append(kind)
        return told


def story(status: str) -> tuple[list[str], list[str]]:
    """Say what is told of an order, and of its shipment that ended in this status."""
    kinds = ["registered", "shipped", status.lower()]
    return ["order.created"], [f"shipment.{kind}" for kind in kinds]
