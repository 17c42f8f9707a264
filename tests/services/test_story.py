"""What is told about an event."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from broker_client import Event
from notification_service.story import News, order_news, shipment_news
from services.signed import order_data


def event(kind: str, data: Any) -> Event:
    return Event(type=kind, source="/test", data=data)


@pytest.mark.parametrize(
    ("total", "told"), [(25.8, "25.80"), (7, "7.00"), ("0.1", "0.10"), (1e12, "1000000000000.00")]
)
def test_order_is_told_with_customer_item_and_total(total: object, told: str) -> None:
    news = order_news(event("order.created", order_data("o-1", total=total)))

    text = f'Order o-1 from customer c-17: 2 × "blue mug" for {told} — thank you!'  # noqa: RUF001
    assert news == News("o-1", text)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("shipment.registered", "is being packed"),
        ("shipment.shipped", "has shipped"),
        ("shipment.delivered", "has been delivered"),
        ("shipment.returned", "is on its way back"),
    ],
)
def test_shipment_is_told_by_what_happened_to_it(kind: str, told: str) -> None:
    news = shipment_news(event(kind, {"order_id": "o-1"}))

    assert news.order_id == "o-1"
    assert news.text.startswith("Order o-1 ")
    assert told in news.text


@pytest.mark.parametrize(
    "data", [None, "o-1", {}, order_data(item_id="two\nlines"), order_data(total="much")]
)
def test_event_that_says_too_little_tells_nothing(data: object) -> None:
    with pytest.raises(ValidationError):
        order_news(event("order.created", data))
