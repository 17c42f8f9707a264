"""The shop from outside: what a customer, a clerk and an auditor see of it over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx

from e2e.census import Census
from e2e.stack import Service, Stack
from support.eventually import eventually

Json = dict[str, Any]

PAGE = 1000
NEWS_PER_ORDER = 4
LOOK_S = 0.5
STALL_S = 60.0
RETRY = {"max_attempts": 0, "min_backoff_s": 1.0, "max_backoff_s": 2.0}
SUBSCRIPTIONS = (
    ("order", "shipping-service"),
    ("order", "notification-service"),
    ("shipment", "notification-service"),
)


class Shop:
    """Reads and writes through the services' own doors, and nowhere else."""

    def __init__(self, stack: Stack) -> None:
        self._urls = stack.urls
        self._http = httpx.Client(timeout=30, trust_env=False)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def post(self, service: Service, path: str, body: Any) -> httpx.Response:
        """Send JSON, whatever the answer is."""
        return self._http.post(f"{self._urls[service]}{path}", json=body)

    def raw_get(self, service: Service, path: str, **params: Any) -> httpx.Response:
        """Read, whatever the answer is."""
        return self._http.get(f"{self._urls[service]}{path}", params=params)

    def get(self, service: Service, path: str, **params: Any) -> Json:
        """Read a JSON object that must be there."""
        answer = self.raw_get(service, path, **params)
        assert answer.is_success, f"{answer.status_code}: {answer.text[:500]}"
        body: Json = answer.json()
        return body

    def place(self, **changes: Any) -> Json:
        """Place an order that must be taken."""
        order = {"customer_id": "c-7", "item_id": "tea pot", "quantity": 2, "price": 27.25}
        answer = self.post(Service.ORDERS, "/orders", order | changes)
        assert answer.status_code == 201, answer.text
        placed: Json = answer.json()
        return placed

    def orders(self) -> list[Json]:
        """List all orders."""
        return list(self._pages(Service.ORDERS, "orders"))

    def shipments(self) -> list[Json]:
        """List all shipments."""
        return list(self._pages(Service.SHIPPING, "shipments"))

    def notifications(self, order_id: str) -> list[Json]:
        """List an order's notifications, oldest first."""
        return list(self._pages(Service.NOTIFICATIONS, "notifications", order_id=order_id))

    def news(self, order_id: str) -> list[str]:
        """List the event types of an order's notifications, oldest first."""
        return [str(each["event_type"]) for each in self.notifications(order_id)]

    def await_story(self, order_id: str) -> Json:
        """Wait until an order's story is told to its end, and give its shipment."""
        eventually(lambda: len(self.news(order_id)) >= NEWS_PER_ORDER, within_s=STALL_S)
        return self.get(Service.SHIPPING, f"/shipments/{order_id}")

    def message_count(self, topic: str) -> int:
        """Count what the broker has been told about a topic."""
        return int(self.get(Service.BROKER, f"/v1/topics/{topic}")["message_count"])

    def subscription(self, topic: str, name: str) -> Json:
        """Show a subscription."""
        return self.get(Service.BROKER, f"/v1/topics/{topic}/subscriptions/{name}")

    def retry_soon(self) -> None:
        """Let no delivery wait long for its next attempt, nor give up, however often it failed.

        By default the twentieth failure ends a delivery, and after the ninth it rests for minutes.
        """
        for topic, name in SUBSCRIPTIONS:
            eventually(partial(self.subscription, topic, name))
            url = f"{self._urls[Service.BROKER]}/v1/topics/{topic}/subscriptions/{name}"
            answer = self._http.put(url, json={"retry": RETRY})
            assert answer.status_code == 200, answer.text
            assert self.subscription(topic, name)["retry"] == RETRY

    def backlog(self) -> int:
        """Count the deliveries that the broker still owes."""
        return sum(int(self.subscription(*each)["backlog"]) for each in SUBSCRIPTIONS)

    def census(self) -> Census:
        """Wait until every order's story is told and nothing is owed, then read everything.

        No more orders may be placed meanwhile. Raises AssertionError if the telling stalls.
        """
        order_ids = tuple(str(order["id"]) for order in self.orders())
        self._await_news(NEWS_PER_ORDER * len(order_ids))
        eventually(lambda: self.backlog() == 0, within_s=STALL_S)
        return Census(
            order_ids,
            tuple((str(each["order_id"]), str(each["status"])) for each in self.shipments()),
            tuple(
                (str(each["order_id"]), str(each["event_type"]))
                for each in self._pages(Service.NOTIFICATIONS, "notifications")
            ),
        )

    def _await_news(self, count: int) -> None:
        """Wait until so many notifications are written down, as long as more keep coming."""
        told, last = 0, 0
        deadline = time.monotonic() + STALL_S
        while told < count:
            for each in self._pages(Service.NOTIFICATIONS, "notifications", after=last):
                told, last = told + 1, each["id"]
                deadline = time.monotonic() + STALL_S
            assert time.monotonic() < deadline, f"{told} of {count} notifications, and no more"
            time.sleep(LOOK_S)

    def _pages(self, service: Service, noun: str, **params: Any) -> Iterator[Json]:
        page: Json = {"next": params.pop("after", None)}
        while True:
            position = {} if page["next"] is None else {"after": page["next"]}
            page = self.get(service, f"/{noun}", limit=PAGE, **params, **position)
            yield from page[noun]
            if page["next"] is None:
                return
