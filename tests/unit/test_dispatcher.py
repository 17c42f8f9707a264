"""How the pumps of many subscriptions begin."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from broker.dispatch.dispatcher import Dispatcher
from broker.signing import new_secret
from broker.subscription import Subscription
from contract.homes import SqliteHome
from contract.messages import TOPIC, new_message
from unit.pump_world import ScriptedCourier

pytestmark = pytest.mark.anyio
COUNT = 50


class Couriers(ScriptedCourier):
    """As many couriers as are asked for, none of which is a process."""

    async def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """End."""


async def nothing(*_: Any) -> None:
    """Do what a test does not look at."""


async def test_others_have_their_turns_while_many_subscriptions_begin(tmp_path: Path) -> None:
    home, failures = SqliteHome(tmp_path), []
    store = await home.open()
    await store.create_topic(TOPIC, {})
    names = [(TOPIC, f"s{n}") for n in range(COUNT)]
    await asyncio.gather(*(store.create_subscription(*name, {}, 1) for name in names))
    subscriptions = {name: Subscription(*name, new_secret()) for name in names}
    couriers: Any = Couriers()
    dispatcher = Dispatcher(store, couriers, subscriptions, failures.append, nothing, nothing)

    await dispatcher.start()
    begun = [0]
    while begun[-1] < COUNT:
        await asyncio.sleep(0)
        begun.append(len(dispatcher.tallies()))

    assert max(after - before for before, after in pairwise(begun)) <= 2
    assert not failures
    await dispatcher.drain(0)
    await dispatcher.stop()
    await home.close()


async def test_what_begins_while_the_others_are_drained_sends_nothing(tmp_path: Path) -> None:
    home, failures = SqliteHome(tmp_path), []
    store = await home.open()
    await store.create_topic(TOPIC, {})
    subscriptions = {(TOPIC, "s"): Subscription(TOPIC, "s", new_secret(), "https://a.example")}
    couriers: Any = Couriers()
    dispatcher = Dispatcher(store, couriers, subscriptions, failures.append, nothing, nothing)
    await dispatcher.start()
    await dispatcher.drain(0)

    await store.create_subscription(TOPIC, "s", {}, 1)
    await store.append(TOPIC, [new_message()])
    while not dispatcher.tallies():  # noqa: ASYNC110 a turn, and no time
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)

    assert not couriers.sent
    assert not failures
    await dispatcher.stop()
    await home.close()
