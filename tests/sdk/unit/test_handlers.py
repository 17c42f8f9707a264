"""Which handlers there are, and what subscriptions they make."""

from __future__ import annotations

from typing import Any

import pytest

from broker_client import Event
from broker_client.handlers import Handlers, Registration


def handler(event: Event, session: Any) -> None:
    """Do nothing."""


def another(event: Event, session: Any) -> None:
    """Do nothing either."""


def registration(
    topic: str = "order",
    subscription: str | None = None,
    types: frozenset[str] | None = None,
    run: Any = handler,
    **fields: Any,
) -> Registration:
    return Registration(topic, subscription, types, fields, run)


def handlers(*registrations: Registration) -> Handlers:
    made = Handlers()
    for each in registrations:
        made.add(each)
    return made


def test_a_subscription_has_the_subscribers_name_unless_told() -> None:
    made = handlers(registration("order"), registration("order", "audit"), registration("shipment"))

    assert list(made.subscriptions("shop")) == [
        ("order", "shop"),
        ("order", "audit"),
        ("shipment", "shop"),
    ]


def test_fields_of_handlers_add_up() -> None:
    made = handlers(registration(max_in_flight=1), registration(timeout_s=5))

    assert made.subscriptions("shop") == {("order", "shop"): {"max_in_flight": 1, "timeout_s": 5}}


def test_fields_that_contradict_each_other_are_refused() -> None:
    made = handlers(registration(timeout_s=1), registration(topic="other", timeout_s=2))

    with pytest.raises(ValueError, match="timeout_s"):
        made.add(registration(timeout_s=2))


@pytest.mark.parametrize(
    "wrong", [{"topic": "a/b"}, {"subscription": ""}, {"secret": "whsec_AAAA"}]
)
def test_what_cannot_be_registered_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"name|BROKER_WEBHOOK_SECRET"):
        Handlers().add(registration(**wrong))


def test_later_and_batches_exclude_each_other() -> None:
    made = handlers(registration(allow_later=True), registration("other", format="batch"))

    with pytest.raises(ValueError, match="allow_later"):
        made.add(registration(format="batch"))
    with pytest.raises(ValueError, match="allow_later"):
        made.add(registration("third", format="batch", allow_later=True))
    made.add(registration(format="structured"))


def test_handlers_are_chosen_by_topic_subscription_and_type() -> None:
    shipped = frozenset({"shipped"})
    made = handlers(
        registration(),
        registration(types=shipped, run=another),
        registration(subscription="audit", run=another),
        registration(topic="other", run=another),
    )

    def found(subscription: str, type: str) -> list[Any]:
        event = Event(type=type, source="/s")
        return list(made.matching("order", subscription, event, "shop"))

    assert found("shop", "shipped") == [handler, another]
    assert found("shop", "returned") == [handler]
    assert found("audit", "returned") == [another]
    assert found("unknown", "returned") == []


@pytest.mark.parametrize(
    ("named", "found"), [("shop", "shop"), ("audit", "audit"), ("other", None), (None, None)]
)
def test_one_of_several_subscriptions_is_found_by_its_name(
    named: str | None, found: str | None
) -> None:
    made = handlers(registration(), registration(subscription="audit"))

    assert made.find_subscription("order", named, "shop") == found


@pytest.mark.parametrize("named", ["shop", "renamed", None])
def test_the_only_subscription_is_found_whatever_the_name(named: str | None) -> None:
    assert handlers(registration()).find_subscription("order", named, "shop") == "shop"


def test_an_unknown_topic_has_no_subscription() -> None:
    assert handlers(registration()).find_subscription("other", "shop", "shop") is None
