"""Demo orders: one at a time, however many workers would place one."""

from __future__ import annotations

import threading
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_service import create_app
from order_service.demo import Demo, random_order
from order_service.orders import NewOrder, Orders, Page
from services.conftest import Build
from services.ticking import Clock

INTERVAL_S = 5.0


@pytest.fixture
def clock() -> Clock:
    """A clock that the test moves."""
    return Clock(1000.0)


@pytest.fixture
def book(build: Build, clock: Clock) -> Orders:
    """The orders of a new service, on the test's clock."""
    made: Orders = build(create_app).extensions["orders"]
    return Orders(made.database, made.outbox, clock)


def test_demo_order_is_placed_at_once_and_then_every_interval(book: Orders, clock: Clock) -> None:
    demo = Demo(book, INTERVAL_S, Random(1))

    placed = []
    for _ in range(11):
        placed.append(demo.place_due_order() is not None)
        clock.now += 1

    assert placed == [True, False, False, False, False] * 2 + [True]
    assert len(book.list_page(Page())) == 3


def test_workers_at_the_same_moment_place_one_demo_order(book: Orders) -> None:
    barrier = threading.Barrier(8)
    placed: list[object] = []

    def work(seed: int) -> None:
        demo = Demo(book, INTERVAL_S, Random(seed))
        barrier.wait()
        placed.append(demo.place_due_order())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(placed) == 8
    assert len([order for order in placed if order is not None]) == 1
    assert len(book.list_page(Page())) == 1


@given(seed=st.integers())
def test_random_order_is_one_that_a_customer_could_send(seed: int) -> None:
    order = random_order(Random(seed))

    assert NewOrder.model_validate_json(order.model_dump_json()) == order


def test_demo_is_off_unless_an_interval_is_set(build: Build) -> None:
    off = build(create_app, DEMO_ORDER_INTERVAL_S="0").extensions["background"]
    on = build(create_app, DEMO_ORDER_INTERVAL_S="1").extensions["background"]

    assert len(on) == len(off) + 1
