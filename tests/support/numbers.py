"""Numbers, published one after the other under a key, and what has come of them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

import httpx

from support.broker_process import BrokerProcess
from support.endpoint import Endpoint
from support.eventually import eventually

TAKEN_OVER_S = 30.0


class Publisher:
    """Publishes numbers under a key, one after the other, and repeats what is not answered 201."""

    def __init__(self, nodes: Sequence[BrokerProcess], topic: str) -> None:
        self.acknowledged: list[int] = []
        self.refused: list[str] = []
        self._nodes = itertools.cycle(nodes)
        self._topic = topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=40) as client:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                while not self._publish(client, number) and not self._stop.is_set():
                    self._stop.wait(0.05)

    def _publish(self, client: httpx.Client, number: int) -> bool:
        node = next(self._nodes)
        try:
            answer = client.post(
                f"{node.base_url}/v1/topics/{self._topic}/messages",
                json=number,
                headers={"ce-id": f"n-{number}", "ce-source": "/p", "ce-partitionkey": "k"},
            )
        except httpx.TransportError:
            return False
        assert answer.status_code in (201, 503), answer.text
        if answer.status_code != 201:
            self.refused.append(answer.text)
            return False
        self.acknowledged.append(number)
        return True


def numbers_of(endpoint: Endpoint, path: str | None = None) -> list[int]:
    """Return what an endpoint has got, repeats left out, in the order of the first deliveries.

    With a path it is what came there.
    """
    requests = [each for each in list(endpoint.requests) if path in (None, each.path)]
    return list(dict.fromkeys(int(request.body) for request in requests))


def assert_all_came_in_order(
    endpoint: Endpoint, publisher: Publisher, path: str | None = None
) -> None:
    """Check that nothing acknowledged is missing, and that first deliveries came in order."""
    eventually(
        lambda: set(publisher.acknowledged) <= set(numbers_of(endpoint, path)),
        within_s=TAKEN_OVER_S,
    )
    numbers = numbers_of(endpoint, path)
    assert numbers == sorted(numbers)


def wait_for(publisher: Publisher, more: int) -> None:
    """Wait until some more have been acknowledged."""
    reached = len(publisher.acknowledged) + more
    eventually(lambda: len(publisher.acknowledged) >= reached, within_s=TAKEN_OVER_S)
