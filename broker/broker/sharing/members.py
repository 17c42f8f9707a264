"""Which brokers of a cluster are alive, by what they say of themselves once a second."""

from collections.abc import Callable, Mapping, Sequence, Set

import msgspec

GONE_S = 5.0


class Heartbeat(msgspec.Struct, frozen=True, array_like=True):
    """What a broker says of itself.

    `url` is where the others reach it, `able` are the cells for which it stands by and could take
    over at once, `used` says when keys were used there since it said so last, and `sessions` has
    who signed in there: by the digest of the id that of the key, and until when.
    """

    url: str
    stopping: bool
    able: Sequence[int]
    used: Mapping[str, float] = {}
    sessions: Mapping[str, tuple[str, float]] = {}


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
        others = {
            heartbeat.url: frozenset(heartbeat.able)
            for heartbeat in self._alive()
            if not heartbeat.stopping
        }
        return {self._url: own, **others}

    def sessions(self) -> dict[str, tuple[str, float]]:
        """Return who has signed in at the others."""
        return {
            id_: session
            for heartbeat in self._alive()
            for id_, session in heartbeat.sessions.items()
        }

    def _alive(self) -> list[Heartbeat]:
        now = self._monotonic()
        self._heard = {url: (at, of) for url, (at, of) in self._heard.items() if now - at < GONE_S}
        return [heartbeat for _, heartbeat in self._heard.values()]
