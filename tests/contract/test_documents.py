"""Documents, and the topics and subscriptions that are made and removed with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from broker.store.port import Changes, Conflict, LeaseLost, Shard, Store
from contract.homes import Home
from contract.messages import (
    SUBSCRIPTION,
    TOPIC,
    fetch_all,
    new_message,
    own,
    publish,
    publish_keys,
    put,
    read_all,
    row,
    seqs_of,
    settle,
)

pytestmark = pytest.mark.anyio
DOCUMENT = {"text": "äöü \x00", "number": 1.5, "list": [None, True, {"deep": "x"}]}


async def test_document_comes_back_with_its_revision(store: Store) -> None:
    assert await store.put_document("note/a", DOCUMENT, 0) == 1
    assert await store.put_document("note/a", {"other": 1}, 1) == 2
    assert await store.put_document("note/b", DOCUMENT, None) == 1

    assert store.documents("note/") == {"note/a": ({"other": 1}, 2), "note/b": (DOCUMENT, 1)}
    assert store.documents("note/b") == {"note/b": (DOCUMENT, 1)}
    assert store.documents("nothing/") == {}


async def test_document_is_durable_when_put_returns(home: Home, store: Store) -> None:
    await store.put_document("note/a", DOCUMENT, 0)

    store = await home.crash()

    assert store.documents("note/") == {"note/a": (DOCUMENT, 1)}
    assert await store.put_document("note/a", {}, 1) == 2


@pytest.mark.parametrize("expect", [0, 1, 3])
async def test_put_that_expects_another_revision_is_refused(store: Store, expect: int) -> None:
    await store.put_document("note/a", {"at": 1}, None)
    await store.put_document("note/a", {"at": 2}, None)

    with pytest.raises(Conflict):
        await store.put_document("note/a", {"at": 3}, expect)

    assert store.documents("note/") == {"note/a": ({"at": 2}, 2)}


async def test_put_of_a_missing_document_that_expects_one_is_refused(store: Store) -> None:
    with pytest.raises(Conflict):
        await store.put_document("note/a", {}, 1)

    assert store.documents("note/") == {}


async def test_of_many_puts_at_once_that_expect_the_same_one_succeeds(store: Store) -> None:
    answers = await asyncio.gather(
        *(store.put_document("note/a", {"n": n}, 0) for n in range(10)), return_exceptions=True
    )

    assert answers.count(1) == 1
    assert sum(isinstance(answer, Conflict) for answer in answers) == 9
    assert store.documents("note/a")["note/a"] == ({"n": answers.index(1)}, 1)


# -- topics ---------------------------------------------------------------------------------------


async def test_created_topic_is_empty_and_has_its_document(home: Home, store: Store) -> None:
    await store.create_topic("bills", DOCUMENT)

    for _ in range(2):
        assert store.documents("topic/bills") == {"topic/bills": (DOCUMENT, 1)}
        assert await read_all(store, "bills") == []
        assert store.topic_stats("bills").message_count == 0
        store = await home.crash()


async def test_topic_that_exists_is_not_created_again(store: Store) -> None:
    await publish(store, new_message())

    with pytest.raises(Conflict):
        await store.create_topic(TOPIC, {"other": 1})

    assert store.documents("topic/") == {f"topic/{TOPIC}": ({"dedup_window_s": 60}, 1)}
    assert len(await read_all(store)) == 1


async def test_dropped_topic_takes_everything_along(home: Home, store: Store) -> None:
    shard = await own(store)
    await publish(store, *[new_message("a"), new_message("b"), new_message("c")])
    await fetch_all(shard)
    await put(shard, row(1, "dead"), row(2, "retry"))

    await store.drop_topic(TOPIC)

    assert store.documents("") == {}
    with pytest.raises(LeaseLost):
        await shard.fetch(1)
    assert (await home.crash()).documents("") == {}


@pytest.mark.parametrize(
    "look",
    [
        lambda store: store.first_owed(TOPIC, SUBSCRIPTION),
        lambda store: store.drop_dead(TOPIC, SUBSCRIPTION, 1e12),
        lambda store: store.locate(TOPIC, 1e12),
        lambda store: store.oldest(TOPIC, 10),
        lambda store: store.trim(TOPIC, 3),
    ],
    ids=["first owed", "drop dead", "locate", "oldest", "trim"],
)
async def test_topic_may_be_dropped_while_it_is_looked_at(
    home: Home, store: Store, look: Callable[[Store], Coroutine[Any, Any, object]]
) -> None:
    shard = await own(store)
    await publish(store, *[new_message("a"), new_message("b"), new_message("c")])
    await fetch_all(shard)
    await put(shard, row(1, "dead"), row(2, "retry"))

    looking = asyncio.create_task(look(store))
    await asyncio.sleep(0)
    await store.drop_topic(TOPIC)
    await looking

    assert store.documents("") == {}
    assert (await home.crash()).documents("") == {}


async def test_topic_made_anew_shares_nothing_with_the_one_before(home: Home, store: Store) -> None:
    old = await own(store)
    await publish(store, new_message("a", data=b"old"), new_message("b", key="k"))
    await fetch_all(old)
    await put(old, row(1, "retry"), row(2, "held", "k"))

    await store.drop_topic(TOPIC)
    await store.create_topic(TOPIC, {})
    await store.create_subscription(TOPIC, SUBSCRIPTION, {}, start=1)
    new = await own(store)
    assert new.topic_id != old.topic_id
    assert new.id != old.id

    (appended,) = await store.append(TOPIC, [new_message("a", data=b"new")])
    assert not appended.duplicate
    assert await new.due(1e12, 10, frozenset()) == []
    assert await new.waiting_keys(99) == []
    assert [message.data for message in await new.fetch(5)] == [b"new"]

    store = await home.crash()
    assert [message.data for message in await read_all(store)] == [b"new"]
    assert store.topic_stats(TOPIC).message_count == 1
    shard = await own(store)
    assert [message.data for message in await shard.fetch(5)] == [b"new"]


async def test_drop_of_a_missing_topic_or_subscription_does_nothing(store: Store) -> None:
    await store.drop_topic("nowhere")
    await store.drop_subscription(TOPIC, "nobody")
    await store.drop_subscription("nowhere", "nobody")
    await store.drop_subscription(TOPIC, SUBSCRIPTION)
    await store.drop_subscription(TOPIC, SUBSCRIPTION)

    assert list(store.documents("")) == [f"topic/{TOPIC}"]


async def test_drop_of_one_topic_leaves_the_others(home: Home, store: Store) -> None:
    await store.create_topic("orders2", {})
    await store.create_subscription("orders2", SUBSCRIPTION, {}, start=1)
    (kept,) = await publish(store, new_message(), topic="orders2")

    await store.drop_topic(TOPIC)

    store = await home.crash()
    assert sorted(store.documents("")) == ["subscription/orders2/mail", "topic/orders2"]
    shard = await own(store)
    assert shard.topic == "orders2"
    assert await fetch_all(shard) == [kept]


# -- subscriptions --------------------------------------------------------------------------------


async def test_subscription_has_its_document(home: Home, store: Store) -> None:
    for _ in range(2):
        assert store.documents("subscription/") == {
            f"subscription/{TOPIC}/{SUBSCRIPTION}": ({"endpoint": None}, 1)
        }
        store = await home.crash()


async def test_subscription_that_exists_is_not_created_again(store: Store) -> None:
    shard = await own(store)
    await publish_keys(store, None, None)
    await fetch_all(shard)
    await settle(shard, 1)

    with pytest.raises(Conflict):
        await store.create_subscription(TOPIC, SUBSCRIPTION, {}, start=1)

    assert (await store.shard_stats(TOPIC, SUBSCRIPTION)).position == 1


@pytest.mark.parametrize("start", [1, 2, 3, 4])
@pytest.mark.parametrize("end", ["none", "crash"])
async def test_subscription_starts_where_it_is_told(
    home: Home, store: Store, start: int, end: str
) -> None:
    seqs = await publish_keys(store, None, None, None)
    await store.create_subscription(TOPIC, "late", {}, start=start)
    if end == "crash":
        store = await home.crash()

    seqs += await publish_keys(store, None, None)

    assert (await store.shard_stats(TOPIC, "late")).backlog == len(seqs) - start + 1
    assert await fetch_all(await _own(store, "late")) == [seq for seq in seqs if seq >= start]


async def test_subscription_that_starts_beyond_the_end_is_owed_nothing_before(
    store: Store,
) -> None:
    await store.create_subscription(TOPIC, "late", {}, start=3)
    shard = await _own(store, "late")
    assert (await store.shard_stats(TOPIC, "late")).backlog == 0

    await publish_keys(store, None)
    assert (await store.shard_stats(TOPIC, "late")).backlog == 0
    assert await fetch_all(shard) == []

    await publish_keys(store, None, None)
    assert (await store.shard_stats(TOPIC, "late")).backlog == 1
    assert await fetch_all(shard) == [3]


async def test_nothing_stored_after_a_subscription_is_created_passes_it(store: Store) -> None:
    """Appends and the creation run at the same time."""
    appends = [asyncio.ensure_future(publish_keys(store, None)) for _ in range(20)]
    await asyncio.sleep(0)
    start = store.topic_stats(TOPIC).last_sequence + 1
    creation = asyncio.ensure_future(store.create_subscription(TOPIC, "late", {}, start=start))
    appends += [asyncio.ensure_future(publish_keys(store, None)) for _ in range(20)]
    await creation
    seqs = [seq for found in await asyncio.gather(*appends) for seq in found]

    owed = [seq for seq in sorted(seqs) if seq >= start]
    assert len(owed) >= 20
    assert await fetch_all(await _own(store, "late")) == owed


@pytest.mark.parametrize("end", ["none", "crash"])
async def test_dropped_subscription_made_anew_starts_afresh(
    home: Home, store: Store, end: str
) -> None:
    old = await own(store)
    await publish_keys(store, "a", "a", None)
    await fetch_all(old)
    await put(old, row(1, "dead", "a"), row(2, "retry", "a"))
    await settle(old, 3)

    await store.drop_subscription(TOPIC, SUBSCRIPTION)
    await store.create_subscription(TOPIC, SUBSCRIPTION, {}, start=1)
    if end == "crash":
        store = await home.crash()

    stats = await store.shard_stats(TOPIC, SUBSCRIPTION)
    assert (stats.position, stats.backlog, dict(stats.rows)) == (0, 3, {})
    shard = await own(store)
    assert await shard.waiting_keys(99) == []
    messages = await shard.fetch(5)
    assert seqs_of(messages) == [1, 2, 3]


async def test_messages_stored_while_nobody_subscribed_are_not_missed(store: Store) -> None:
    shard = await own(store)
    await publish_keys(store, *[None] * 5)
    await fetch_all(shard)

    await store.drop_subscription(TOPIC, SUBSCRIPTION)
    await publish_keys(store, *[None] * 5)
    await store.create_subscription(TOPIC, "late", {}, start=1)
    await publish_keys(store, *[None] * 5)

    stored = seqs_of(await read_all(store))
    late = await own(store)
    assert len(stored) == 15
    fetched = [*await late.fetch(5), *await late.fetch(2), *await late.fetch(5)]
    assert seqs_of(fetched) == stored[:12]
    assert await fetch_all(late) == stored[12:]


async def test_drop_loses_the_shard_and_rings(store: Store) -> None:
    shard = await own(store)
    await publish_keys(store, "a")
    await fetch_all(shard)
    shard.bell.clear()

    await store.drop_subscription(TOPIC, SUBSCRIPTION)

    assert shard.bell.is_set()
    await _assert_lost(shard)


async def _assert_lost(shard: Shard) -> None:
    with pytest.raises(LeaseLost):
        await shard.fetch(1)
    with pytest.raises(LeaseLost):
        await shard.due(1e12, 1, frozenset())
    with pytest.raises(LeaseLost):
        await shard.next_due_at(frozenset())
    with pytest.raises(LeaseLost):
        await shard.held("a", 0, 1)
    with pytest.raises(LeaseLost):
        await shard.leased_among([1])
    with pytest.raises(LeaseLost):
        await shard.waiting_keys(99)
    with pytest.raises(LeaseLost):
        await shard.regroup("key")
    for soon in (True, False):
        with pytest.raises(LeaseLost):
            await shard.commit(Changes(put=[row(1, "retry")]), soon=soon)


async def test_what_a_lost_shard_was_about_to_write_is_gone(home: Home, store: Store) -> None:
    shard = await own(store)
    await publish_keys(store, "a", "b")
    await fetch_all(shard)
    await shard.commit(Changes(put=[row(1, "retry", "a")]))
    await store.drop_subscription(TOPIC, SUBSCRIPTION)
    await store.create_subscription(TOPIC, SUBSCRIPTION, {}, start=1)

    store = await home.reopen()

    stats = await store.shard_stats(TOPIC, SUBSCRIPTION)
    assert (stats.position, dict(stats.rows)) == (0, {})


async def test_claim_yields_each_shard_once(home: Home, store: Store) -> None:
    await store.create_subscription(TOPIC, "other", {}, start=1)
    claims = store.claim()
    found = {(shard.topic, shard.subscription) for shard in [await anext(claims) for _ in range(2)]}
    assert found == {(TOPIC, SUBSCRIPTION), (TOPIC, "other")}

    coming = asyncio.ensure_future(anext(claims))
    await asyncio.sleep(0)
    assert not coming.done()
    await store.create_subscription(TOPIC, "third", {}, start=1)
    assert (await coming).subscription == "third"

    again = (await home.crash()).claim()
    names = {(await anext(again)).subscription for _ in range(3)}
    assert names == {SUBSCRIPTION, "other", "third"}


async def test_claim_yields_no_shard_that_is_gone(store: Store) -> None:
    await store.drop_subscription(TOPIC, SUBSCRIPTION)
    await store.create_subscription(TOPIC, "other", {}, start=1)

    assert (await own(store)).subscription == "other"


async def test_log_id_stays_and_differs_between_stores(home: Home, store: Store) -> None:
    first = store.log_id

    assert first
    assert (await home.reopen()).log_id == first
    assert (await home.crash()).log_id == first


async def _own(store: Store, name: str) -> Shard:
    async for shard in store.claim():
        if shard.subscription == name:
            return shard
    raise AssertionError


async def test_scrub_keeps_all_that_is_there(home: Home, store: Store) -> None:
    await publish_keys(store, None, None, None)
    await store.put_document("note/a", DOCUMENT, 0)
    documents, messages = dict(store.documents("")), await read_all(store)

    await store.scrub()

    assert dict(store.documents("")) == documents
    assert await read_all(store) == messages
    await publish_keys(store, None)
    store = await home.crash()
    assert dict(store.documents("")) == documents
    assert len(await read_all(store)) == 4


async def test_scrub_leaves_nothing_of_what_was_there(home: Home, store: Store) -> None:
    for n in range(50):
        await store.put_document(f"note/{n}", {"text": f"hush {n} " * 200}, 0)
    for n in range(50):
        await store.put_document(f"note/{n}", {}, 1)
    assert b"hush" in await home.stored()

    await store.scrub()

    assert b"hush" not in await home.stored()
    await publish_keys(store, None, None, None)
    await home.reopen()
    assert b"hush" not in await home.stored()


async def test_writes_beside_a_scrub_are_done_after_it(store: Store) -> None:
    scrubbing = asyncio.ensure_future(store.scrub())
    await asyncio.gather(*(publish_keys(store, None) for _ in range(20)), scrubbing)

    assert len(await read_all(store)) == 20
