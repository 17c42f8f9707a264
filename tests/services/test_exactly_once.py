"""Broker and shipping service as processes: each order is shipped once, whoever is killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Lock

import httpx
import pytest

from services.gunicorn_process import GunicornProcess
from services.signed import order_data
from support.broker_process import BrokerProcess
from support.endpoint import Answer, Endpoint, Received
from support.eventually import eventually

ORDERS = [f"o-{number:03}" for number in range(160)]
NAME = "shipping-service"
RETRY = {"max_attempts": 0, "min_backoff_s": 0.05, "max_backoff_s": 0.5}
HOP_BY_HOP = frozenset({"host", "connection", "content-length", "transfer-encoding"})


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    """Run the broker itself."""
    with closing(BrokerProcess(tmp_path)) as process:
        yield process.start()


class LossyPath:
    """What lies between broker and service: the first receipt of every seventh message is lost."""

    def __init__(self, service_url: str) -> None:
        self.receipts: list[tuple[int, str]] = []
        self._service_url = service_url
        self._http = httpx.Client(trust_env=False, timeout=30)
        self._lock = Lock()

    def __call__(self, request: Received) -> Answer:
        """Pass a request on."""
        headers = {k: v for k, v in request.headers.items() if k not in HOP_BY_HOP}
        url = self._service_url + request.path
        try:
            answer = self._http.post(url, content=request.body, headers=headers)
        except httpx.TransportError:
            return Answer(hang_up=True)

        receipt = answer.headers.get("webhook-receipt")
        if receipt is not None:
            with self._lock:
                self.receipts.append((request.sequence, receipt))
        if receipt == "processed" and request.sequence % 7 == 0:
            return Answer(hang_up=True)
        passed = {k: v for k, v in answer.headers.items() if k not in HOP_BY_HOP}
        return Answer(answer.status_code, passed, answer.content)

    def wait_for(self, count: int) -> None:
        """Wait until the service has given so many receipts."""
        eventually(lambda: len(self.receipts) >= count, within_s=60)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()


def test_effects_happen_once_though_the_service_is_killed_in_a_burst(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    entrance = Endpoint()
    service = GunicornProcess(
        "shipping_service",
        tmp_path,
        BROKER_URL=broker.base_url,
        BROKER_WEBHOOK_URL=f"http://127.0.0.1:{entrance.port}",
        SHIPPING_STEP_S="3600",
        WEB_CONCURRENCY="2",
    )
    with closing(service), closing(LossyPath(service.url)) as path, entrance:
        entrance.script = path
        service.start()
        broker.api.put_subscription("order", NAME, retry=RETRY)
        broker.api.publish_batch("order", [_order_created(order_id) for order_id in ORDERS])

        for wanted in (30, 90):
            path.wait_for(wanted)
            service.kill()
            service.start()
        eventually(lambda: broker.api.ok_status("order", NAME)["backlog"] == 0, within_s=60)
        told = eventually(lambda: _told(broker), within_s=60)
        shipped = httpx.get(f"{service.url}/shipments?limit=1000", trust_env=False).json()

    assert [each["order_id"] for each in shipped["shipments"]] == ORDERS
    assert sorted(told) == ORDERS
    kinds = Counter(kind for _, kind in path.receipts)
    assert kinds["duplicate"] >= len(ORDERS) // 7, "nothing came twice: nothing was proved"
    processed = [sequence for sequence, kind in path.receipts if kind == "processed"]
    assert len(set(processed)) == len(processed)
    status = broker.api.ok_status("order", NAME)
    assert (status["guarantee"], status["dead_letters"]) == ("exactly-once", 0)


def _order_created(order_id: str) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": f"event-{order_id}",
        "source": "/order-service",
        "type": "order.created",
        "partitionkey": order_id,
        "datacontenttype": "application/json",
        "data": order_data(order_id),
    }


def _told(broker: BrokerProcess) -> list[str] | None:
    """Give the orders that topic `shipment` tells of, once they are as many as were placed."""
    told = [message["subject"] for message in broker.api.all_messages("shipment")]
    return told if len(told) >= len(ORDERS) else None
