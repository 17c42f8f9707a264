"""Reminders: who asked is called in time, once, by a timer that all share."""

from __future__ import annotations

import asyncio
import time

import pytest

from broker.dispatch.reminders import Reminders

pytestmark = pytest.mark.anyio
WAIT_S = 0.02


async def test_all_are_called_once_in_the_order_of_asking_and_not_too_soon() -> None:
    reminders = Reminders(WAIT_S, time.monotonic)
    called: list[tuple[int, float]] = []
    asked = []
    for number in range(3):
        asked.append(time.monotonic())
        reminders.ask(lambda number=number: called.append((number, time.monotonic())))  # type: ignore[misc]
        await asyncio.sleep(WAIT_S / 4)

    await asyncio.sleep(WAIT_S * 3)

    assert [number for number, _ in called] == [0, 1, 2]
    assert all(at - since >= WAIT_S for (_, at), since in zip(called, asked, strict=True))


async def test_who_asks_again_when_called_is_called_again() -> None:
    reminders = Reminders(WAIT_S, time.monotonic)
    called: list[int] = []

    def call() -> None:
        called.append(len(called))
        if len(called) < 3:
            reminders.ask(call)

    reminders.ask(call)
    await asyncio.sleep(WAIT_S * 6)

    assert called == [0, 1, 2]


async def test_who_asks_again_delays_nobody() -> None:
    reminders = Reminders(WAIT_S, time.monotonic)
    called: list[float] = []
    reminders.ask(lambda: reminders.ask(lambda: None))
    await asyncio.sleep(WAIT_S / 2)
    reminders.ask(lambda: called.append(time.monotonic()))
    due_at = time.monotonic() + WAIT_S

    await asyncio.sleep(WAIT_S * 2)

    assert len(called) == 1
    assert called[0] - due_at < WAIT_S / 2
