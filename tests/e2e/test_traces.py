"""One order, one trace: through the broker and all three services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from e2e.process_stack import ProcessStack
from e2e.shop import Shop
from support.collector import Collector, Span, collecting
from support.eventually import eventually


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Where all four processes send their spans."""
    with collecting() as running:
        yield running


@pytest.fixture
def shop(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop of the test's own."""
    stack = ProcessStack(tmp_path_factory.mktemp("traced"))
    stack.environment |= collector.settings
    with closing(stack):
        stack.start()
        with closing(Shop(stack)) as opened:
            yield opened


def test_order_is_one_trace_from_its_maker_to_the_last_who_hears_of_it(
    shop: Shop, collector: Collector
) -> None:
    order = shop.place()
    shop.await_story(order["id"])

    def path() -> list[Span]:
        """Follow the order to what it caused, each span the parent of the next."""
        (made,) = collector.spans("create order")
        (shipping,) = children(made, "deliver order/shipping-service")
        (shipped,) = children(shipping, "process order/shipping-service")
        (shipment,) = children(shipped, "create shipment")
        (telling,) = children(shipment, "deliver shipment/notification-service")
        (told,) = children(telling, "process shipment/notification-service")
        return [made, shipping, shipped, shipment, telling, told]

    def children(parent: Span, name: str) -> list[Span]:
        found = [span for span in collector.spans(name) if span.parent == parent.id]
        assert found, f"{name} below {parent.name}"
        return found

    spans = eventually(path)

    assert {span.trace for span in spans} == {spans[0].trace}
    assert [span.service for span in spans] == [
        *("order-service", "broker", "shipping-service"),
        *("shipping-service", "broker", "notification-service"),
    ]
    assert [span.kind for span in spans] == [4, 3, 5, 4, 3, 5]
    assert [span.failed for span in spans] == [None] * 6
    # The other consumer of the order hangs below the same maker, and so do the publishes.
    made, shipment = spans[0], spans[3]
    (other,) = children(made, "deliver order/notification-service")
    (heard,) = children(other, "process order/notification-service")
    assert heard.attributes["broker.outcome"] == "processed"
    assert len(children(made, "publish order")) == 1
    assert len(children(shipment, "publish shipment")) == 1
    assert not any("tea pot" in span.text for span in collector.spans())
