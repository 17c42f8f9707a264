"""The use cases where one request comes in the midst of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.config import Settings
from broker.deliveries import Deliveries
from broker.dispatch.dispatcher import Dispatcher
from broker.service import Broker
from contract.homes import SqliteHome
from unit.pump_world import NAME, TOPIC, PumpWorld, with_fields

pytestmark = pytest.mark.anyio


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    """A broker on a new store, which delivers nothing."""
    home = SqliteHome(tmp_path)
    yield Broker(await home.open(), Settings(min_free_bytes=0), home.clock)
    await home.close()


async def test_changes_at_once_start_from_one_another(broker: Broker) -> None:
    await broker.put_subscription("t", "s", {"endpoint": "http://a.example/"})
    await asyncio.gather(
        broker.put_subscription("t", "s", {"timeout_s": 5}),
        broker.set_paused("t", "s", "paused by request"),
    )
    view = await broker.subscription_view("t", "s")
    assert (view["timeout_s"], view["state"]) == (5, "paused")


async def test_list_leaves_out_what_is_deleted_meanwhile(broker: Broker) -> None:
    for name in "abc":
        await broker.put_subscription("t", name, {})
    listed, _ = await asyncio.gather(
        broker.list_subscriptions("t"), broker.delete_subscription("t", "b")
    )
    assert {"a", "c"} <= {view["name"] for view in listed} <= {"a", "b", "c"}


@with_fields(max_in_flight=1, ordering="none")
async def test_pages_go_on_behind_what_is_being_attempted(world: PumpWorld) -> None:
    await world.publish(None, None, None)
    await world.settle()
    for seq in (1, 2, 3):
        await world.answer(seq, 500)
    await world.wait(10)
    assert world.out() == [(1,)]
    known: Any = SimpleNamespace(subscription=lambda *_: world.subscription)
    owner = cast(Dispatcher, SimpleNamespace(pump=lambda *_: world.pump))
    deliveries = Deliveries(world.store, known, owner)
    seen, after = [], 0
    following: int | None = 0
    while following is not None:
        page, following = await deliveries.unsettled(TOPIC, NAME, "retrying", after, 1)
        seen += [view["sequence"] for view in page]
        after = following or 0
    assert seen == [2, 3]
