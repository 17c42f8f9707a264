"""How long an id is remembered, in the store itself."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from itertools import count

import pytest

from broker.store.port import IdTaken
from broker.store.sqlite import recent_ids, retention
from unit.sqlite_stores import NOW, TOPIC, WINDOW_S, Stores, message, outcomes

pytestmark = pytest.mark.anyio


async def publish(stores: Stores, id_: str, **fields: str) -> tuple[int | None, bool]:
    """Publish one message; give its sequence and whether it is a repeat."""
    return outcomes(await stores.store.append(TOPIC, [message(id_, **fields)]))[0]


def ids_in_file(stores: Stores) -> int:
    """Count the ids that have a row."""
    with closing(sqlite3.connect(stores.store._path)) as connection:
        ((found,),) = connection.execute("SELECT count(*) FROM publish_key")
    return int(found)


async def set_window(stores: Stores, window_s: float) -> None:
    """Change how long the topic remembers."""
    await stores.store.put_document(f"topic/{TOPIC}", {"dedup_window_s": window_s}, None)


async def test_id_is_remembered_for_the_window_and_no_longer(stores: Stores) -> None:
    assert await publish(stores, "a") == (1, False)
    stores.clock.now = NOW + WINDOW_S - 0.001
    assert await publish(stores, "a") == (1, True)
    stores.clock.now = NOW + WINDOW_S
    assert await publish(stores, "a") == (2, False)


async def test_id_is_forgotten_where_nothing_else_happens(stores: Stores) -> None:
    await publish(stores, "a")
    stores.clock.now = NOW + WINDOW_S
    assert await publish(stores, "a") == (2, False)


async def test_ids_that_expire_during_a_removal_wait_for_the_next(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Falling, so that they are no run.
    await stores.store.append(TOPIC, [message(f"{n}") for n in range(900, 600, -1)])
    stores.clock.now += WINDOW_S / 2
    await stores.store.append(TOPIC, [message(f"{n}") for n in range(10, 0, -1)])
    stores.clock.now = NOW + WINDOW_S
    turns, ended = count(), asyncio.Event()
    turn = retention.Purge.turn

    async def turn_that_takes_long(purge: retention.Purge) -> bool:
        next(turns)
        more = await turn(purge)
        stores.clock.now += WINDOW_S
        if not more:
            ended.set()
        return more

    monkeypatch.setattr(retention, "IDLE_S", 3600.0)
    monkeypatch.setattr(retention.Purge, "turn", turn_that_takes_long)
    await stores.reopen()
    await asyncio.wait_for(ended.wait(), 30)

    assert next(turns) > 300 / retention.BATCH_IDS, "it took more than one batch"
    assert ids_in_file(stores) == 10
    while await turn(stores.store._purge):
        pass
    assert ids_in_file(stores) == 0


async def test_ids_go_beside_whatever_else_there_is_to_remove(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def there_is_more(_: retention.Purge) -> bool:
        return True

    monkeypatch.setattr(retention.Purge, "_purge_subscription", there_is_more)
    for round_ in range(2):
        await publish(stores, f"{round_}")
        await publish(stores, f"{round_}")
        stores.clock.now += WINDOW_S
        for _ in range(4):
            await stores.store._purge.turn()
        assert ids_in_file(stores) == 0


async def test_window_begins_with_the_first_and_a_repeat_does_not_renew_it(stores: Stores) -> None:
    await publish(stores, "a")
    for n in range(1, 5):
        stores.clock.now = NOW + n * WINDOW_S / 5
        assert await publish(stores, "a") == (1, True)
    stores.clock.now = NOW + WINDOW_S
    assert await publish(stores, "a") == (2, False)
    stores.clock.now += WINDOW_S - 1
    assert await publish(stores, "a") == (2, True)


async def test_other_data_is_a_conflict_within_the_window_only(stores: Stores) -> None:
    await stores.store.append(TOPIC, [message("a", data=b"1")])
    other = [message("b"), message("a", data=b"2")]
    with pytest.raises(IdTaken):
        await stores.store.append(TOPIC, other)
    stores.clock.now = NOW + WINDOW_S
    assert outcomes(await stores.store.append(TOPIC, other)) == [(2, False), (3, False)]


async def test_longer_window_counts_for_what_is_still_remembered(stores: Stores) -> None:
    await publish(stores, "a")
    await set_window(stores, 1000)
    stores.clock.now = NOW + 999
    assert await publish(stores, "a") == (1, True)
    stores.clock.now = NOW + 1000
    assert await publish(stores, "a") == (2, False)


async def test_shorter_window_counts_at_once(stores: Stores) -> None:
    await publish(stores, "a")
    stores.clock.now = NOW + 5
    await set_window(stores, 5)
    assert await publish(stores, "a") == (2, False)


async def test_window_survives_a_restart(stores: Stores) -> None:
    await publish(stores, "b")
    await set_window(stores, 10)
    await stores.reopen()
    assert await publish(stores, "b") == (1, True)
    stores.clock.now = NOW + 10
    assert await publish(stores, "b") == (2, False)


async def test_ids_are_remembered_in_any_order(stores: Stores) -> None:
    for id_ in ("m", "z", "a", "q"):
        await publish(stores, id_)
    await stores.reopen()
    assert [(await publish(stores, id_))[0] for id_ in ("q", "a", "z", "m")] == [4, 3, 2, 1]


async def test_source_that_is_out_of_mind_is_looked_up(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_ids, "SOURCES_REMEMBERED", 1)
    for id_ in ("z", "n"):
        await publish(stores, id_)
    # The second source puts the first out of mind while its message is being judged.
    batch = [message("a"), message("x", source="/other")]
    assert outcomes(await stores.store.append(TOPIC, batch)) == [(3, False), (4, False)]
    assert [(await publish(stores, id_))[0] for id_ in ("n", "z", "a")] == [2, 1, 3]


async def test_topic_made_anew_remembers_nothing(stores: Stores) -> None:
    await publish(stores, "a")
    await stores.store.drop_topic(TOPIC)
    await stores.store.create_topic(TOPIC, {})
    assert await publish(stores, "a") == (1, False)


async def test_repeats_at_the_same_moment_are_one_message(stores: Stores) -> None:
    told = await asyncio.gather(*(publish(stores, "a") for _ in range(20)))
    assert sorted(told) == [(1, False), *[(1, True)] * 19]
