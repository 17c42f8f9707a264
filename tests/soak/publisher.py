"""A steady load: so many messages a second, by themselves and in batches, each known by its id."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any

import httpx

from soak.kinds import EVEN, ODD, TOPIC
from support.cloudevent import BATCH, STRUCTURED, Json

KEYS = 200
MOST_BATCH = 50
ALONE = 4  # a quarter of the requests have one message
DELAYED = 97  # every so-manieth message is to wait
DELAY = timedelta(seconds=2)
TURN_S = 0.02
AGAIN_S = 0.2
ANSWER_S = 30.0
TEXT = "x" * 1000


class Publisher:
    """Publishes from a thread of its own. `rate` may be changed; None is as fast as it can.

    `published` and `even` count what was answered, `repeats` the requests that were sent again, and
    `surprises` are answers that nothing explains. While `held` says so, it waits.
    """

    def __init__(self, base_url: str, rate: float | None, held: Callable[[], bool]) -> None:
        self.rate = rate
        self.published = 0
        self.even = 0
        self.repeats = 0
        self.surprises: list[str] = []
        self._url = f"{base_url}/v1/topics/{TOPIC}/messages"
        self._held = held
        self._count = 0
        self._requests = 0
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="publisher")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Publish nothing new; return once what was begun is answered."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=ANSWER_S, trust_env=False) as http:
            due, at = 0.0, time.monotonic()
            while not self._stopping.is_set():
                rate, now = self.rate, time.monotonic()
                if rate is None:
                    due, at = MOST_BATCH, now
                    if self._held():
                        self._stopping.wait(TURN_S)
                        continue
                else:
                    due, at = min(due + (now - at) * rate, rate), now
                if due < 1:
                    self._stopping.wait(TURN_S)
                    continue
                self._requests += 1
                size = 1 if self._requests % ALONE == 0 else min(int(due), MOST_BATCH)
                due -= size
                self._insist(http, [self._message() for _ in range(size)])

    def _message(self) -> Json:
        self._count += 1
        number = self._count
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": str(number),
            "source": "/soak",
            "type": ODD if number % 2 else EVEN,
            "partitionkey": str(number % KEYS),
            "data": {"number": number, "text": TEXT[: number % 1000]},
        }
        if number % DELAYED == 0:
            event["deliverat"] = (datetime.now(UTC) + DELAY).isoformat()
        return event

    def _insist(self, http: httpx.Client, events: list[Json]) -> None:
        alone = len(events) == 1
        headers = {"content-type": STRUCTURED if alone else BATCH}
        body = events[0] if alone else events
        while True:
            try:
                answer = http.post(self._url, json=body, headers=headers)
            except httpx.TransportError:
                status = 0
            else:
                status = answer.status_code
            if status == 201:
                self.published += len(events)
                self.even += sum(event["type"] == EVEN for event in events)
                return
            if status not in {0, 429, 503, 507}:
                self.surprises.append(f"publishing was answered {status}")
            self.repeats += 1
            if len(self.surprises) > 10 or (self._stopping.is_set() and self.repeats > 1000):
                return
            time.sleep(AGAIN_S)
