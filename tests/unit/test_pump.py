"""The pump: what it sends when, what it writes, and how it goes on after anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.dispatch.endpoint import endpoint_of
from broker.dispatch.pump import SLOW_S
from broker.signing import key_of
from broker.subscription import OldSecret, RetryPolicy
from support.signature import new_secret
from unit.pump_world import NAME, SUBSCRIPTION, TOPIC, PumpWorld, with_fields

pytestmark = pytest.mark.anyio


# -- sending -------------------------------------------------------------------------------------


async def test_message_is_sent_at_once_and_settled_by_a_2xx(world: PumpWorld) -> None:
    (seq,) = await world.publish("a")
    await world.settle()
    assert world.out() == [(seq,)]
    await world.answer(seq)
    stats = await world.stats()
    assert (stats.position, stats.backlog, stats.rows) == (seq, 0, {})


async def test_key_has_one_message_out_and_other_keys_go_on(world: PumpWorld) -> None:
    await world.publish("a", "a", "b", None, None)
    await world.settle()
    assert world.out() == [(1,), (3,), (4,), (5,)]
    await world.answer(1)
    assert world.out() == [(3,), (4,), (5,), (2,)]


@with_fields(ordering="none")
async def test_without_order_everything_goes_at_once(world: PumpWorld) -> None:
    await world.publish("a", "a", None)
    await world.settle()
    assert world.out() == [(1,), (2,), (3,)]


@with_fields(ordering="topic")
async def test_ordered_topic_has_one_message_out(world: PumpWorld) -> None:
    await world.publish("a", "b", None)
    await world.settle()
    assert world.out() == [(1,)]
    await world.answer(1)
    assert world.out() == [(2,)]


@with_fields(max_in_flight=2)
async def test_no_more_requests_are_out_than_allowed(world: PumpWorld) -> None:
    await world.publish("a", "b", "c", "d")
    await world.settle()
    assert world.out() == [(1,), (2,)]
    await world.configure(max_in_flight=3)
    assert world.out() == [(1,), (2,), (3,)]


@with_fields(format="batch", max_batch=3)
async def test_batch_takes_later_messages_of_a_key_behind_its_first(world: PumpWorld) -> None:
    await world.publish("a", "b", "a", "a", "b", "a")
    await world.settle()
    assert world.out() == [(1, 3, 4), (2, 5)]
    await world.answer(1)
    assert world.out() == [(2, 5), (6,)]


@pytest.mark.parametrize(
    "changes",
    [{"paused": True}, {"endpoint": None}],
    ids=["paused", "without an endpoint"],
)
async def test_nothing_is_sent_until_it_may_be(world: PumpWorld, changes: dict[str, Any]) -> None:
    await world.configure(**changes)
    await world.publish("a", "b")
    await world.settle()
    assert world.out() == []
    await world.configure(paused=False, endpoint=SUBSCRIPTION.endpoint)
    assert world.out() == [(1,), (2,)]


async def test_draining_pump_sends_nothing_more_and_settles_what_is_out(world: PumpWorld) -> None:
    await world.publish("a", "a")
    await world.settle()
    world.pump.drain()
    await world.publish("b")
    await world.answer(1)
    assert world.out() == []
    assert world.pump.in_flight() == 0
    assert (await world.stats()).position == 1


@with_fields(endpoint=None)
async def test_subscription_that_is_pulled_from_does_not_look_out_for_a_courier(
    world: PumpWorld,
) -> None:
    world.courier.up = False
    await world.settle()
    assert world.pump._until_next() is None


async def test_what_came_while_the_courier_was_gone_is_sent_when_another_is_there(
    world: PumpWorld,
) -> None:
    world.courier.up = False
    await world.publish("a")
    await world.settle()
    assert world.out() == []
    world.courier.up = True
    await world.poll()
    assert world.out() == [(1,)]


async def test_pump_ends_when_the_subscription_is_dropped(world: PumpWorld) -> None:
    await world.publish("a")
    await world.settle()
    await world.store.drop_subscription(TOPIC, NAME)
    await world.ended()
    assert world.courier.endpoint is None
    world.end(1)  # an answer that comes too late meets no trouble


# -- failing -------------------------------------------------------------------------------------


async def test_failed_attempt_is_repeated_when_it_is_due(world: PumpWorld) -> None:
    await world.publish("a")
    await world.settle()
    for attempt, wait_s in ((1, 10), (2, 20), (3, 40)):
        assert [request.attempt for request in world.courier.out.values()] == [attempt]
        await world.answer(1, 500)
        await world.wait(wait_s - 1)
        assert world.out() == []
        await world.wait(1)
    assert (await world.stats()).rows == {"retry": 1}
    await world.answer(1)
    assert (await world.stats()).rows == {}


async def test_failing_key_holds_back_only_itself(world: PumpWorld) -> None:
    await world.publish("a", "a", "b", "a")
    await world.settle()
    await world.answer(1, 500)
    await world.answer(3)
    assert world.out() == []
    stats = await world.stats()
    assert (stats.position, stats.rows, stats.blocked_keys) == (4, {"retry": 1, "held": 2}, 1)
    assert await world.drain() == [1, 2, 4]


async def test_held_messages_are_read_a_page_at_a_time(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.dispatch.intake.PAGE", 3)
    await world.publish("a")
    await world.settle()
    await world.answer(1, 500)
    await world.publish(*"a" * 10)
    assert await world.drain() == list(range(1, 12))
    assert (await world.stats()).rows == {}


@with_fields(ordering="topic")
async def test_failing_message_holds_back_an_ordered_topic(world: PumpWorld) -> None:
    """What waits is left in the log, but for what had been read for the next request."""
    await world.publish("a", "b", "c", "d")
    await world.settle()
    await world.answer(1, 500)
    assert world.out() == []
    stats = await world.stats()
    assert (stats.position, stats.rows, stats.backlog) == (1, {"retry": 1}, 4)
    await world.wait(10)
    assert world.out() == [(1,)]
    assert await world.drain() == [2, 3, 4]


@with_fields(retry=RetryPolicy(max_attempts=2, min_backoff_s=10))
async def test_last_attempt_that_fails_leaves_a_dead_letter_and_frees_the_key(
    world: PumpWorld,
) -> None:
    await world.publish("a", "a")
    await world.settle()
    await world.answer(1, 500)
    await world.wait(10)
    await world.answer(1, 0)
    assert world.out() == [(2,)]
    await world.answer(2)
    stats = await world.stats()
    assert (stats.position, stats.backlog, stats.rows) == (2, 0, {"dead": 1})
    assert world.pump.last_error == "the endpoint refused the connection"


async def test_permanent_answer_leaves_a_dead_letter_at_once(world: PumpWorld) -> None:
    await world.publish("a", "a")
    await world.settle()
    await world.answer(1, 422)
    assert world.out() == [(2,)]
    assert (await world.stats()).rows == {"dead": 1}


async def test_retry_after_holds_back_everything(world: PumpWorld) -> None:
    await world.publish("a")
    await world.settle()
    await world.answer(1, 503, **{"retry-after": "30"})
    await world.publish("b")
    await world.wait(29)
    assert world.out() == []
    await world.wait(1)
    assert sorted(world.out()) == [(1,), (2,)]


@pytest.mark.parametrize("turns", range(12))
async def test_attempt_that_fails_while_rows_are_written_is_repeated(
    world: PumpWorld, turns: int
) -> None:
    await world.publish("a", "b", "c")
    await world.settle()
    await world.answer(1, 500)
    world.home.clock.now += 10
    world.end(3, 422)  # its row has to be durable before the first one's is read …
    await world.turn(turns)
    world.end(2, 500)  # … and the second one fails in the middle of it
    await world.settle()
    assert await world.drain() in ([1, 2], [2, 1], [2])


# -- batches -------------------------------------------------------------------------------------


@with_fields(format="batch")
async def test_batch_answer_singles_out_positions(world: PumpWorld) -> None:
    await world.publish(None, None, None, None)
    await world.settle()
    await world.answer(1, 200, b'{"retry": [1], "dead_letter": [2]}')
    assert (await world.stats()).rows == {"retry": 1, "dead": 1}
    await world.wait(10)
    assert world.out() == [(2,)]


@with_fields(format="batch")
async def test_key_stops_at_its_first_position_to_be_retried(world: PumpWorld) -> None:
    await world.publish("a", "b", "a", "a", "b")
    await world.settle()
    assert world.out() == [(1, 2, 3, 4, 5)]
    await world.answer(1, 200, b'{"retry": [2]}')
    stats = await world.stats()
    assert (stats.rows, stats.backlog) == ({"retry": 1, "held": 1}, 2)
    await world.publish("a")
    assert await world.drain() == [3, 4, 6]


@with_fields(format="batch", ordering="topic")
async def test_ordered_topic_stops_at_its_first_position_to_be_retried(world: PumpWorld) -> None:
    await world.publish("a", "b", "c")
    await world.settle()
    await world.answer(1, 200, b'{"retry": [1]}')
    assert (await world.stats()).position == 3
    await world.publish("d")
    await world.settle()
    assert world.out() == []
    assert await world.drain() == [2, 3, 4]


@with_fields(format="batch", ordering="topic", max_batch=2)
async def test_ordered_topic_keeps_its_order_when_a_mixed_batch_fails(world: PumpWorld) -> None:
    """The first of a batch may have failed more often than the second, and so wait longer."""
    await world.publish("a", "b", "c", "d")
    await world.settle()
    await world.answer(1, 200, b'{"retry": [1]}')
    await world.wait(10)
    assert world.out() == [(2, 3)]
    await world.answer(2, 500)
    assert await world.drain() == [2, 3, 4]


@with_fields(format="batch", max_batch=4)
async def test_failed_batch_comes_back_as_one(world: PumpWorld) -> None:
    await world.publish(None, None, None)
    await world.settle()
    await world.answer(1, 500)
    await world.wait(10)
    assert world.out() == [(1, 2, 3)]
    assert [request.attempt for request in world.courier.out.values()] == [2]


@with_fields(format="batch", ordering="topic", max_batch=4)
@pytest.mark.parametrize("smaller", [{"max_batch": 1}, {"max_batch": 3}, {"format": "binary"}])
async def test_ordered_topic_keeps_its_order_when_its_batches_get_smaller(
    world: PumpWorld, smaller: dict[str, Any]
) -> None:
    await world.publish(*"abcdefghij")
    await world.settle()
    await world.answer(1, 500)
    await world.configure(**smaller)
    assert await world.drain() == list(range(1, 11))


@with_fields(format="batch")
@pytest.mark.parametrize("smaller", [{"max_batch": 1}, {"max_batch": 2}, {"format": "binary"}])
async def test_key_keeps_its_order_when_its_batches_get_smaller(
    world: PumpWorld, smaller: dict[str, Any]
) -> None:
    await world.publish("a", "a", "a", "b", "a")
    await world.settle()
    assert world.out() == [(1, 2, 3, 4, 5)]
    await world.configure(**smaller)
    world.lose()
    assert [seq for seq in await world.drain() if seq != 4] == [1, 2, 3, 5]


@with_fields(format="batch")
async def test_format_of_a_request_decides_how_its_answer_is_read(world: PumpWorld) -> None:
    await world.publish(None, None)
    await world.settle()
    await world.configure(format="binary")
    await world.answer(1, 200, b'{"retry": [1]}')
    assert (await world.stats()).rows == {"retry": 1}
    assert await world.drain() == [2]


async def test_body_of_an_answer_to_a_single_message_means_nothing(world: PumpWorld) -> None:
    await world.publish("a")
    await world.settle()
    await world.configure(format="batch")
    await world.answer(1, 200, b'{"retry": [0]}')
    assert (await world.stats()).backlog == 0


# -- a courier that ends -------------------------------------------------------------------------


async def test_request_without_an_outcome_is_sent_again_as_the_same_attempt(
    world: PumpWorld,
) -> None:
    await world.publish("a", "a", "b")
    await world.settle()
    world.lose()
    await world.settle()
    assert sorted(world.out()) == [(1,), (3,)]
    assert {request.attempt for request in world.courier.out.values()} == {1}


@with_fields(format="batch", max_batch=2)
async def test_lost_batch_keeps_its_keys_in_order(world: PumpWorld) -> None:
    await world.publish(*"aaaaa")
    await world.settle()
    assert world.out() == [(1, 2)]
    world.lose()
    assert await world.drain() == [1, 2, 3, 4, 5]


@with_fields(format="batch", max_batch=3)
async def test_lost_batches_that_are_cut_anew_do_not_part_a_key(world: PumpWorld) -> None:
    await world.publish("a", "a", "a", "b")
    await world.settle()
    assert world.out() == [(1, 2, 3), (4,)]
    world.lose()
    await world.settle()
    keys = [{world.keys[seq] for seq in seqs} for seqs in world.out()]
    assert sum("a" in each for each in keys) == 1


# -- the window --------------------------------------------------------------------------------


@with_fields(format="batch", ordering="none")
async def test_full_window_that_is_settled_at_once_makes_room(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.store.sqlite.shard.WINDOW", 3)
    await world.publish(*"aaaaa")
    await world.settle()
    assert world.out() == [(1, 2, 3)]
    await world.answer(1)
    assert world.out() == [(4, 5)]


async def test_window_full_of_messages_that_have_rows_makes_room(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash, where a message that is out holds the position back."""
    monkeypatch.setattr("broker.store.sqlite.shard.WINDOW", 4)
    await world.publish("a", "b", "c", "d")
    await world.settle()
    for seq in (2, 3, 4):
        await world.answer(seq, 422)
    await world.publish(*"efg")
    await world.settle()
    for seq in (5, 6, 7):
        await world.answer(seq, 422)
    await world.publish("h")
    await world.crash()
    await world.settle()
    assert world.out() == [(1,), (8,)]


# -- attempts that take long ---------------------------------------------------------------------


async def test_slow_attempt_gets_a_row_so_that_the_position_passes_it(world: PumpWorld) -> None:
    await world.publish("a", "a", "b")
    await world.settle()
    await world.answer(3)
    assert (await world.stats()).position == 0
    await world.wait(SLOW_S)
    stats = await world.stats()
    assert (stats.position, stats.rows) == (3, {"leased": 1, "held": 1})
    await world.answer(1)
    assert world.out() == [(2,)]
    await world.answer(2)
    assert (await world.stats()).rows == {}


async def test_slow_attempt_that_fails_is_repeated(world: PumpWorld) -> None:
    await world.publish("a")
    await world.settle()
    await world.wait(SLOW_S)
    await world.answer(1, 500)
    assert (await world.stats()).rows == {"retry": 1}
    assert await world.drain() == [1]


@with_fields(format="batch")
async def test_those_that_were_slow_and_lost_are_found_again_behind_the_next_slow_one(
    world: PumpWorld,
) -> None:
    await world.publish("a", "a", "a")
    await world.settle()
    await world.wait(SLOW_S)
    assert (await world.stats()).rows == {"leased": 3}
    await world.configure(max_batch=1)
    world.lose()
    await world.settle()
    await world.wait(SLOW_S)
    assert (await world.stats()).rows == {"leased": 1, "held": 2}
    assert world.out() == [(1,)]
    await world.answer(1)
    assert world.out() == [(2,)]
    await world.answer(2)
    assert world.out() == [(3,)]


# -- changes of order ----------------------------------------------------------------------------

ORDERINGS = ["key", "topic", "none"]


@pytest.mark.parametrize("after", ORDERINGS)
@pytest.mark.parametrize(
    ("world", "before"),
    [({"ordering": before, "max_in_flight": 2}, before) for before in ORDERINGS],
    indirect=["world"],
)
@pytest.mark.parametrize("first", ["out", "failed", "acked"])
async def test_change_of_order_loses_nothing_and_stops_nothing(
    world: PumpWorld, before: str, after: str, first: str
) -> None:
    await world.publish(*"aabcab")
    await world.settle()
    if first != "out":
        await world.answer(1, 200 if first == "acked" else 500)
    await world.configure(ordering=after)
    await world.publish(*"abc")
    await world.settle()
    out = {seq for seqs in world.out() for seq in seqs}
    sent = {*await world.drain(), *out, *([1] if first == "acked" else [])}
    assert sent == set(range(1, 10))
    stats = await world.stats()
    assert (stats.position, stats.rows) == (9, {})
    del before


async def test_change_to_one_order_for_all_keeps_what_waits_in_order(world: PumpWorld) -> None:
    await world.publish(*"ab")
    await world.settle()
    await world.answer(1, 500)
    await world.answer(2, 500)
    await world.publish(*"abab")
    await world.settle()
    await world.configure(ordering="topic")
    await world.publish("c")
    assert await world.drain() == [1, 2, 3, 4, 5, 6, 7]


async def test_pump_rests_while_what_is_out_holds_back_the_new_order(world: PumpWorld) -> None:
    """Also where something is due, which is taken under the new order only."""
    await world.publish("a", "b")
    await world.settle()
    await world.answer(1, 500)
    await world.configure(ordering="topic")
    await world.wait(10)
    assert world.out() == [(2,)]
    await world.answer(2)
    assert world.out() == [(1,)]


async def test_what_is_out_ends_before_the_new_order_begins(world: PumpWorld) -> None:
    await world.publish(*"aab")
    await world.settle()
    await world.configure(ordering="none")
    assert world.out() == [(1,), (3,)]
    await world.answer(1)
    await world.answer(3)
    assert world.out() == [(2,)]


# -- after a crash -------------------------------------------------------------------------------


async def test_after_a_crash_what_was_not_settled_is_sent_again(world: PumpWorld) -> None:
    await world.publish(*"abc")
    await world.settle()
    await world.answer(2)
    await world.crash()
    await world.settle()
    assert {1, 3} <= {seq for seqs in world.out() for seq in seqs}


async def test_after_a_crash_a_retry_keeps_its_time_and_its_attempts(world: PumpWorld) -> None:
    await world.publish("a", "a")
    await world.settle()
    await world.answer(1, 500)
    await world.crash()
    await world.wait(9)
    assert world.out() == []
    await world.wait(1)
    assert world.out() == [(1,)]
    assert [request.attempt for request in world.courier.out.values()] == [2]


async def test_after_a_crash_a_slow_attempt_is_made_again_before_what_waits_for_it(
    world: PumpWorld,
) -> None:
    await world.publish("a", "a")
    await world.settle()
    await world.wait(SLOW_S)
    await world.crash()
    await world.settle()
    assert world.out() == [(1,)]
    assert await world.drain() == [2]


async def test_after_a_crash_a_key_that_made_room_keeps_its_order(
    world: PumpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits behind a message in memory may be in the store when the broker ends."""
    monkeypatch.setattr("broker.store.sqlite.shard.WINDOW", 6)
    await world.publish(*"aaaaa", *"bbb")
    await world.settle()
    assert world.out() == [(1,), (6,)]
    await world.crash()
    sent = await world.drain()
    assert [seq for seq in sent if seq <= 5] == [1, 2, 3, 4, 5]


@with_fields(ordering="topic", format="batch", max_batch=4)
async def test_after_a_crash_an_ordered_topic_keeps_its_order(world: PumpWorld) -> None:
    await world.publish(*"abcdef")
    await world.settle()
    await world.answer(1, 500)
    world.subscription = replace(world.subscription, max_batch=2)
    await world.crash()
    await world.settle()
    assert world.out() == []
    assert await world.drain() == [1, 2, 3, 4, 5, 6]


async def test_after_a_crash_dead_letters_stay_dead(world: PumpWorld) -> None:
    await world.publish("a", "a", "b")
    await world.settle()
    await world.answer(1, 422)
    await world.answer(2)
    await world.crash()
    sent = await world.drain()
    assert 1 not in sent
    assert (await world.stats()).rows == {"dead": 1}


# -- the courier's endpoint ----------------------------------------------------------------------


async def test_courier_hears_of_every_change(world: PumpWorld) -> None:
    assert world.courier.endpoint is not None
    assert world.courier.endpoint.url == SUBSCRIPTION.endpoint
    await world.configure(endpoint="http://b.example/", timeout_s=2.5)
    assert (world.courier.endpoint.url, world.courier.endpoint.timeout_ms) == (
        "http://b.example/",
        2500,
    )


def test_endpoint_has_all_keys_that_sign_now_and_complete_headers() -> None:
    subscription = replace(
        SUBSCRIPTION,
        headers={"x-team": "blue", "x-empty": ""},
        old_secrets=(OldSecret(new_secret(2), 50.0), OldSecret(new_secret(3), 10.0)),
    )
    endpoint = endpoint_of(subscription, 7, "msg_", now=20.0)
    assert endpoint.keys == [key_of(new_secret()), key_of(new_secret(2))]
    assert endpoint.old_keys_until == [50.0]
    assert endpoint.headers == [
        f"webhook-subscription: {TOPIC}/{NAME}",
        "x-team: blue",
        "x-empty: ",
    ]


def test_subscription_without_an_endpoint_has_none_for_the_courier() -> None:
    with pytest.raises(ValueError, match="without an endpoint"):
        endpoint_of(replace(SUBSCRIPTION, endpoint=None), 7, "msg_", now=0.0)
