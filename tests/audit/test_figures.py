"""The count: it sees every kind of fault, or a clean audit says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from audit.figures import (
    COUNTS,
    Figures,
    of_log,
    of_services,
    of_subscription,
    out_of_order,
    together,
)
from audit.ledger import Arrival
from audit.publisher import Receipt
from audit.subscriptions import AUDITED, Audited
from e2e.census import Census

IDS = ("a", "b", "c")
BY_KEY, BY_TOPIC, BATCHED = AUDITED["by-key"], AUDITED["by-topic"], AUDITED["batched"]
AT_MOST_ONCE, EXACTLY_ONCE = AUDITED["at-most-once"], AUDITED["exactly-once"]


def arrival(
    sequence: int,
    *,
    key: str | None = "k",
    request: int = 0,
    took: bool = True,
    acknowledged: bool | None = None,
) -> Arrival:
    """Make the arrival of message 1 (`a`), 2 (`b`) or 3 (`c`), in a request of its own."""
    id = IDS[sequence - 1]
    acked = took if acknowledged is None else acknowledged
    return Arrival(request or next(_requests), "t", "s", id, key, sequence, 1, took, acked)


_requests = iter(range(1000, 10**9))


def arrivals(*sequences: int) -> list[Arrival]:
    """Make arrivals that all take effect."""
    return [arrival(sequence) for sequence in sequences]


def wrong(figures: Figures) -> dict[str, int]:
    """Give the counts that are not 0."""
    return {name: getattr(figures, name) for name in COUNTS if getattr(figures, name)}


# -- the log


def receipts(*pairs: tuple[str, int | None]) -> list[Receipt]:
    """Make receipts, all of one key."""
    return [Receipt(id, "k", False, sequence) for id, sequence in pairs]


ANSWERED = receipts(("a", 1), ("b", 2))


def test_log_that_holds_all_is_right() -> None:
    found = of_log(ANSWERED, [(1, "a"), (2, "b")])

    assert (found.expected, found.came, wrong(found), found.kept) == (2, 2, {}, True)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ([(1, "a")], {"lost": 1}),
        ([(1, "a"), (3, "b")], {"lost": 1}),
        ([(1, "a"), (2, "b"), (3, "b")], {"lost": 1, "doubled": 1}),
        ([(1, "a"), (2, "b"), (3, "x")], {"unknown": 1}),
    ],
    ids=["lost", "moved", "doubled", "unknown"],
)
def test_log_that_is_wrong_is_seen(
    log: Sequence[tuple[int, str]], expected: Mapping[str, int]
) -> None:
    found = of_log(ANSWERED, log)

    assert wrong(found) == expected
    assert not found.kept


def test_log_out_of_a_publishers_order_is_seen() -> None:
    assert wrong(of_log(receipts(("a", 2), ("b", 1)), [(1, "b"), (2, "a")])) == {"reordered": 1}


def test_delayed_message_has_no_place_to_keep() -> None:
    answered = [replace(ANSWERED[0], delayed=True, sequence=None), ANSWERED[1]]

    assert wrong(of_log(answered, [(2, "b"), (3, "a")])) == {}


# -- several topics


def test_what_is_wrong_in_one_topic_is_wrong_in_all() -> None:
    right = Figures("by-key", "at-least-once", 3, 3, again=1, allowed=frozenset({"again"}))
    bad = replace(right, expected=5, came=4, lost=1, again=2, examples=["lost: x"])
    found = together([right, bad, right])

    assert (found.name, found.expected, found.came) == ("by-key", 11, 10)
    assert (wrong(found), found.kept) == ({"lost": 1, "again": 4}, False)
    assert found.examples == ["lost: x"]
    assert together([right, right]).kept


# -- a subscription


@pytest.mark.parametrize("audited", [BY_KEY, BY_TOPIC, BATCHED, AT_MOST_ONCE, EXACTLY_ONCE])
def test_everything_once_in_order_is_right(audited: Audited) -> None:
    effects = IDS if audited is EXACTLY_ONCE else ()
    found = of_subscription(audited, IDS, arrivals(1, 2, 3), effects)

    assert (found.expected, found.came, wrong(found), found.kept) == (3, 3, {}, True)


def test_lost_message_is_seen() -> None:
    found = of_subscription(BY_KEY, IDS, arrivals(1, 3), ())

    assert (wrong(found), found.kept) == ({"lost": 1}, False)


def test_message_that_came_and_never_took_effect_is_lost() -> None:
    found = of_subscription(BY_KEY, IDS, [*arrivals(1, 2), arrival(3, took=False)], ())

    assert wrong(found) == {"lost": 1}


def test_repeat_is_allowed_at_least_once() -> None:
    found = of_subscription(BY_KEY, IDS, arrivals(1, 2, 2, 3), ())

    assert (wrong(found), found.kept) == ({"again": 1}, True)


def test_repeat_is_a_fault_at_most_once_even_where_it_took_no_effect() -> None:
    came = [arrival(1), arrival(2, took=False), arrival(2, took=False), arrival(3)]
    found = of_subscription(AT_MOST_ONCE, IDS, came, ())

    assert (wrong(found), found.kept) == ({"again": 1}, False)


def test_loss_is_allowed_at_most_once() -> None:
    found = of_subscription(AT_MOST_ONCE, IDS, arrivals(1, 3), ())

    assert (wrong(found), found.kept) == ({"lost": 1}, True)


@pytest.mark.parametrize(
    ("effects", "expected"), [(("a", "b", "c", "c"), {"doubled": 1}), (("a", "b"), {"lost": 1})]
)
def test_effects_are_counted_exactly_once(
    effects: Sequence[str], expected: Mapping[str, int]
) -> None:
    found = of_subscription(EXACTLY_ONCE, IDS, arrivals(1, 2, 3), effects)

    assert (wrong(found), found.kept) == (expected, False)


def test_message_nobody_published_is_seen() -> None:
    found = of_subscription(BY_KEY, IDS[:2], arrivals(1, 2, 3), ())

    assert (wrong(found), found.kept) == ({"unknown": 1}, False)


# -- order


def test_later_one_before_an_earlier_one_is_out_of_order() -> None:
    assert out_of_order(BY_KEY, arrivals(2, 1, 3)) == ["b"]


def test_later_one_before_the_earlier_is_acknowledged_is_out_of_order() -> None:
    refused = arrival(1, took=False)

    assert out_of_order(BY_KEY, [refused, *arrivals(2, 1, 3)]) == ["b"]


def test_at_most_once_coming_settles() -> None:
    assert out_of_order(AT_MOST_ONCE, [arrival(1, took=False), *arrivals(2, 3)]) == []


def test_late_repeats_are_not_out_of_order() -> None:
    assert out_of_order(BY_KEY, arrivals(1, 2, 1, 3, 2)) == []


def test_other_keys_have_an_order_of_their_own() -> None:
    came = [arrival(2, key="other"), arrival(1)]

    assert out_of_order(BY_KEY, came) == []
    assert out_of_order(BY_TOPIC, came) == ["b"]


def test_messages_without_a_key_have_no_order_by_key() -> None:
    came = [arrival(2, key=None), arrival(1, key=None)]

    assert out_of_order(BY_KEY, came) == []
    assert out_of_order(BY_TOPIC, came) == ["b"]


def test_batch_brings_a_key_in_its_order() -> None:
    together = [arrival(sequence, request=7) for sequence in (1, 2, 3)]

    assert out_of_order(BATCHED, together) == []
    assert out_of_order(BATCHED, together[::-1]) == ["b", "c"]


def test_batch_that_goes_on_behind_a_refused_one_took_it_out_of_order() -> None:
    came = [arrival(1, request=7, took=False), arrival(2, request=7), arrival(1)]

    assert out_of_order(BATCHED, came) == ["b"]


def test_batch_without_an_unsettled_earlier_one_is_out_of_order() -> None:
    refused = [arrival(sequence, request=7, took=False) for sequence in (1, 2)]

    assert out_of_order(BATCHED, [*refused, *arrivals(1, 2)]) == []
    assert out_of_order(BATCHED, [refused[0], *arrivals(2, 1)]) == ["b"]


# -- the services

NEWS = ("order.created", "shipment.registered", "shipment.shipped", "shipment.delivered")
TOLD = Census(("o",), (("o", "DELIVERED"),), tuple(("o", kind) for kind in NEWS))


def test_story_told_to_its_end_is_right() -> None:
    found = of_services(["o"], TOLD)

    assert [(each.expected, each.came, wrong(each)) for each in found] == [
        (1, 1, {}),
        (1, 1, {}),
        (4, 4, {}),
    ]


@pytest.mark.parametrize(
    ("answered", "census", "expected"),
    [
        (["o", "p"], TOLD, [{"lost": 1}, {}, {}]),
        (["o"], replace(TOLD, orders=("o", "o")), [{"doubled": 1}, {}, {}]),
        (["o"], replace(TOLD, shipments=TOLD.shipments * 2), [{}, {"doubled": 1}, {}]),
        (["o"], replace(TOLD, orders=("o", "p")), [{}, {"lost": 1}, {}]),
        (["o"], replace(TOLD, news=TOLD.news[:3]), [{}, {}, {"lost": 1}]),
        (["o"], replace(TOLD, news=(*TOLD.news, TOLD.news[3])), [{}, {}, {"doubled": 1}]),
        (["o"], replace(TOLD, news=TOLD.news[::-1]), [{}, {}, {"reordered": 1}]),
        (["o"], replace(TOLD, news=(*TOLD.news, ("p", "x"))), [{}, {}, {"unknown": 1}]),
    ],
)
def test_story_that_is_wrong_is_seen(
    answered: Sequence[str], census: Census, expected: Sequence[Mapping[str, int]]
) -> None:
    assert [wrong(each) for each in of_services(answered, census)] == expected
