"""Watching a log: what is there, then what comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from broker.model import Message, size_of
from broker.store.port import PAGE_BYTES, Store
from contract.homes import Home
from contract.messages import TOPIC, new_message, publish, publish_keys, seqs_of

pytestmark = pytest.mark.anyio
Watching = AsyncGenerator[Sequence[Message], None]


async def watched(watching: Watching, count: int) -> list[Message]:
    """Take so many messages."""
    found: list[Message] = []
    while len(found) < count:
        found += await asyncio.wait_for(anext(watching), 10)
    return found


@pytest.mark.parametrize("reopened", [False, True], ids=["new", "old"])
async def test_watcher_gets_what_is_there_then_what_comes(
    home: Home, store: Store, reopened: bool
) -> None:
    stored = await publish_keys(store, *[None] * 700)
    if reopened:
        store = await home.reopen()

    async with aclosing(store.watch(TOPIC, 3)) as watching:
        assert seqs_of(await watched(watching, 697)) == stored[3:]
        following = asyncio.ensure_future(anext(watching))
        new = await publish_keys(store, None)
        assert seqs_of(await asyncio.wait_for(following, 10)) == new


async def test_watcher_that_names_no_place_begins_with_the_next(store: Store) -> None:
    await publish_keys(store, None, None)
    async with aclosing(store.watch(TOPIC, None)) as watching:
        following = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0)
        new = await publish_keys(store, None)

        assert seqs_of(await asyncio.wait_for(following, 10)) == new


@pytest.mark.parametrize("reopened", [False, True], ids=["new", "old"])
async def test_watcher_sees_only_what_it_wants(home: Home, store: Store, reopened: bool) -> None:
    await publish_keys(store, "a", "b", "a")
    await publish(store, new_message(key="b", type_="rare"))
    if reopened:
        store = await home.reopen()

    async with (
        aclosing(store.watch(TOPIC, 0, key="b")) as keyed,
        aclosing(store.watch(TOPIC, 0, type_="rare")) as typed,
        aclosing(store.watch(TOPIC, 0, key="c")) as later,
    ):
        assert seqs_of(await watched(keyed, 2)) == [2, 4]
        assert seqs_of(await watched(typed, 1)) == [4]
        following = asyncio.ensure_future(anext(later))
        await publish_keys(store, "a", "c")
        assert seqs_of(await asyncio.wait_for(following, 10)) == [6]


@pytest.mark.parametrize("reopened", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("key", [None, "a"], ids=["all", "of a key"])
async def test_few_large_messages_are_read_at_a_time(
    home: Home, store: Store, reopened: bool, key: str | None
) -> None:
    async with aclosing(store.watch(TOPIC, None)) as somebody:
        beginning = asyncio.ensure_future(anext(somebody))  # else nothing is kept in memory
        await asyncio.sleep(0)
        large = b"x" * (PAGE_BYTES // 3)
        stored = await publish(store, *[new_message(key="a", data=large) for _ in range(20)])
        await beginning
        if reopened:
            await somebody.aclose()
            store = await home.reopen()

        pages: list[Sequence[Message]] = []
        async with aclosing(store.watch(TOPIC, 0, key=key)) as watching:
            while sum(map(len, pages)) < 20:
                pages.append(await asyncio.wait_for(anext(watching), 10))

    assert [seq for page in pages for seq in seqs_of(page)] == stored
    assert max(sum(map(size_of, page)) for page in pages) < PAGE_BYTES


async def test_watch_ends_with_its_topic(store: Store) -> None:
    watching = store.watch(TOPIC, None)
    following = asyncio.ensure_future(anext(watching, None))
    await asyncio.sleep(0)

    await store.drop_topic(TOPIC)

    assert await asyncio.wait_for(following, 10) is None
    with pytest.raises(KeyError):
        await anext(store.watch(TOPIC, None))
