"""A subscription's position and its exception rows."""

from __future__ import annotations

import asyncio
from math import inf

import pytest
from msgspec.structs import replace as with_fields

from broker.model import FailedAttempt, RowState
from broker.store.port import Changes, Shard, Store
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
EVER = 1e12
NONE = frozenset[int]()


@pytest.fixture
async def shard(store: Store) -> Shard:
    """The shard of the one subscription."""
    return await own(store)


async def rows_of(shard: Shard, *keys: str) -> dict[int, str]:
    """Return the state of every row that can be seen: retry ones, and held ones of some keys."""
    found = {due.row.seq: "retry" for due in await shard.due(EVER, 1000, NONE)}
    for seq in range(1, 20):
        due = await shard.row(seq)
        if due is not None and due.row.state == "held" and due.row.key in keys:
            found[seq] = "held"
    return found


async def position_of(store: Store) -> int:
    return (await store.shard_stats(TOPIC, SUBSCRIPTION)).position


# -- fetch ---------------------------------------------------------------------------------------


async def test_fetch_hands_out_each_message_once_in_order(store: Store, shard: Shard) -> None:
    await publish(store, *[new_message(key=str(n), data=b"%d" % n) for n in range(7)])
    stored = await read_all(store)

    pages = [await shard.fetch(3) for _ in range(4)]

    assert [len(page) for page in pages] == [3, 3, 1, 0]
    assert [message for page in pages for message in page] == stored


async def test_fetch_reads_old_messages_and_new_ones_without_a_gap(
    home: Home, store: Store
) -> None:
    seqs = await publish_keys(store, *[None] * 5)
    store = await home.reopen()
    shard = await own(store)
    seqs += await publish_keys(store, *[None] * 5)

    first = seqs_of(await shard.fetch(3))
    seqs += await publish_keys(store, *[None] * 5)

    assert first + await fetch_all(shard) == seqs


async def test_bell_rings_when_there_is_something_new(store: Store, shard: Shard) -> None:
    shard.bell.clear()
    assert list(await shard.fetch(1)) == []
    assert not shard.bell.is_set()

    await publish_keys(store, None)

    await asyncio.wait_for(shard.bell.wait(), 10)
    assert len(await shard.fetch(1)) == 1


async def test_fetch_gives_nothing_that_is_not_durable(
    home: Home, store: Store, shard: Shard
) -> None:
    appending = asyncio.ensure_future(publish_keys(store, None))
    seen: list[int] = []
    while not seen:
        seen = seqs_of(await shard.fetch(1))
        await asyncio.sleep(0)

    store = await home.crash()

    assert seqs_of(await read_all(store)) == seen
    await appending


async def test_room_bounds_what_is_handed_out(store: Store, shard: Shard) -> None:
    room = shard.room()
    await publish(store, *[new_message()] * (room + 10))

    fetched: list[int] = []
    while page := await shard.fetch(room):
        fetched += seqs_of(page)
    assert len(fetched) == room
    assert shard.room() == 0

    await shard.commit(Changes(put=[row(fetched[0], "retry")], done=fetched[1:3]))
    assert shard.room() == 3
    assert len(await shard.fetch(10)) == 3


# -- the position ---------------------------------------------------------------------------------


async def test_position_is_below_the_lowest_that_is_not_settled(store: Store, shard: Shard) -> None:
    await publish_keys(store, *[None] * 5)
    await fetch_all(shard)
    assert await position_of(store) == 0

    await settle(shard, 2, 3)
    assert await position_of(store) == 0
    await put(shard, row(1, "retry"))
    assert await position_of(store) == 3
    await settle(shard, 5)
    assert await position_of(store) == 3
    await settle(shard, 4)
    assert await position_of(store) == 5


async def test_shard_owes_what_is_not_fetched_and_what_is_neither_done_nor_put(
    store: Store, shard: Shard
) -> None:
    await publish_keys(store, *[None] * 4)
    assert [shard.owes(seq) for seq in (1, 2, 3, 4)] == [True] * 4

    await shard.fetch(3)
    await settle(shard, 2)
    await put(shard, row(3, "retry"))

    assert [shard.owes(seq) for seq in (1, 2, 3, 4)] == [True, False, False, True]


async def test_shard_tells_the_position_that_its_next_commit_writes(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_keys(store, *[None] * 3)
    await fetch_all(shard)
    await put(shard, row(2, "dead"))
    assert shard.position() == 0

    committed = shard.commit(Changes(done=[1]), soon=True)
    assert shard.position() == 2

    await committed
    assert await position_of(await home.crash()) == 2


async def test_dead_row_that_is_dropped_for_its_age_does_not_come_again(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_keys(store, None, None)
    await fetch_all(shard)
    await put(shard, row(2, "dead"))
    store = await home.crash()
    shard = await own(store)
    shard.select(lambda _: False)
    assert await fetch_all(shard) == []
    assert shard.position() == 2

    assert await store.drop_dead(TOPIC, SUBSCRIPTION, EVER) == 1

    assert 2 not in await fetch_all(await own(await home.crash()))


@pytest.mark.parametrize("state", ["retry", "held", "leased", "dead"])
async def test_every_row_lets_the_position_pass(home: Home, store: Store, state: str) -> None:
    shard = await own(store)
    await publish_keys(store, "a", "a")
    await fetch_all(shard)

    await put(shard, with_fields(row(1, "retry", "a"), state=state))

    assert await position_of(store) == 1
    store = await home.crash()
    assert await position_of(store) == 1
    assert await fetch_all(await own(store)) == [2]


async def test_what_is_settled_below_the_position_never_comes_again(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_keys(store, *[None] * 5)
    await fetch_all(shard)
    await settle(shard, 1, 2, 4)

    store = await home.crash()

    assert await position_of(store) == 2
    assert await fetch_all(await own(store)) == [3, 4, 5]


async def test_what_was_fetched_and_not_settled_comes_again(
    home: Home, store: Store, shard: Shard
) -> None:
    seqs = await publish_keys(store, *[None] * 5)
    await fetch_all(shard)

    assert await fetch_all(await own(await home.reopen())) == seqs
    assert await fetch_all(await own(await home.crash())) == seqs


async def test_what_has_a_row_at_the_claim_comes_by_its_row_only(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_keys(store, *[None] * 6)
    await fetch_all(shard)
    await put(shard, row(2, "retry"), row(4, "dead"), row(5, "held", "a"))
    await settle(shard, 6)

    store = await home.crash()
    shard = await own(store)

    assert shard.covered_until == 5
    seqs = await fetch_all(shard)
    assert seqs == [1, 3, 6]
    await settle(shard, *seqs)
    assert await position_of(store) == 6
    assert (await store.shard_stats(TOPIC, SUBSCRIPTION)).rows == {"retry": 1, "dead": 1, "held": 1}


# -- commit --------------------------------------------------------------------------------------


async def test_commit_soon_is_durable_when_it_ends(home: Home, store: Store, shard: Shard) -> None:
    await publish_keys(store, None, None, None)
    await fetch_all(shard)

    await shard.commit(Changes(put=[row(2, "retry")], done=[1]), soon=True)

    store = await home.crash()
    assert await position_of(store) == 2
    assert await rows_of(await own(store)) == {2: "retry"}


async def test_commit_that_nobody_waits_for_follows_by_itself(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_keys(store, None, None)
    await fetch_all(shard)

    await shard.commit(Changes(put=[row(1, "retry")]))
    await asyncio.sleep(0.5)  # ten times the 50 ms it is allowed

    assert await position_of(await home.crash()) == 1


async def test_commit_is_written_by_a_clean_end(home: Home, store: Store, shard: Shard) -> None:
    await publish_keys(store, None, None)
    await fetch_all(shard)

    await shard.commit(Changes(put=[row(2, "retry")], done=[1]))

    store = await home.reopen()
    assert await position_of(store) == 2
    assert await rows_of(await own(store)) == {2: "retry"}


async def test_row_comes_back_with_every_field(home: Home, store: Store, shard: Shard) -> None:
    (seq,) = await publish(store, new_message(key="a", data=b"\x00"))
    await fetch_all(shard)
    kept = row(seq, "retry", "a", attempts=7, due_at=12.25, reason="täuschend \x00")

    await put(shard, kept)

    for _ in range(2):
        (due,) = await shard.due(EVER, 5, NONE)
        assert due.row == kept
        assert (due.message.seq, due.message.key, due.message.data) == (seq, "a", b"\x00")
        shard = await own(await home.crash())


async def test_put_replaces_a_row_and_drop_removes_it(store: Store, shard: Shard) -> None:
    await publish_keys(store, None, None)
    await fetch_all(shard)
    await put(shard, row(1, "retry"), row(2, "leased"))
    await put(shard, row(1, "dead"), row(2, "retry", attempts=3))
    assert [due.row.attempts for due in await shard.due(EVER, 5, NONE)] == [3]

    await shard.commit(Changes(drop=[2]), soon=True)

    assert (await store.shard_stats(TOPIC, SUBSCRIPTION)).rows == {"dead": 1}
    assert await position_of(store) == 2


async def test_drop_wins_over_a_put_of_the_same_commit(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_keys(store, None)
    await fetch_all(shard)

    await shard.commit(Changes(put=[row(1, "retry")], drop=[1]), soon=True)

    assert await rows_of(shard) == {}
    assert await position_of(await home.crash()) == 1


async def test_last_of_several_commits_counts(home: Home, store: Store, shard: Shard) -> None:
    await publish_keys(store, None, None)
    await fetch_all(shard)

    await shard.commit(Changes(put=[row(1, "retry"), row(2, "retry")]))
    await shard.commit(Changes(drop=[1, 2]))
    await shard.commit(Changes(put=[row(2, "dead")]), soon=True)

    assert (await store.shard_stats(TOPIC, SUBSCRIPTION)).rows == {"dead": 1}
    assert (await (await home.crash()).shard_stats(TOPIC, SUBSCRIPTION)).rows == {"dead": 1}


async def test_repeating_changes_is_harmless(home: Home, store: Store, shard: Shard) -> None:
    await publish_keys(store, *[None] * 4)
    await fetch_all(shard)
    await put(shard, row(3, "retry"))
    failed = FailedAttempt(2, 1, 5.0, 500, "the endpoint answered 500", 3, "no")
    changes = Changes(put=[row(2, "retry")], done=[1], drop=[3], failed=[failed])

    await shard.commit(changes, soon=True)
    await shard.commit(changes, soon=True)
    await shard.commit(changes)
    await shard.commit(changes, soon=True)

    assert await rows_of(shard) == {2: "retry"}
    assert await position_of(store) == 3
    store = await home.crash()
    shard = await own(store)
    assert await rows_of(shard) == {2: "retry"}
    await shard.commit(changes, soon=True)
    assert await rows_of(shard) == {2: "retry"}
    assert await position_of(store) == 3


# -- rows ----------------------------------------------------------------------------------------


async def test_due_gives_the_longest_due_first(store: Store, shard: Shard) -> None:
    await publish_keys(store, *[None] * 6)
    await fetch_all(shard)
    times = {1: 50.0, 2: 10.0, 3: 99.0, 4: 30.0, 5: 10.0}
    await put(shard, *[row(seq, "retry", due_at=at) for seq, at in times.items()])
    await put(shard, row(6, "dead", due_at=1.0))

    async def due(now: float, limit: int, *skip: int) -> list[int]:
        return [due.row.seq for due in await shard.due(now, limit, frozenset(skip))]

    assert await due(9.9, 10) == []
    assert sorted(await due(10.0, 10)) == [2, 5]
    assert (await due(50.0, 10))[2:] == [4, 1]
    assert await due(98.0, 2, 2, 5) == [4, 1]
    assert await due(EVER, 1, 2, 5, 4, 1) == [3]
    assert await due(EVER, 10, 1, 2, 3, 4, 5) == []


async def test_next_due_at_is_the_earliest_that_is_not_skipped(store: Store, shard: Shard) -> None:
    assert await shard.next_due_at(NONE) is None
    await publish_keys(store, *[None] * 4)
    await fetch_all(shard)
    assert await shard.next_due_at(NONE) is None

    await put(shard, row(1, "retry", due_at=50.0), row(2, "retry", due_at=10.0))
    await put(shard, row(3, "held", "a"), row(4, "dead"))

    assert await shard.next_due_at(NONE) == 10.0
    assert await shard.next_due_at(frozenset({2})) == 50.0
    assert await shard.next_due_at(frozenset({3, 2, 99})) == 50.0
    assert await shard.next_due_at(frozenset({1, 2})) is None


async def test_held_gives_one_keys_rows_in_order(store: Store, shard: Shard) -> None:
    await publish_keys(store, *"abaabaa")
    await fetch_all(shard)
    await put(shard, *[row(seq, "held", "a") for seq in (6, 4, 3)], row(1, "dead", "a"))
    await put(shard, row(7, "retry", "a"), row(2, "held", "b"))

    async def held(key: str, after: int, limit: int) -> list[int]:
        found = await shard.held(key, after, limit)
        assert [due.row.seq for due in found] == [due.message.seq for due in found]
        return [due.row.seq for due in found]

    assert await held("a", 0, 10) == [3, 4, 6]
    assert await held("a", 3, 10) == [4, 6]
    assert await held("a", 4, 10) == [6]
    assert await held("a", 0, 2) == [3, 4]
    assert await held("b", 0, 10) == [2]
    assert await held("c", 0, 10) == []


@pytest.mark.parametrize("state", ["retry", "leased", "blocked"])
async def test_held_gives_nothing_behind_what_holds_the_key(
    store: Store, shard: Shard, state: RowState
) -> None:
    await publish_keys(store, *"aaaa")
    await fetch_all(shard)
    await put(shard, row(1, "held", "a"), row(2, state, "a"), row(3, "held", "a"))

    before = [] if state == "leased" else [1]  # a lease has the key, wherever it stands
    assert [due.row.seq for due in await shard.held("a", 0, 10)] == before
    assert list(await shard.held("a", 2, 10)) == []
    assert await shard.first_of("a") == 2
    assert await shard.first_of("b") is None


async def test_firsts_are_the_lowest_rows_that_are_not_dead(store: Store, shard: Shard) -> None:
    await publish_keys(store, *"aaabbbc")
    await fetch_all(shard)
    await put(shard, row(1, "dead", "a"), row(2, "held", "a"), row(3, "leased", "a"))
    await put(shard, row(5, "blocked", "b"), row(6, "retry", "b"), row(7, "dead", "c"))

    assert await shard.firsts(["a", "b", "c", "d"]) == {"a": 2, "b": 5}
    assert await shard.firsts([]) == {}


async def test_regrouping_frees_nothing_of_a_key_that_is_leased(store: Store, shard: Shard) -> None:
    await publish_keys(store, *"aabb")
    await fetch_all(shard)
    await put(shard, row(1, "held", "a"), row(2, "leased", "a"))
    await put(shard, row(3, "held", "b"), row(4, "blocked", "b"))

    await shard.regroup("key")

    states = [(await shard.row(seq)).row.state for seq in (1, 2, 3, 4)]
    assert states == ["held", "leased", "retry", "blocked"]


async def test_leased_rows_are_found_among_seqs(store: Store, shard: Shard) -> None:
    await publish_keys(store, "a", None, "b", None, None)
    await publish_keys(store, "alone")
    await fetch_all(shard)
    await put(shard, row(1, "leased", "a", attempts=2, due_at=9.0), row(2, "retry"))
    await put(shard, row(6, "leased", "alone", due_at=9.0))
    await shard.commit(Changes(put=[row(4, "leased", due_at=inf), row(5, "leased")]))

    found = await shard.leased_among([2, 1, 4, 6, 99])

    assert sorted(found) == [1, 4, 6]
    assert (found[6].message.seq, found[6].message.key) == (6, "alone")
    assert (found[1].row.attempts, found[1].row.due_at, found[4].row.due_at) == (2, 9.0, inf)
    message = found[1].message
    assert (message.seq, message.key, message.stored_at > 0) == (1, "a", True)
    assert (message.attributes, message.data) == (b"", None)


async def test_rows_are_seen_by_the_next_call(store: Store, shard: Shard) -> None:
    """Also those of a commit that nobody waited for."""
    await publish_keys(store, *"abcde")
    await fetch_all(shard)

    await shard.commit(Changes(put=[row(1, "retry", "a")]))
    assert [due.row.seq for due in await shard.due(EVER, 5, NONE)] == [1]
    await shard.commit(Changes(put=[row(2, "retry", "b", due_at=-1.0)]))
    assert await shard.next_due_at(NONE) == -1.0
    await shard.commit(Changes(put=[row(3, "held", "c")]))
    assert [due.row.seq for due in await shard.held("c", 0, 5)] == [3]
    await shard.commit(Changes(put=[row(4, "retry", "d")]))
    assert sorted(await shard.waiting_keys(99)) == ["a", "b", "c", "d"]
    await shard.commit(Changes(put=[row(5, "dead", "e")]))
    assert (await store.shard_stats(TOPIC, SUBSCRIPTION)).rows == {"retry": 3, "held": 1, "dead": 1}


async def test_waiting_keys_have_a_row_that_is_not_dead(store: Store, shard: Shard) -> None:
    await publish_keys(store, "a", "b", "c", "a", None, "d")
    await fetch_all(shard)
    await put(shard, row(1, "retry", "a"), row(4, "held", "a"), row(2, "leased", "b"))
    await put(shard, row(3, "dead", "c"), row(5, "retry"))

    assert sorted(await shard.waiting_keys(99)) == ["a", "b"]


async def test_leased_row_is_due_at_once_in_the_next_life(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_keys(store, "a")
    await fetch_all(shard)
    await put(shard, row(1, "leased", "a", attempts=2, due_at=inf))
    assert await rows_of(shard, "a") == {}

    (due,) = await (await own(await home.crash())).due(home.clock.now, 5, NONE)

    assert (due.row.seq, due.row.attempts) == (1, 2)


@pytest.mark.parametrize("end", ["none", "crash"])
async def test_regroup_by_key_lets_only_each_keys_first_row_retry(
    home: Home, store: Store, end: str
) -> None:
    shard = await own(store)
    await publish_keys(store, "a", "a", "a", "b", "b", None, None, "c", "c")
    await fetch_all(shard)
    await put(shard, row(1, "retry", "a"), row(2, "retry", "a"), row(3, "held", "a"))
    await put(shard, row(4, "held", "b"), row(5, "retry", "b"))
    await put(shard, row(6, "retry"), row(7, "held"), row(8, "dead", "c"), row(9, "held", "c"))

    await shard.regroup("key")
    if end == "crash":
        shard = await own(await home.crash())

    states = await rows_of(shard, "a", "b", "c")
    assert [seq for seq, state in states.items() if state == "held"] == [2, 3, 5]
    assert sorted(seq for seq, state in states.items() if state == "retry") == [1, 4, 6, 7, 9]


@pytest.mark.parametrize("ordering", ["none", "topic"])
async def test_regroup_without_keys_leaves_nothing_held(
    store: Store, shard: Shard, ordering: str
) -> None:
    await publish_keys(store, "a", "a", "b", None)
    await fetch_all(shard)
    await put(shard, row(1, "retry", "a", due_at=50.0), row(2, "held", "a"), row(3, "held", "b"))
    await put(shard, row(4, "dead"))

    await shard.regroup(ordering)

    assert await rows_of(shard, "a", "b") == {1: "retry", 2: "retry", 3: "retry"}
    assert await shard.next_due_at(frozenset({2, 3})) == 50.0
    assert (await store.shard_stats(TOPIC, SUBSCRIPTION)).rows == {"retry": 3, "dead": 1}


async def test_regroup_keeps_when_each_is_due(store: Store, shard: Shard) -> None:
    await publish_keys(store, "a", "a", "b")
    await fetch_all(shard)
    await put(shard, row(1, "retry", "a", due_at=50.0), row(2, "retry", "a", due_at=90.0))
    await put(shard, row(3, "held", "b", due_at=70.0))

    await shard.regroup("key")

    assert await rows_of(shard, "a", "b") == {1: "retry", 2: "held", 3: "retry"}
    assert await shard.next_due_at(frozenset({1})) == 70.0

    await shard.regroup("none")

    assert await rows_of(shard, "a", "b") == {1: "retry", 2: "retry", 3: "retry"}
    assert await shard.next_due_at(frozenset({1, 3})) == 90.0


# -- counts --------------------------------------------------------------------------------------


async def test_stats_tell_how_far_it_is(home: Home, store: Store, shard: Shard) -> None:
    stats = await store.shard_stats(TOPIC, SUBSCRIPTION)
    assert (stats.position, stats.backlog, dict(stats.rows)) == (0, 0, {})
    assert (stats.blocked_keys, stats.oldest_unsettled_at) == (0, None)

    stored_at = []
    for key in "abababc":
        home.clock.now += 1
        stored_at.append(home.clock.now)
        await publish_keys(store, key)
    stats = await store.shard_stats(TOPIC, SUBSCRIPTION)
    assert (stats.position, stats.backlog, stats.oldest_unsettled_at) == (0, 7, stored_at[0])

    await shard.fetch(6)
    assert (await store.shard_stats(TOPIC, SUBSCRIPTION)).backlog == 7
    await put(shard, row(1, "dead", "a"), row(2, "retry", "b"), row(4, "held", "b"))
    await put(shard, row(3, "retry", "a"), row(5, "held", "a"), row(6, "held", "b"))
    stats = await store.shard_stats(TOPIC, SUBSCRIPTION)
    assert stats.rows == {"dead": 1, "retry": 2, "held": 3}
    assert (stats.position, stats.backlog, stats.blocked_keys) == (6, 6, 2)
    assert stats.oldest_unsettled_at == stored_at[1]

    await shard.commit(Changes(drop=[2, 3, 4, 5, 6]), soon=True)
    stats = await store.shard_stats(TOPIC, SUBSCRIPTION)
    assert (stats.backlog, stats.oldest_unsettled_at) == (1, stored_at[6])
    await fetch_all(shard)
    await settle(shard, 7)
    stats = await store.shard_stats(TOPIC, SUBSCRIPTION)
    assert (stats.backlog, dict(stats.rows), stats.oldest_unsettled_at) == (0, {"dead": 1}, None)


async def test_stats_count_no_message_twice_after_a_crash(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_keys(store, *[None] * 6)
    await fetch_all(shard)
    await put(shard, row(2, "retry"), row(3, "dead"), row(5, "retry"))

    store = await home.crash()
    shard = await own(store)

    async def backlog() -> int:
        return (await store.shard_stats(TOPIC, SUBSCRIPTION)).backlog

    assert await backlog() == 5
    seqs = await fetch_all(shard)
    assert await backlog() == 5
    assert seqs == [1, 4, 6]
    await shard.commit(Changes(done=[1, 4, 6], drop=[2, 5]), soon=True)
    assert await backlog() == 0


async def test_stats_count_no_message_twice_that_ends_before_it_is_fetched_again(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_keys(store, None, None, None)
    await fetch_all(shard)
    await put(shard, row(2, "retry"), row(3, "retry"))
    store = await home.crash()
    shard = await own(store)

    await shard.commit(Changes(drop=[2]), soon=True)
    await put(shard, row(3, "retry", attempts=2))
    assert (await store.shard_stats(TOPIC, SUBSCRIPTION)).backlog == 2

    assert await fetch_all(shard) == [1]
    await settle(shard, 1)
    assert (await store.shard_stats(TOPIC, SUBSCRIPTION)).backlog == 1


async def test_stats_count_every_message_while_all_of_them_fail(
    home: Home, store: Store, shard: Shard
) -> None:
    messages = 3000
    await publish_keys(store, *[None] * messages)
    failing = asyncio.create_task(fail_one_by_one(shard, messages))
    assert set(await count_while(failing, store)) == {messages}


async def test_stats_count_every_message_while_all_are_given_up(
    home: Home, store: Store, shard: Shard
) -> None:
    messages = 3000
    await publish_keys(store, *[None] * messages)
    assert len(await shard.fetch(500)) == 500
    await put(shard, *(row(seq, "retry") for seq in range(1, 501)))

    async def give_up() -> None:
        while (await shard.give_up(messages + 1, 1e12, frozenset(), "too_old", 7, 1.0))[0]:
            pass

    assert set(await count_while(asyncio.create_task(give_up()), store)) == {messages}
    assert (await store.shard_stats(TOPIC, SUBSCRIPTION)).rows == {"dead": messages}


async def test_stats_count_no_message_twice_while_it_is_sought(
    home: Home, store: Store, shard: Shard
) -> None:
    messages = 3000
    await publish_keys(store, *[None] * messages)
    await fetch_all(shard)
    await put(shard, *(row(seq, "retry") for seq in range(1, messages + 1)))

    counted = await count_while(asyncio.create_task(shard.seek(0)), store)
    assert set(counted) == {messages}


async def count_while(task: asyncio.Task[None], store: Store) -> list[int]:
    """Count again and again until a task is over: what is owed and what is dead."""
    counted = []
    while not task.done() or not counted:
        stats = await store.shard_stats(TOPIC, SUBSCRIPTION)
        standing = (await store.standings())[(TOPIC, SUBSCRIPTION)]
        counted += [each.backlog + each.rows.get("dead", 0) for each in (stats, standing)]
    await task
    return counted


async def fail_one_by_one(shard: Shard, messages: int) -> None:
    """Have some messages fail, some again and one for good, over and over."""
    for first in range(1, messages, 3):
        seqs = [message.seq for message in await shard.fetch(3)]
        assert seqs == [first, first + 1, first + 2]
        again = [row(seq, "retry", attempts=2) for seq in range(max(first - 20, 1), first)]
        again = [each for each in again if each.seq % 3]
        fresh = [row(seq, "retry" if seq % 3 else "dead") for seq in seqs]
        shard.commit(Changes(put=[*fresh, *again]))
        await asyncio.sleep(0.0005)


async def test_subscriptions_of_one_topic_know_nothing_of_each_other(
    home: Home, store: Store, shard: Shard
) -> None:
    await store.create_subscription(TOPIC, "other", {}, start=1)
    other = await own(store)
    seqs = await publish_keys(store, "a", "b")
    assert await fetch_all(shard) == await fetch_all(other) == seqs

    await put(shard, row(1, "retry", "a"), row(2, "dead", "b"))

    assert await rows_of(other) == {}
    assert await other.waiting_keys(99) == []
    assert (await store.shard_stats(TOPIC, "other")).backlog == 2
    await store.drop_subscription(TOPIC, "other")
    assert await rows_of(shard) == {1: "retry"}
    assert await rows_of(await own(await home.crash())) == {1: "retry"}
