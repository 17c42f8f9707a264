"""Who has signed in to the pages: a random id in a cookie stands for a key.

What is kept of the id is its digest, and of the key the digest that the broker has anyway. So a key
that is deleted or loses a scope does so at once, and a restart signs everybody out.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broker.auth import Caller, Keys, Unauthorized, digest_of

COOKIE: Final = "broker_session"
LIFE_S = 12 * 3600.0
MOST_SESSIONS = 1000


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

    def required(self) -> bool:
        """Say whether one has to sign in at all."""
        return self._keys.on

    def begin(self, key: str) -> str:
        """Return an id to come back with. Raises Unauthorized."""
        self._keys.caller_of(key.encode(), self._now())
        id_ = secrets.token_urlsafe(32)
        with self._lock:
            while len(self._by_digest) >= MOST_SESSIONS:
                del self._by_digest[next(iter(self._by_digest))]
            self._by_digest[digest_of(id_)] = Session(digest_of(key), self._now() + LIFE_S)
        return id_

    def caller(self, id_: str | None) -> Caller:
        """Say who comes back with an id. Raises Unauthorized."""
        if not self._keys.on:
            return self._keys.caller((), self._now())
        session = self._by_digest.get(digest_of(id_)) if id_ else None
        if session is None or session.until <= self._now():
            raise Unauthorized
        return self._keys.caller_with(session.digest, self._now())

    def end(self, id_: str) -> None:
        """Forget an id."""
        with self._lock:
            self._by_digest.pop(digest_of(id_), None)


def id_in(cookies: str) -> str | None:
    """Find the id in a Cookie header."""
    for pair in cookies.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE:
            return value
    return None
