"""Keeping what was pulled from lapsing while it waits for its turn, or is handled."""

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from types import TracebackType
from typing import Self

from broker_client.errors import BrokerClientError

logger = logging.getLogger("broker_client.leases")


class Leases:
    """The leases of what was pulled, extended in a thread of its own until they are ended or lost.

    Each lasts `deadline_s` from when it is added and from each extension. `extend` asks for that,
    and returns those that have lapsed all the same; it may raise BrokerClientError. `clock` is
    monotonic.
    """

    def __init__(
        self,
        ack_ids: Iterable[str],
        deadline_s: float,
        extend: Callable[[Collection[str]], Collection[str]],
        clock: Callable[[], float],
    ) -> None:
        self._deadline_s = deadline_s
        self._extend = extend
        self._clock = clock
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)
        self.add(ack_ids)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def add(self, ack_ids: Iterable[str]) -> None:
        """Keep these from now on."""
        until = self._clock() + self._deadline_s
        with self._lock:
            self._until.update(dict.fromkeys(ack_ids, until))

    def hold(self, ack_id: str) -> bool:
        """Say whether a lease is still ours."""
        with self._lock:
            until = self._until.get(ack_id)
            return until is not None and self._clock() < until

    def end(self, ack_id: str) -> None:
        """Extend a lease no more."""
        with self._lock:
            self._until.pop(ack_id, None)

    def _keep(self) -> None:
        while not self._over.wait(self._deadline_s / 3):
            with self._lock:
                held = list(self._until)
            if held:
                self._extend_all(held)

    def _extend_all(self, held: Collection[str]) -> None:
        until = self._clock() + self._deadline_s
        try:
            lost = set(self._extend(held))
        except BrokerClientError as error:
            logger.warning("Leases could not be extended: %s", error, extra={"action": "failed"})
            return
        with self._lock:
            for ack_id in held:
                if ack_id in lost:
                    self._until.pop(ack_id, None)
                elif ack_id in self._until:
                    self._until[ack_id] = until
