"""A publisher that does not give up: what is not answered, it publishes again by the same id."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Event, Thread

import httpx

from audit.messages import message
from support.cloudevent import BATCH, STRUCTURED, Json

KEYS = 10  # a publisher's own: what it publishes with one key is answered before the next
UNKEYED, BATCHED, DELAYED = 0.1, 0.1, 0.05
BATCH_SIZE = (2, 20)
DELAY_S = (0.2, 3.0)
REST_S = 0.1
AGAIN_S = 0.1
ANSWER_S = 10.0
PATIENCE_S = 180.0
NOT_NOW = frozenset({429, 503, 507})


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the broker answered for a message; `sequence` is None while it is delayed."""

    id: str
    key: str | None
    delayed: bool
    sequence: int | None


class Publisher:
    """Publishes to a topic from a thread of its own until it is told to stop.

    It goes to the first of `base_urls`, and on to the next whenever it gets no answer within
    `answer_s`, or is told to come back. `receipts` grow in order, and `acknowledged_at` has the
    time of each answer.

    `repeats` counts the requests that had to be sent again, `surprises` are what no failure of the
    broker explains. `doubtful` are the ids of messages that were never answered.
    """

    def __init__(
        self,
        name: str,
        topic: str,
        base_urls: Sequence[str],
        seed: int,
        answer_s: float = ANSWER_S,
        rest_s: float = REST_S,
    ) -> None:
        self.topic = topic
        self.receipts: list[Receipt] = []
        self.acknowledged_at: list[float] = []
        self.surprises: list[str] = []
        self.doubtful: list[str] = []
        self.repeats = 0
        self._name = name
        self._urls = itertools.cycle(base_urls)
        self.base_url = next(self._urls)
        self._answer_s = answer_s
        self._rest_s = rest_s
        self._random = Random(f"{seed}/{name}")
        self._stopping = Event()
        self._thread = Thread(target=self._run, name=name)
        self._count = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Publish nothing new; return once what was begun is answered."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=self._answer_s, trust_env=False) as http:
            while not self._stopping.is_set():
                self._insist(http, list(self._events()))
                self._stopping.wait(self._random.expovariate(1 / self._rest_s))

    def _events(self) -> Iterator[Json]:
        """Make what goes into the next request."""
        random = self._random
        size = random.randint(*BATCH_SIZE) if random.random() < BATCHED else 1
        for _ in range(size):
            self._count += 1
            keyed = random.random() >= UNKEYED
            key = f"{self._name}-{random.randrange(KEYS)}" if keyed else None
            yield message(f"{self._name}-{self._count}", key, self._due_at())

    def _due_at(self) -> str | None:
        if self._random.random() >= DELAYED:
            return None
        delay = timedelta(seconds=self._random.uniform(*DELAY_S))
        return (datetime.now(UTC) + delay).isoformat()

    def _insist(self, http: httpx.Client, events: Sequence[Json]) -> None:
        """Publish events, again and again until that is answered."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._publish(http, events):
            if time.monotonic() > deadline:
                self.surprises.append(f"publishing was not answered within {PATIENCE_S:g} s")
                self.doubtful += [event["id"] for event in events]
                return
            self.repeats += 1
            self.base_url = next(self._urls)
            time.sleep(AGAIN_S)

    def _publish(self, http: httpx.Client, events: Sequence[Json]) -> bool:
        """Publish events, one by itself; say whether they are answered."""
        alone = len(events) == 1
        headers = {"Content-Type": STRUCTURED if alone else BATCH}
        try:
            url = f"{self.base_url}/v1/topics/{self.topic}/messages"
            answer = http.post(url, json=events[0] if alone else events, headers=headers)
        except httpx.TransportError:
            return False
        if answer.status_code != 201:
            if answer.status_code not in NOT_NOW:
                told = f"{answer.status_code}: {answer.text[:300]}"
                self.surprises.append(f"publishing was answered {told}")
            return False

        self.acknowledged_at.append(time.time())
        self._note(events, [answer.json()] if alone else answer.json()["messages"])
        return True

    def _note(self, events: Sequence[Json], answers: Sequence[Json]) -> None:
        for event, answer in zip(events, answers, strict=True):
            id, key, sequence = event["id"], event.get("partitionkey"), answer["sequence"]
            if answer["id"] != id:
                self.surprises.append(f"{id} was answered as {answer['id']}")
            self.receipts.append(Receipt(id, key, "deliverat" in event, sequence))
