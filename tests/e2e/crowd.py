"""A crowd of customers who order at the same time, and do not give up."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import httpx

from e2e.stack import Service, Stack
from support.eventually import eventually

THREADS = 4
AGAIN_S = 0.05
ANSWER_S = 120.0


class Crowd:
    """Places `count` orders from a few threads; each customer orders until one is answered.

    Without a `count` it goes on until the `with` is left. `pause_s` is how long each thread rests
    after an answer. An order whose answer never came may have been taken or not; it is not among
    the `answered`.
    """

    def __init__(self, stack: Stack, count: int | None = None, pause_s: float = 0.0) -> None:
        self.answered: list[str] = []
        self._url = f"{stack.urls[Service.ORDERS]}/orders"
        self._pause_s = pause_s
        self._customers: Iterator[int] = itertools.count() if count is None else iter(range(count))
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="customer")
        self._futures: list[Future[None]] = []

    def __enter__(self) -> Crowd:
        self._futures = [self._pool.submit(self._order_in_turn) for _ in range(THREADS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._customers = iter(())
        self._pool.shutdown()

    def wait_for(self, count: int) -> None:
        """Wait until so many orders are answered in all. Raises what ended a thread early."""
        eventually(lambda: self._has_answers(count), within_s=ANSWER_S)

    def _has_answers(self, count: int) -> bool:
        for future in self._futures:
            if future.done():
                future.result()
        return len(self.answered) >= count

    def _order_in_turn(self) -> None:
        with httpx.Client(timeout=30, trust_env=False) as http:
            for customer in self._next_customers():
                self.answered.append(self._insist(http, customer))
                time.sleep(self._pause_s)

    def _next_customers(self) -> Iterator[int]:
        while True:
            with self._lock:
                customer = next(self._customers, None)
            if customer is None:
                return
            yield customer

    def _insist(self, http: httpx.Client, customer: int) -> str:
        order = {"customer_id": customer, "item_id": "oak desk", "quantity": 1, "price": 349}
        while True:
            try:
                answer = http.post(self._url, json=order)
            except httpx.TransportError:
                time.sleep(AGAIN_S)
                continue
            if answer.status_code != 201:
                raise RuntimeError(f"{answer.status_code}: {answer.text[:500]}")
            return str(answer.json()["id"])
