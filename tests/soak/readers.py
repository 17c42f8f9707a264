"""Who reads without an endpoint: one that pulls, and one that watches the stream."""

from __future__ import annotations

from threading import Event, Thread

import httpx
from httpx_sse import connect_sse

from soak.arrivals import Arrivals
from soak.kinds import TOPIC

WAIT_S = 1
AGAIN_S = 0.5


class Reader:
    """Reads in a thread of its own until it is told to stop; `complaints` are what went wrong."""

    def __init__(self, name: str, base_url: str) -> None:
        self.arrivals = Arrivals()
        self.complaints: list[str] = []
        self._base_url = base_url
        self._stopping = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._base_url, trust_env=False, timeout=30) as http:
            while not self._stopping.is_set():
                try:
                    self._read(http)
                except httpx.TransportError as error:
                    self.complaints.append(f"{error!r}")
                    self._stopping.wait(AGAIN_S)

    def _read(self, http: httpx.Client) -> None:
        raise NotImplementedError


class Puller(Reader):
    """Pulls, and acknowledges what it gets."""

    def _read(self, http: httpx.Client) -> None:
        path = f"/v1/topics/{TOPIC}/subscriptions/pull"
        asked = {"max_messages": 200, "wait_s": WAIT_S}
        pulled = http.post(f"{path}/pull", json=asked).raise_for_status().json()["deliveries"]
        if not pulled:
            return
        for delivery in pulled:
            self.arrivals.add(int(delivery["message"]["sequence"]))
        ids = [delivery["ack_id"] for delivery in pulled]
        http.post(f"{path}/ack", json={"ack_ids": ids}).raise_for_status()


class Watcher(Reader):
    """Watches the stream; every message comes in its turn."""

    def __init__(self, name: str, base_url: str) -> None:
        super().__init__(name, base_url)
        self._last = 0

    def _read(self, http: httpx.Client) -> None:
        headers = {"last-event-id": str(self._last)}
        path = f"/v1/topics/{TOPIC}/stream"
        with connect_sse(http, "GET", path, headers=headers) as source:
            for event in source.iter_sse():
                if event.data:  # httpx_sse makes an event of a keep-alive too
                    self._take(int(event.id))
                if self._stopping.is_set():
                    return

    def _take(self, sequence: int) -> None:
        if sequence != self._last + 1:
            self.complaints.append(f"{sequence} came after {self._last}")
        self._last = sequence
        self.arrivals.add(sequence)
