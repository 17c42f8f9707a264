"""Who has signed in to the pages: a random id in a cookie stands for a key.

What is kept of the id is its digest, and of the key the digest that the broker has anyway. So a key
that is deleted or loses a scope does so at once, and a restart signs everybody out.
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from broker.auth import Caller, Keys, Unauthorized, digest_of

COOKIE: Final = "broker_session"
LIFE_S = 12 * 3600.0
MOST_SESSIONS = 1000
MOST_OF_A_KEY = 20


@dataclass(frozen=True, slots=True)
class Session:
    """The digest of a key, and the Unix time until which it counts."""

    digest: str
    until: float


class Sessions:
    """Those who have signed in. Called from every thread."""

    def __init__(self, keys: Keys, now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._now = now
        self._lock = threading.Lock()
        self._by_digest: dict[str, Session] = {}
        self._elsewhere: Mapping[str, Session] = {}
        self.changed: Callable[[], None] = lambda: None

    def required(self) -> bool:
        """Say whether one has to sign in at all."""
        return self._keys.on

    def begin(self, key: str) -> str:
        """Return an id to come back with. Raises Unauthorized."""
        self._keys.caller_of(key.encode(), self._now())
        id_, digest, now = secrets.token_urlsafe(32), digest_of(key), self._now()
        with self._lock:
            self._make_room(digest, now)
            self._by_digest[digest_of(id_)] = Session(digest, now + LIFE_S)
        self.changed()
        return id_

    def begun_here(self) -> dict[str, tuple[str, float]]:
        """Return the sessions that were begun here, for other brokers to honour."""
        with self._lock:
            return {
                id_: (session.digest, session.until) for id_, session in self._by_digest.items()
            }

    def honour(self, elsewhere: Mapping[str, tuple[str, float]]) -> None:
        """Take these sessions, which were begun at other brokers, and no others of theirs."""
        self._elsewhere = {id_: Session(*session) for id_, session in elsewhere.items()}

    def _make_room(self, digest: str, now: float) -> None:
        """Drop what is over, then the oldest of the same key: nobody signs out holders of others.

        Only the holders of fifty keys together fill all there is.
        """
        for id_ in [each for each, session in self._by_digest.items() if session.until <= now]:
            del self._by_digest[id_]
        own = [each for each, session in self._by_digest.items() if session.digest == digest]
        for id_ in own[: max(len(own) - MOST_OF_A_KEY + 1, 0)]:
            del self._by_digest[id_]
        while len(self._by_digest) >= MOST_SESSIONS:
            del self._by_digest[next(iter(self._by_digest))]

    def caller(self, id_: str | None) -> Caller:
        """Say who comes back with an id. Raises Unauthorized."""
        if not self._keys.on:
            return self._keys.caller((), self._now())
        digest = digest_of(id_) if id_ else ""
        session = self._by_digest.get(digest) or self._elsewhere.get(digest)
        if session is None or session.until <= self._now():
            raise Unauthorized
        return self._keys.caller_with(session.digest, self._now())

    def end(self, id_: str) -> None:
        """Forget an id."""
        with self._lock:
            self._by_digest.pop(digest_of(id_), None)
        self.changed()


def cookie_name(*, secure: bool) -> str:
    """Return what the cookie is called: over HTTPS by a name that no other host can set.

    Source: RFC 6265bis, section 4.1.3.2, The "__Host-" Prefix.
    """
    return f"__Host-{COOKIE}" if secure else COOKIE


def id_in(cookies: str, *, secure: bool) -> str | None:
    """Find the id in a Cookie header."""
    wanted = cookie_name(secure=secure)
    for pair in cookies.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == wanted:
            return value
    return None
