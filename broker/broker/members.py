"""Which brokers of a cluster are alive, by what they say of themselves once a second."""

from collections.abc import Callable, Mapping, Sequence, Set

import msgspec

GONE_S = 5.0


class Heartbeat(msgspec.Struct, frozen=True, array_like=True):
    """What a broker says of itself.

    `url` is where the others reach it, `able` are the cells for which it stands by and could take
    over at once, `used` says when keys were used there since it said so last.
    """

    url: str
    stopping: bool
    able: Sequence[int]
    used: Mapping[str, float] = {}


class Members:
    """The other brokers that were heard within the last seconds, and this one."""

    def __init__(self, url: str, monotonic: Callable[[], float]) -> None:
        self._url = url
        self._monotonic = monotonic
        self._heard: dict[str, tuple[float, Heartbeat]] = {}

    def hear(self, heartbeat: Heartbeat) -> None:
        """Hear a broker."""
        if heartbeat.url != self._url:
            self._heard[heartbeat.url] = (self._monotonic(), heartbeat)

    def able(self, own: Set[int]) -> dict[str, Set[int]]:
        """Return who is alive and goes on, and which cells each could take over at once.

        `own` are those that this broker could.
        """
        now = self._monotonic()
        self._heard = {
            url: (at, heartbeat)
            for url, (at, heartbeat) in self._heard.items()
            if now - at < GONE_S
        }
        others = {
            url: frozenset(heartbeat.able)
            for url, (_, heartbeat) in self._heard.items()
            if not heartbeat.stopping
        }
        return {self._url: own, **others}
