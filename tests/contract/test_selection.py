"""What a shard passes because it is not wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

import pytest

from broker.model import Message
from broker.store.port import Changes, LeaseLost, Shard, Store
from contract.homes import Home
from contract.messages import (
    SUBSCRIPTION,
    TOPIC,
    fetch_all,
    new_message,
    own,
    publish,
    put,
    row,
    seqs_of,
    settle,
)

pytestmark = pytest.mark.anyio
DOCUMENT = f"subscription/{TOPIC}/{SUBSCRIPTION}"
SHARD = "broker.store.sqlite.shard"


def of_type(letter: str) -> Callable[[bytes], bool]:
    """Want messages of one type."""
    return lambda attributes: f'"type": "{letter}"'.encode() in attributes


@pytest.fixture
async def shard(store: Store) -> Shard:
    """The shard of the one subscription, which wants messages of the type `a`."""
    shard = await own(store)
    shard.select(of_type("a"))
    return shard


async def publish_types(store: Store, types: str) -> None:
    await publish(store, *[new_message(type_=letter) for letter in types])


async def position_of(store: Store) -> int:
    return (await store.shard_stats(TOPIC, SUBSCRIPTION)).position


async def backlog_of(store: Store) -> int:
    return (await store.shard_stats(TOPIC, SUBSCRIPTION)).backlog


async def fetch_to_the_end(shard: Shard) -> list[Message]:
    """Fetch as the bell wants it."""
    found: list[Message] = []
    while (page := await shard.fetch(3)) or (shard.behind() and shard.room()):
        found += page
    return found


async def test_only_what_is_wanted_is_fetched(store: Store, shard: Shard) -> None:
    await publish_types(store, "bbabaab")
    page = await fetch_to_the_end(shard)
    assert seqs_of(page) == [3, 5, 6]
    assert all(of_type("a")(message.attributes) for message in page)
    assert list(await shard.fetch(1)) == []


async def test_what_is_not_wanted_is_passed_and_in_no_backlog(store: Store, shard: Shard) -> None:
    await publish_types(store, "bbabaab")
    assert await backlog_of(store) == 7

    await fetch_to_the_end(shard)

    assert (await position_of(store), await backlog_of(store)) == (2, 3)
    await settle(shard, 5)
    assert (await position_of(store), await backlog_of(store)) == (2, 2)
    await settle(shard, 3)
    assert (await position_of(store), await backlog_of(store)) == (5, 1)
    await settle(shard, 6)
    assert (await position_of(store), await backlog_of(store)) == (7, 0)


async def test_what_is_not_wanted_takes_no_room(store: Store, shard: Shard) -> None:
    room = shard.room()
    await publish(store, *[new_message(type_="b")] * (room + 10), new_message(type_="a"))
    assert seqs_of(await fetch_to_the_end(shard)) == [room + 11]
    assert shard.room() == room - 1


async def test_limit_and_room_bound_what_is_handed_out(
    store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{SHARD}.WINDOW", 5)
    await publish_types(store, "b" * 9 + "a" * 9)
    pages = [seqs_of(await shard.fetch(2)) for _ in range(6)]
    assert max(map(len, pages)) == 2
    assert [seq for page in pages for seq in page] == [10, 11, 12, 13, 14]
    assert shard.room() == 0
    await settle(shard, 10, 12)
    assert seqs_of(await fetch_to_the_end(shard))[:2] == [15, 16]


async def test_selection_holds_for_what_is_fetched_from_then_on(store: Store, shard: Shard) -> None:
    await publish_types(store, "ababab")
    assert seqs_of(await shard.fetch(1)) == [1]
    shard.select(of_type("b"))
    assert seqs_of(await shard.fetch(1)) == [2]
    shard.select(None)
    assert seqs_of(await fetch_to_the_end(shard)) == [3, 4, 5, 6]


async def test_seek_brings_what_is_wanted_then(store: Store, shard: Shard) -> None:
    await publish_types(store, "abab")
    await fetch_to_the_end(shard)
    shard.select(of_type("b"))
    await shard.seek(0)
    assert seqs_of(await fetch_to_the_end(shard)) == [2, 4]


async def test_what_has_a_row_comes_by_its_row_whether_wanted_or_not(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_types(store, "aab")
    await fetch_to_the_end(shard)
    await put(shard, row(2, "retry"))

    store = await home.crash()
    shard = await own(store)
    shard.select(of_type("b"))

    assert seqs_of(await fetch_to_the_end(shard)) == [3]
    assert [due.row.seq for due in await shard.due(1.0, 9, frozenset())] == [2]
    assert await backlog_of(store) == 2


async def test_bell_rings_at_once_where_many_are_not_wanted(
    store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{SHARD}.MOST_PASSED_AT_ONCE", 4)
    monkeypatch.setattr(f"{SHARD}.PAGES_PASSED_AT_ONCE", 2)
    await publish_types(store, "b" * 30 + "a")
    looks = 0
    page: list[Message] = []
    while not page:
        shard.bell.clear()
        page = list(await shard.fetch(1))
        assert shard.bell.is_set() == (not page)
        looks += 1
    assert seqs_of(page) == [31]
    assert looks > 2
    assert not shard.behind()


@pytest.mark.parametrize("types", ["a" * 15, "b" * 14 + "a"])
async def test_others_have_a_turn_while_much_is_looked_at(
    store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch, types: str
) -> None:
    monkeypatch.setattr(f"{SHARD}.JUDGING_S", -1.0)  # every look takes long
    await publish_types(store, types)
    turns = count()
    others = asyncio.ensure_future(_count(turns))
    before = next(turns)

    found = await fetch_to_the_end(shard)

    assert len(found) == types.count("a")
    assert next(turns) - before > 10
    others.cancel()


async def _count(turns: count[int]) -> None:
    while True:
        next(turns)
        await asyncio.sleep(0)


async def test_shard_that_is_lost_meanwhile_hands_out_nothing(
    store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{SHARD}.JUDGING_S", -1.0)
    await publish_types(store, "bba")
    fetching = asyncio.ensure_future(shard.fetch(1))
    await asyncio.sleep(0)
    await store.drop_subscription(TOPIC, SUBSCRIPTION)
    with pytest.raises(LeaseLost):
        await fetching


# -- what is on disk -----------------------------------------------------------------------------


async def test_move_is_written_by_itself_before_long(
    home: Home, store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{SHARD}.PASSED_S", 0.01)
    await publish_types(store, "bbbb")
    assert await fetch_all(shard) == []

    await asyncio.sleep(0.2)
    store = await home.crash()

    assert await position_of(store) == 4


async def test_move_costs_no_commit_of_its_own_and_goes_with_the_next(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_types(store, "bbba")
    assert await fetch_all(shard) == [4]
    await asyncio.sleep(0.1)
    store = await home.crash()
    assert await position_of(store) == 0

    shard = await own(store)
    shard.select(of_type("a"))
    assert await fetch_all(shard) == [4]
    await shard.commit(Changes(put=[row(4, "retry")]), soon=True)

    store = await home.crash()
    assert await position_of(store) == 4


async def test_move_is_written_at_a_good_end(home: Home, store: Store, shard: Shard) -> None:
    await publish_types(store, "bbb")
    assert await fetch_all(shard) == []
    store = await home.reopen()
    assert await position_of(store) == 3


@pytest.mark.parametrize("turns", range(8))
async def test_document_of_a_subscription_is_written_together_with_its_position(
    home: Home, store: Store, shard: Shard, turns: int
) -> None:
    await publish_types(store, "bbb")
    assert await fetch_all(shard) == []

    writing = asyncio.ensure_future(store.put_document(DOCUMENT, {"filters": "new"}, 1))
    for _ in range(turns):
        await asyncio.sleep(0)
    store = await home.crash()

    document, _ = store.documents(DOCUMENT)[DOCUMENT]
    assert await position_of(store) == (3 if document == {"filters": "new"} else 0)
    await asyncio.gather(writing, return_exceptions=True)


async def test_document_of_a_subscription_that_is_durable_has_its_position(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_types(store, "bbb")
    assert await fetch_all(shard) == []
    await store.put_document(DOCUMENT, {"filters": "new"}, 1)
    store = await home.crash()
    assert await position_of(store) == 3


# -- what is given up, and what is owed ------------------------------------------------------------


async def test_only_what_is_wanted_is_given_up(home: Home, store: Store, shard: Shard) -> None:
    await publish_types(store, "abbaba")

    dealt_with, _ = await shard.give_up(6, 0.0, frozenset(), "too_old", 100, 1.0)

    assert dealt_with == 5
    store = await home.crash()
    dead = await store.rows(TOPIC, SUBSCRIPTION, ("dead",), 0, 10)
    assert [due.row.seq for due in dead] == [1, 4]
    assert await position_of(store) == 5
    shard = await own(store)
    shard.select(of_type("a"))
    assert seqs_of(await fetch_to_the_end(shard)) == [6]


async def test_giving_up_tells_of_progress_where_nothing_is_wanted(
    store: Store, shard: Shard
) -> None:
    await publish_types(store, "bbbb")
    assert await shard.give_up(5, 0.0, frozenset(), "too_old", 3, 1.0) == (3, [])
    assert await shard.give_up(5, 0.0, frozenset(), "too_old", 3, 1.0) == (1, [])
    assert await shard.give_up(5, 0.0, frozenset(), "too_old", 3, 1.0) == (0, [])
    assert await backlog_of(store) == 0


async def test_what_was_passed_is_not_owed(
    store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{SHARD}.PASSED_S", 0.0)
    await publish_types(store, "bbbab")
    assert await store.trim(TOPIC, 6) == 1
    assert await fetch_all(shard) == [4]
    await asyncio.sleep(0.2)
    assert await store.trim(TOPIC, 6) == 4
    await settle(shard, 4)
    assert await store.first_owed(TOPIC, SUBSCRIPTION) is None
    assert await store.trim(TOPIC, 6) == 6
