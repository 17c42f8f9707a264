"""Reminders: who asked is called in time, once, by a timer that all share."""

from __future__ import annotations

import asyncio

import pytest

from broker.dispatch.reminders import Reminders
from support.eventually import eventually

pytestmark = pytest.mark.anyio
WAIT_S = 0.05


async def until(called: list[float], count: int) -> None:
    await asyncio.to_thread(eventually, lambda: len(called) >= count)


async def test_all_are_called_once_in_the_order_of_asking_and_not_too_soon() -> None:
    now = asyncio.get_running_loop().time
    reminders = Reminders(WAIT_S, now)
    called: list[float] = []
    order: list[int] = []

    def call(number: int) -> None:
        order.append(number)
        called.append(now())

    asked = []
    for number in range(3):
        asked.append(now())
        reminders.ask(lambda number=number: call(number))  # type: ignore[misc]
        await asyncio.sleep(WAIT_S / 4)
    await until(called, 3)
    await asyncio.sleep(WAIT_S * 2)

    assert order == [0, 1, 2]
    assert all(at - since >= WAIT_S for at, since in zip(called, asked, strict=True))


async def test_who_asks_again_when_called_is_called_again() -> None:
    reminders = Reminders(WAIT_S, asyncio.get_running_loop().time)
    called: list[float] = []

    def call() -> None:
        called.append(len(called))
        if len(called) < 3:
            reminders.ask(call)

    reminders.ask(call)
    await until(called, 3)


async def test_who_asks_again_and_again_delays_nobody() -> None:
    now = 0.0
    reminders = Reminders(10.0, lambda: now)
    called: list[str] = []

    def again() -> None:
        called.append("again")
        reminders.ask(again)

    reminders.ask(again)
    now = 5.0
    reminders.ask(lambda: called.append("other"))
    now = 10.0
    reminders.look()
    now = 15.0
    reminders.look()
    now = 20.0
    reminders.look()

    assert called == ["again", "other", "again"]


async def test_who_fails_keeps_nobody_from_being_called() -> None:
    reminders = Reminders(WAIT_S, asyncio.get_running_loop().time)
    called: list[float] = []
    failures: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))

    def fail() -> None:
        raise RuntimeError("no")

    reminders.ask(fail)
    reminders.ask(lambda: called.append(1.0))
    await until(called, 1)

    assert [str(failure) for failure in failures] == ["no"]
