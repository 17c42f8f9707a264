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
from broker.errors import (
    OutcomeUnknown,
    SubscriptionNotFound,
    TooManySubscriptions,
    TooManyTopics,
    TopicNotFound,
)
from broker.model import NewMessage
from broker.service import Broker
from broker.store.port import Store, Unavailable
from contract.homes import SqliteHome
from unit.pump_world import NAME, TOPIC, PumpWorld, with_fields

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    home = SqliteHome(tmp_path)
    yield await home.open()
    await home.close()


@pytest.fixture
def broker(store: Store) -> Broker:
    """A broker on a new store, which delivers nothing."""
    return Broker(store, Settings(min_free_bytes=0))


def delete_once_after(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, store: Store, call: str
) -> None:
    """Have the topic deleted right after the next call of a method of the store."""
    method = getattr(store, call)

    async def then_delete(topic: str, *arguments: Any) -> Any:
        monkeypatch.setattr(store, call, method)
        returned = await method(topic, *arguments)
        await broker.delete_topic(topic, force=True)
        return returned

    monkeypatch.setattr(store, call, then_delete)


async def test_changes_at_once_start_from_one_another(broker: Broker) -> None:
    await broker.put_subscription("t", "s", {"endpoint": "http://a.example/"})
    await asyncio.gather(
        broker.put_subscription("t", "s", {"timeout_s": 5}),
        broker.set_paused("t", "s", "paused by request"),
    )
    view = await broker.subscription_view("t", "s")
    assert (view.timeout_s, view.state) == (5, "paused")


async def test_change_that_a_stop_cuts_off_has_an_outcome_that_is_not_known(broker: Broker) -> None:
    await broker.put_subscription("t", "s", {})

    async def stop(_: object) -> None:
        raise Unavailable("the broker stops")

    pump = SimpleNamespace(perform=stop, interventions=SimpleNamespace(with_position=stop))
    broker.dispatcher = cast(Dispatcher, SimpleNamespace(pump=lambda *_: pump))
    with pytest.raises(OutcomeUnknown):
        await broker.put_subscription("t", "s", {"filters": [{"exact": {"type": "a"}}]})


async def test_list_leaves_out_what_is_deleted_meanwhile(broker: Broker) -> None:
    for name in "abc":
        await broker.put_subscription("t", name, {})
    listed, _ = await asyncio.gather(
        broker.list_subscriptions("t"), broker.delete_subscription("t", "b")
    )
    assert {"a", "c"} <= {view.name for view in listed} <= {"a", "b", "c"}


async def test_subscription_of_a_topic_that_goes_while_its_log_is_searched_is_not_created(
    broker: Broker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await broker.put_topic("t", {})
    delete_once_after(monkeypatch, broker, store, "locate")
    with pytest.raises(TopicNotFound):
        await broker.put_subscription("t", "s", {"start": "2001-01-01T00:00:00Z"})
    assert broker.subscriptions == {}


async def test_topic_that_goes_while_it_is_created_for_somebody_is_created_again(
    broker: Broker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete_once_after(monkeypatch, broker, store, "create_topic")
    assert (await broker.put_subscription("t", "s", {}))[0]
    delete_once_after(monkeypatch, broker, store, "create_topic")
    (appended,) = await broker.publish("u", [NewMessage("m", "/s", None, b"{}", None, None)])
    assert appended.sequence == 1


@pytest.mark.parametrize("call", ["rows", "attempts", "locate"])
async def test_what_is_asked_of_a_subscription_that_goes_meanwhile_is_not_found(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    broker = Broker(world.store, Settings(min_free_bytes=0))
    await broker.load()
    broker.use(cast(Dispatcher, SimpleNamespace(pump=lambda *_: world.pump)))
    await world.publish(None)
    await world.settle()
    await world.answer(1, 422)
    delete_once_after(monkeypatch, broker, world.store, call)
    deliveries = broker.deliveries
    asked = {
        "rows": lambda: deliveries.dead_letter_of(TOPIC, NAME, 1),
        "attempts": lambda: deliveries.attempts(TOPIC, NAME, 2),
        "locate": lambda: deliveries.seek(
            TOPIC, NAME, {"to": "2001-01-01T00:00:00Z", "dry_run": True}
        ),
    }
    with pytest.raises(SubscriptionNotFound):
        await asked[call]()
    await world.ended()


async def test_no_more_topics_than_there_may_be(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.service.MOST_TOPICS", 2)
    for name in "ab":
        await broker.put_topic(name, {})
    message = NewMessage("m", "/s", None, b"{}", None, None)
    for one_more in (
        broker.put_topic("c", {}),
        broker.publish("c", [message]),
        broker.put_subscription("c", "s", {}),
    ):
        with pytest.raises(TooManyTopics, match="2 topics"):
            await one_more
    assert set(broker.topics) == {"a", "b"}

    await broker.put_topic("a", {"dedup_window_s": 5})
    await broker.delete_topic("b", force=False)
    await broker.publish("c", [message])


async def test_no_more_subscriptions_of_a_topic_than_there_may_be(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.service.MOST_SUBSCRIPTIONS", 2)
    for name in "ab":
        await broker.put_subscription("t", name, {})
    with pytest.raises(TooManySubscriptions, match='"t" may have 2 subscriptions'):
        await broker.put_subscription("t", "c", {})
    assert sorted(broker.subscriptions) == [("t", "a"), ("t", "b")]

    await broker.put_subscription("u", "c", {})
    await broker.put_subscription("t", "a", {"timeout_s": 5})
    await broker.delete_subscription("t", "b")
    assert (await broker.put_subscription("t", "c", {}))[0]


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
        seen += [view.sequence for view in page]
        after = following or 0
    assert seen == [2, 3]
