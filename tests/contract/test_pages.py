"""How much of large messages a shard reads at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest

from broker.model import Message, RowState, size_of
from broker.store.port import PAGE_BYTES, Changes, Due, Shard, Store
from contract.homes import Home
from contract.messages import fetch_all, new_message, own, publish, put, read_all, row

pytestmark = pytest.mark.anyio
HALF = b"x" * (PAGE_BYTES // 2)  # with its attributes, two of them are more than a page
NONE = frozenset[int]()


@pytest.fixture
async def shard(store: Store) -> Shard:
    return await own(store)


async def publish_large(store: Store, count: int, data: bytes = HALF) -> list[int]:
    return await publish(store, *[new_message(key="a", data=data) for _ in range(count)])


async def fetch_pages(shard: Shard) -> list[list[int]]:
    """Fetch to the end; return the seqs of each page."""
    pages: list[list[int]] = []
    while (page := await shard.fetch(100)) or shard.behind():
        if page:
            pages.append([message.seq for message in page])
    return pages


@pytest.mark.parametrize("reopened", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("wants", [None, lambda _: True], ids=["all", "selected"])
async def test_page_of_new_messages_ends_when_it_has_its_bytes(
    home: Home,
    store: Store,
    shard: Shard,
    reopened: bool,
    wants: Callable[[bytes], bool] | None,
) -> None:
    await publish_large(store, 5)
    if reopened:
        shard = await own(await home.reopen())
    shard.select(wants)

    assert await fetch_pages(shard) == [[1, 2], [3, 4], [5]]


async def test_page_may_be_one_message_that_has_more(store: Store, shard: Shard) -> None:
    await publish_large(store, 2, HALF * 3)

    assert await fetch_pages(shard) == [[1], [2]]


async def test_page_that_ends_early_skips_nothing_behind_rows(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_large(store, 5)
    await fetch_all(shard)
    await put(shard, row(4, "dead"))

    shard = await own(await home.crash())

    assert await fetch_pages(shard) == [[1, 2], [3], [5]]


async def test_outstanding_bytes_are_those_of_what_is_neither_done_nor_put(
    store: Store, shard: Shard
) -> None:
    await publish(store, *[new_message(data=b"x" * size) for size in (1, 10, 100)])
    await publish(store, new_message(data=None))
    sizes = [size_of(message) for message in await read_all(store)]
    assert shard.outstanding_bytes() == 0

    await fetch_all(shard)
    assert shard.outstanding_bytes() == sum(sizes)
    await shard.commit(Changes(put=[row(2, "retry")], done=[1]), soon=True)
    assert shard.outstanding_bytes() == sizes[2] + sizes[3]
    await shard.commit(Changes(put=[row(2, "dead")], done=[1]), soon=True)
    assert shard.outstanding_bytes() == sizes[2] + sizes[3]

    await shard.seek(0)
    assert shard.outstanding_bytes() == 0


Read = Callable[[Shard], Awaitable[Sequence[Due]]]


@pytest.mark.parametrize(
    ("state", "read"),
    [
        ("retry", lambda shard: shard.due(1.0, 100, NONE)),
        ("held", lambda shard: shard.held("a", 0, 100)),
        ("blocked", lambda shard: shard.owed(100, NONE)),
    ],
    ids=["due", "held", "owed"],
)
async def test_page_of_rows_ends_when_it_has_its_bytes(
    store: Store, shard: Shard, state: RowState, read: Read
) -> None:
    seqs = await publish_large(store, 3)
    await fetch_pages(shard)
    await put(shard, *[row(seq, state, "a") for seq in seqs])

    assert [due.row.seq for due in await read(shard)] == [1, 2]
    await shard.commit(Changes(drop=[1]), soon=True)
    assert [due.row.seq for due in await read(shard)] == [2, 3]


async def test_page_of_owed_rows_goes_through_all_states(store: Store, shard: Shard) -> None:
    states: list[RowState] = ["blocked", "retry", "leased", "retry", "blocked"]
    seqs = await publish_large(store, len(states))
    await fetch_pages(shard)
    await put(shard, *[row(seq, state) for seq, state in zip(seqs, states, strict=True)])

    assert [due.row.seq for due in await shard.owed(100, NONE)] == [1, 2]
    assert [due.row.seq for due in await shard.owed(100, frozenset({1, 2}))] == [3, 4]
    assert [due.row.seq for due in await shard.owed(1, frozenset({2, 1, 4}))] == [3]


async def test_what_is_given_up_may_have_any_number_of_bytes(
    home: Home, store: Store, shard: Shard
) -> None:
    await publish_large(store, 5)
    shard = await own(await home.reopen())
    shard.select(lambda _: True)

    assert await shard.give_up(5, 1e12, NONE, "too_old", 100, 0.0) == (4, [])

    dead: list[Message] = [due.message for seq in range(1, 6) if (due := await shard.row(seq))]
    assert [message.seq for message in dead] == [1, 2, 3, 4]
