"""A topic's log: appending, repeats, reading, times and counts."""

from __future__ import annotations

import asyncio

import pytest

from broker.store.port import IdTaken, Store
from contract.homes import Home
from contract.messages import (
    SUBSCRIPTION,
    TOPIC,
    new_message,
    own,
    publish,
    publish_keys,
    read_all,
    seqs_of,
)

pytestmark = pytest.mark.anyio


async def test_append_keeps_list_order_and_every_field(home: Home, store: Store) -> None:
    first = new_message(key="a", data=b"\x00\xff")
    second = new_message(data=None)

    appended = await store.append(TOPIC, [first, second])

    kept = await read_all(store)
    assert [each.sequence for each in appended] == seqs_of(kept)
    assert [(m.key, m.attributes, m.data, m.stored_at) for m in kept] == [
        ("a", first.attributes, b"\x00\xff", home.clock.now),
        (None, second.attributes, None, home.clock.now),
    ]
    assert [(each.id, each.duplicate) for each in appended] == [("made", False)] * 2


async def test_seqs_begin_above_0_and_grow_within_each_topic(store: Store) -> None:
    await store.create_topic("bills", {})

    seqs = [seq for _ in range(5) for seq in await publish_keys(store, None, "a")]
    others = await publish(store, new_message(), topic="bills")

    assert seqs[0] > 0
    assert seqs == sorted(set(seqs))
    assert others[0] > 0
    assert seqs_of(await read_all(store)) == seqs
    assert seqs_of(await read_all(store, "bills")) == others


async def test_concurrent_appends_each_keep_their_messages_together(store: Store) -> None:
    batches = [[new_message(data=b"%d" % n)] * 3 for n in range(40)]

    appended = await asyncio.gather(*(store.append(TOPIC, batch) for batch in batches))

    by_seq = {m.seq: m.data for m in await read_all(store)}
    assert len(by_seq) == 120
    for number, batch in enumerate(appended):
        seqs = [each.sequence for each in batch if each.sequence is not None]
        assert seqs == sorted(seqs)
        assert [by_seq[seq] for seq in seqs] == [b"%d" % number] * 3


async def test_append_is_durable_when_it_returns(home: Home, store: Store) -> None:
    seqs = await publish_keys(store, "a", "b")

    store = await home.crash()

    assert seqs_of(await read_all(store)) == seqs


async def test_append_soon_gives_at_once_what_is_durable_once_its_waiter_is_told(
    home: Home, store: Store
) -> None:
    durable = asyncio.get_running_loop().create_future()
    appended = store.append_soon(TOPIC, [new_message("a"), new_message("b")], durable)
    assert not durable.done()
    assert [(each.id, each.duplicate) for each in appended] == [("a", False), ("b", False)]
    refused = asyncio.get_running_loop().create_future()
    with pytest.raises(IdTaken):
        store.append_soon(TOPIC, [new_message("c"), new_message("a", data=b"another")], refused)
    await durable
    assert not refused.done()

    store = await home.crash()

    assert seqs_of(await read_all(store)) == [each.sequence for each in appended]


class Failing:
    """A waiter that cannot hear."""

    def done(self) -> bool:
        """Say that it waits."""
        return False

    def set_result(self, _: None) -> None:
        """Fail."""
        raise RuntimeError

    def set_exception(self, _: Exception) -> None:
        """Fail as well."""
        raise RuntimeError


async def test_waiter_that_gives_up_or_fails_disturbs_no_other(store: Store) -> None:
    given_up, kept = (asyncio.get_running_loop().create_future() for _ in range(2))
    appended = [
        *store.append_soon(TOPIC, [new_message("a")], given_up),
        *store.append_soon(TOPIC, [new_message("b")], Failing()),
        *store.append_soon(TOPIC, [new_message("c")], kept),
    ]
    given_up.cancel()
    await kept

    assert seqs_of(await read_all(store)) == [each.sequence for each in appended]


async def test_cancelling_one_append_disturbs_no_other(store: Store) -> None:
    given_up = asyncio.ensure_future(store.append(TOPIC, [new_message(data=b"given up")]))
    kept = asyncio.ensure_future(store.append(TOPIC, [new_message(data=b"kept")]))
    await asyncio.sleep(0)
    given_up.cancel()

    (appended,) = await kept

    assert (await read_all(store))[-1].data == b"kept"
    assert (await read_all(store))[-1].seq == appended.sequence


async def test_append_of_nothing_stores_nothing(store: Store) -> None:
    assert list(await store.append(TOPIC, [])) == []
    assert await read_all(store) == []


# -- repeats -----------------------------------------------------------------------------------


async def test_repeated_id_is_a_duplicate_with_the_first_seq(store: Store) -> None:
    (first,) = await publish(store, new_message("a"))

    appended = await store.append(TOPIC, [new_message("b"), new_message("a"), new_message("c")])

    assert [(each.id, each.duplicate) for each in appended] == [
        ("b", False),
        ("a", True),
        ("c", False),
    ]
    assert appended[1].sequence == first
    assert len(await read_all(store)) == 3


async def test_repeat_within_one_append_is_a_duplicate(store: Store) -> None:
    appended = await store.append(
        TOPIC, [new_message(id_) for id_ in ("x", "a", "b", "a", "b", "a")]
    )

    assert [each.duplicate for each in appended] == [False, False, False, True, True, True]
    assert [each.sequence for each in appended[3:]] == [
        appended[1].sequence,
        appended[2].sequence,
        appended[1].sequence,
    ]
    assert len(await read_all(store)) == 3


async def test_repeat_while_the_first_is_being_stored_is_answered_once_it_is_durable(
    home: Home, store: Store
) -> None:
    first = asyncio.ensure_future(store.append(TOPIC, [new_message("a")]))
    await asyncio.sleep(0)
    (again,) = await store.append(TOPIC, [new_message("a")])
    await first

    store = await home.crash()

    assert again.duplicate
    assert seqs_of(await read_all(store)) == [again.sequence]


async def test_many_at_once_with_one_id_store_it_once(store: Store) -> None:
    answers = await asyncio.gather(*(store.append(TOPIC, [new_message("a")]) for _ in range(20)))

    assert sorted(answer[0].duplicate for answer in answers) == [False] + [True] * 19
    assert {answer[0].sequence for answer in answers} == set(seqs_of(await read_all(store)))
    assert len(await read_all(store)) == 1


@pytest.mark.parametrize("end", ["clean", "crash"])
async def test_repeat_is_recognised_in_the_next_life(home: Home, store: Store, end: str) -> None:
    ids = ["m", "a", "z"]
    seqs = await publish(store, *[new_message(id_) for id_ in ids])

    store = await (home.reopen() if end == "clean" else home.crash())
    appended = await store.append(TOPIC, [new_message(id_) for id_ in ids])

    assert [(each.sequence, each.duplicate) for each in appended] == [(seq, True) for seq in seqs]


@pytest.mark.parametrize("ids", [("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a")])
async def test_repeat_is_recognised_whatever_the_order_of_ids(
    store: Store, ids: tuple[str, ...]
) -> None:
    for id_ in ids:
        await publish(store, new_message(id_))

    for id_ in ids:
        (again,) = await store.append(TOPIC, [new_message(id_)])
        assert again.duplicate, id_


async def test_repeat_is_recognised_among_very_many_sources(store: Store) -> None:
    (first,) = await publish(store, new_message("m"))
    many = [new_message("1", source=f"/source/{number}") for number in range(10_001)]
    await publish(store, new_message("b"), *many)

    (again,) = await store.append(TOPIC, [new_message("m")])

    assert (again.sequence, again.duplicate) == (first, True)


async def test_same_id_of_another_source_or_topic_is_another_message(store: Store) -> None:
    await store.create_topic("bills", {})
    await publish(store, new_message("a"))

    (other_source,) = await store.append(TOPIC, [new_message("a", source="/else")])
    (other_topic,) = await store.append("bills", [new_message("a")])

    assert not other_source.duplicate
    assert not other_topic.duplicate


async def test_messages_without_a_fingerprint_are_never_repeats(store: Store) -> None:
    appended = await store.append(TOPIC, [new_message()] * 3)

    assert [each.duplicate for each in appended] == [False] * 3


async def test_id_is_known_to_the_end_of_the_dedup_window(home: Home, store: Store) -> None:
    (first,) = await publish(store, new_message("a"))
    home.clock.now += 59

    (again,) = await store.append(TOPIC, [new_message("a")])

    assert (again.sequence, again.duplicate) == (first, True)


@pytest.mark.parametrize("between", [0, 1, 2])
async def test_id_may_come_again_after_the_dedup_window(
    home: Home, store: Store, between: int
) -> None:
    await publish(store, new_message("a"))
    home.clock.now += 60
    for _ in range(between):
        await publish(store, new_message())

    (anew,) = await store.append(TOPIC, [new_message("a", data=b"other")])
    (again,) = await store.append(TOPIC, [new_message("a", data=b"other")])

    assert not anew.duplicate
    assert (again.sequence, again.duplicate) == (anew.sequence, True)


async def test_dedup_window_follows_the_topics_document(home: Home, store: Store) -> None:
    await store.put_document(f"topic/{TOPIC}", {"dedup_window_s": 1000}, None)
    await publish(store, new_message("a"))
    home.clock.now += 999

    (again,) = await (await home.reopen()).append(TOPIC, [new_message("a")])

    assert again.duplicate


# -- an id with other content --------------------------------------------------------------------


@pytest.mark.parametrize("end", ["none", "crash"])
async def test_id_with_another_fingerprint_is_refused_and_nothing_stored(
    home: Home, store: Store, end: str
) -> None:
    await publish(store, new_message("a", data=b"1"))
    if end == "crash":
        store = await home.crash()

    with pytest.raises(IdTaken) as refused:
        await store.append(TOPIC, [new_message("b"), new_message("a", data=b"2")])

    assert (refused.value.source, refused.value.id) == ("/shop", "a")
    assert [m.data for m in await read_all(store)] == [b"1"]
    (free,) = await store.append(TOPIC, [new_message("b", data=b"3")])
    assert not free.duplicate


async def test_id_twice_in_one_append_with_other_data_is_refused(store: Store) -> None:
    with pytest.raises(IdTaken):
        await store.append(TOPIC, [new_message("a", data=b"1"), new_message("a", data=b"2")])

    assert await read_all(store) == []


async def test_refused_append_leaves_those_beside_it_alone(store: Store) -> None:
    await publish(store, new_message("a", data=b"1"))

    answers = await asyncio.gather(
        store.append(TOPIC, [new_message("x")]),
        store.append(TOPIC, [new_message("a", data=b"2")]),
        store.append(TOPIC, [new_message("y")]),
        return_exceptions=True,
    )

    assert isinstance(answers[1], IdTaken)
    assert len(await read_all(store)) == 3


# -- reading -------------------------------------------------------------------------------------


async def test_read_gives_pages_in_order_and_where_to_read_on(store: Store) -> None:
    seqs = await publish_keys(store, *[None] * 5)

    first, onward = await store.read(TOPIC, 0, 2)
    assert onward is not None
    second, then = await store.read(TOPIC, onward, 2)
    assert then is not None
    third, end = await store.read(TOPIC, then, 2)

    assert [seqs_of(page) for page in (first, second, third)] == [seqs[:2], seqs[2:4], seqs[4:]]
    assert end is None


async def test_read_ends_where_a_page_ends_with_the_topic(store: Store) -> None:
    await publish_keys(store, None, None)

    _, onward = await store.read(TOPIC, 0, 2)

    assert onward is None


async def test_read_after_the_last_gives_nothing(store: Store) -> None:
    (seq,) = await publish_keys(store, None)

    assert await store.read(TOPIC, seq, 5) == ([], None)


async def test_read_filters_by_key_and_type(store: Store) -> None:
    seqs = await publish(
        store,
        new_message(key="a", type_="placed"),
        new_message(key="b", type_="placed"),
        new_message(key="a", type_="paid"),
        new_message(key=None, type_="paid"),
        new_message(key="a", type_="paid"),
    )

    async def matching(**filters: str) -> list[int]:
        found: list[int] = []
        after: int | None = 0
        while after is not None:
            page, after = await store.read(TOPIC, after, 1, **filters)
            found += seqs_of(page)
        return found

    assert await matching(key="a") == [seqs[0], seqs[2], seqs[4]]
    assert await matching(type_="placed") == seqs[:2]
    assert await matching(key="a", type_="paid") == [seqs[2], seqs[4]]
    assert await matching(key="none of them") == []


async def test_read_finds_a_rare_key_however_far_away(store: Store) -> None:
    await publish(store, *[new_message(key="common")] * 10_005)
    (rare,) = await publish_keys(store, "rare")

    found: list[int] = []
    after: int | None = 0
    while after is not None:
        page, after = await store.read(TOPIC, after, 2, key="rare")
        found += seqs_of(page)

    assert found == [rare]


# -- times and counts -----------------------------------------------------------------------------


async def test_locate_finds_the_first_stored_at_or_after_a_time(home: Home, store: Store) -> None:
    stored: dict[float, list[int]] = {}
    for _ in range(5):
        home.clock.now += 10
        stored[home.clock.now] = await publish_keys(store, None, None)
    times = list(stored)

    assert await store.locate(TOPIC, 0) == stored[times[0]][0]
    for time in times:
        assert await store.locate(TOPIC, time) == stored[time][0]
        assert await store.locate(TOPIC, time - 5) == stored[time][0]
    last = stored[times[-1]][-1]
    assert await store.locate(TOPIC, times[-1] + 1) == last + 1


async def test_an_id_is_found_for_each_source_that_chose_it(store: Store) -> None:
    sources = ["/shop", "/a", "/é", "/shop/2"]
    await publish(store, *[new_message("other", source=each) for each in sources])
    await publish(store, new_message())  # an id of the broker's own is not among them
    first, second = await publish(
        store, new_message("' OR 1 --", source="/é"), new_message("' OR 1 --", source="/a")
    )
    assert await store.sequences_of(TOPIC, "' OR 1 --") == [first, second]
    assert await store.sequences_of(TOPIC, "made") == []
    assert await store.sequences_of(TOPIC, "") == []
    await store.drop_subscription(TOPIC, SUBSCRIPTION)  # or the messages are owed to it, and stay
    assert await store.trim(TOPIC, second) == second
    assert await store.sequences_of(TOPIC, "' OR 1 --") == [second]


async def test_locate_in_an_empty_topic_is_one_past_the_last(store: Store) -> None:
    assert await store.locate(TOPIC, 0) == store.topic_stats(TOPIC).last_sequence + 1


async def test_stats_count_messages_and_bytes(home: Home, store: Store) -> None:
    empty = store.topic_stats(TOPIC)
    assert (empty.message_count, empty.bytes) == (0, 0)
    assert empty.first_sequence == empty.last_sequence + 1

    messages = [new_message("a", data=b"12345"), new_message(data=None)]
    seqs = await publish(store, *messages)
    await publish(store, messages[0])  # a repeat counts for nothing

    for counted in (store.topic_stats(TOPIC), (await home.crash()).topic_stats(TOPIC)):
        assert counted.message_count == 2
        assert counted.bytes == sum(len(m.attributes) + len(m.data or b"") for m in messages)
        assert [counted.first_sequence, counted.last_sequence] == seqs


async def test_topics_that_nobody_follows_take_messages_too(store: Store) -> None:
    await store.create_topic("bills", {})
    shard = await own(store)

    seqs = await publish(store, new_message(), topic="bills")

    assert seqs_of(await read_all(store, "bills")) == seqs
    assert await shard.fetch(5) in ([], ())
