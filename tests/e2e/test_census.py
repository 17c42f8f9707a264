"""The count itself: it must see every kind of loss, or the tests that use it prove nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e2e.census import Census

SHIPMENT = ("shipment.registered", "shipment.shipped", "shipment.delivered")
RIGHT = Census(
    orders=("a", "b"),
    shipments=(("a", "DELIVERED"), ("b", "RETURNED")),
    news=(
        ("a", "order.created"),
        *(("a", kind) for kind in SHIPMENT),
        *(("b", kind) for kind in (*SHIPMENT[:2], "shipment.returned")),
        ("b", "order.created"),  # another topic, so it may come at any time
    ),
)


def test_census_finds_nothing_where_all_is_well() -> None:
    assert RIGHT.faults(answered=["a", "b"]) == []


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(replace(RIGHT, orders=("a",)), id="order lost"),
        pytest.param(replace(RIGHT, orders=("a", "b", "b")), id="order twice"),
        pytest.param(replace(RIGHT, shipments=RIGHT.shipments[:1]), id="shipment lost"),
        pytest.param(
            replace(RIGHT, shipments=(*RIGHT.shipments, ("b", "RETURNED"))), id="shipment twice"
        ),
        pytest.param(
            replace(RIGHT, shipments=(*RIGHT.shipments, ("c", "DELIVERED"))), id="strange shipment"
        ),
        pytest.param(
            replace(RIGHT, shipments=(("a", "SHIPPED"), ("b", "RETURNED"))), id="not arrived"
        ),
        pytest.param(
            replace(RIGHT, shipments=(("a", "RETURNED"), ("b", "RETURNED"))), id="told otherwise"
        ),
        pytest.param(replace(RIGHT, news=RIGHT.news[1:]), id="order untold"),
        pytest.param(replace(RIGHT, news=RIGHT.news[:6] + RIGHT.news[7:]), id="arrival untold"),
        pytest.param(replace(RIGHT, news=(*RIGHT.news, RIGHT.news[2])), id="told twice"),
        pytest.param(
            replace(RIGHT, news=(RIGHT.news[2], RIGHT.news[1], *RIGHT.news[3:], RIGHT.news[0])),
            id="out of order",
        ),
        pytest.param(replace(RIGHT, news=(*RIGHT.news, ("c", "order.created"))), id="strange news"),
    ],
)
def test_census_finds_what_is_wrong(wrong: Census) -> None:
    assert wrong.faults(answered=["a", "b"])
