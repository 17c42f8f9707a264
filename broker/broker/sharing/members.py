"""Which brokers of a cluster are alive, by what they say of themselves once a second."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

import msgspec

GONE_S = 5.0
SILENT_S = 2.5
STEADY_S = 3.0


class Heartbeat(msgspec.Struct, frozen=True, array_like=True):
    """What a broker says of itself.

    `url` is where the others reach it, `able` are the cells for which it stands by and could take
    over at once, `used` says when keys were used there since it said so last, and `sessions` has
    who signed in there: by the digest of the id that of the key, and until when. `digest` is that
    of a secret that only this broker has, and shows to the others when it asks them.
    """

    url: str
    stopping: bool
    able: Sequence[int]
    used: Mapping[str, float] = {}
    sessions: Mapping[str, tuple[str, float]] = {}
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """When a broker was heard last, since when without a pause, and what it said."""

    at: float
    since: float
    heartbeat: Heartbeat


class Members:
    """The other brokers that were heard within the last seconds, and this one."""

    def __init__(self, url: str, monotonic: Callable[[], float]) -> None:
        self._url = url
        self._monotonic = monotonic
        self._heard: dict[str, Heard] = {}

    def hear(self, heartbeat: Heartbeat) -> None:
        """Hear a broker."""
        if heartbeat.url == self._url:
            return
        now, last = self._monotonic(), self._heard.get(heartbeat.url)
        since = last.since if last is not None and now - last.at < SILENT_S else now
        self._heard[heartbeat.url] = Heard(now, since, heartbeat)

    def able(self, own: Set[int]) -> dict[str, Set[int]]:
        """Return who is alive and goes on, and which cells each could take over at once.

        `own` are those that this broker could. One that was frozen says at first what was true
        before, and ends then, for its cells are another's: it could none until it was heard for a
        while.
        """
        now = self._monotonic()
        others = {
            each.heartbeat.url: frozenset(
                each.heartbeat.able if now - each.since >= STEADY_S else ()
            )
            for each in self._alive()
            if not each.heartbeat.stopping
        }
        return {self._url: own, **others}

    def sessions(self) -> dict[str, tuple[str, float]]:
        """Return who has signed in at the others."""
        return {
            id_: session
            for each in self._alive()
            for id_, session in each.heartbeat.sessions.items()
        }

    def has(self, digest: str) -> bool:
        """Say whether another broker has a secret of this digest."""
        return any(each.heartbeat.digest == digest for each in self._alive())

    def _alive(self) -> list[Heard]:
        now = self._monotonic()
        self._heard = {url: each for url, each in self._heard.items() if now - each.at < GONE_S}
        return list(self._heard.values())
