"""Who calls, and what they may do.

A key is `brk_` and 43 random characters, shown once. The broker keeps its SHA-256: with 256 bits of
chance in a key nothing slower is needed, and what is compared is never the key itself.
"""

import hmac
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from hashlib import sha256
from math import ceil
from typing import Any, Literal

import msgspec
from msgspec import Struct

from broker.errors import BrokerError
from broker.rate import RateLimit
from broker.scopes import ADMIN, Action, Scope, allows

PREFIX = "brk_"
PUBLISH_BURST_S = 1.0


class Unauthorized(BrokerError):
    """This call needs a key."""

    status = 401
    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__("Send the header Authorization: Bearer <key> with a key of this broker.")


class Forbidden(BrokerError):
    """The key lacks the scope."""

    status = 403
    code = "forbidden"

    def __init__(self, actions: Collection[Action], topic: str | None) -> None:
        wanted = " or ".join(
            "admin" if action == "admin" else f"{action}:{topic or '*'}" for action in actions
        )
        super().__init__(f"This needs a key with the scope {wanted}.")


class PublishRateExceeded(BrokerError):
    """The key publishes more than it may."""

    status = 429
    code = "publish_rate_exceeded"
    retry_after_s = 1

    def __init__(self, name: str, rate: float, wait_s: float) -> None:
        self.retry_after_s = max(1, ceil(wait_s))
        super().__init__(
            f'The key "{name}" may publish {rate:g} messages a second. Nothing was stored; '
            f"publish again in {self.retry_after_s} s."
        )


class ApiKey(Struct, frozen=True):
    """A key as it is kept. Times are Unix seconds; `used_at` is right to a minute.

    `publish_rate` is in messages a second, None for no limit.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    digest: str
    created_at: float
    used_at: float | None = None
    publish_rate: float | None = None


class Needs(Struct, frozen=True):
    """What a call needs: one of these actions, on the topic it names, on all topics, or on any.

    No actions: the call is open, or its token is its key.
    """

    actions: tuple[Action, ...] = ()
    on: Literal["topic", "all", "any"] = "topic"


OPEN = Needs()
ADMINISTER = Needs(("admin",), "all")
PUBLISH = Needs(("publish",))
SUBSCRIBE = Needs(("subscribe",))
READ = Needs(("read",))
READ_ALL = Needs(("read",), "all")
WATCH = Needs(("read", "subscribe"))
SEE_SCHEDULED = Needs(("read", "publish"))
SEE = Needs(("read", "subscribe", "publish"))
PUBLISH_ANY = Needs(("publish",), "any")
SUBSCRIBE_ANY = Needs(("subscribe",), "any")
LIST = Needs(("read", "subscribe", "publish"), "any")


class Caller(Struct, frozen=True):
    """Somebody at the door, and what they may do; `pace` is how fast they may publish."""

    name: str
    scopes: tuple[Scope, ...]
    pace: RateLimit | None = None

    def may(self, actions: Collection[Action], topic: str | None) -> bool:
        """Say whether one of the actions is allowed on a topic; None means on all of them."""
        return allows(self.scopes, actions, topic)

    def require(self, needs: Needs, topic: str | None) -> None:
        """Raise Forbidden unless what a call needs is allowed; `topic` is the one it names."""
        if ADMIN in self.scopes:
            return
        if needs.on == "any":
            if not any(scope.action in needs.actions for scope in self.scopes):
                raise Forbidden(needs.actions, None)
            return
        named = topic if needs.on == "topic" else None
        if needs.actions and not self.may(needs.actions, named):
            raise Forbidden(needs.actions, named)

    def spend(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Take so many messages from what the key may publish. Raises PublishRateExceeded.

        More at once than there is left of a burst delay what comes after.
        """
        pace = self.pace
        if pace is None or pace.rate is None:
            return
        now = clock()
        if pace.available(now) < 1:
            raise PublishRateExceeded(self.name, pace.rate, pace.until_next(now))
        pace.take(count)


ANYONE = Caller("anyone", (ADMIN,))


class Keys:
    """The keys that open the door. Where keys are off, anyone may do everything."""

    def __init__(self, admin_key: str | None, *, on: bool) -> None:
        self._on = on
        self._admin_digest = None if admin_key is None else digest_of(admin_key)
        self._by_digest: Mapping[str, ApiKey] = {}
        self._paces: dict[str, RateLimit] = {}
        self.used: dict[str, float] = {}

    @property
    def on(self) -> bool:
        """Whether a key is needed at all."""
        return self._on

    def use(self, keys: Iterable[ApiKey]) -> None:
        """Take these keys, besides the admin key, and no others."""
        self._by_digest = {key.digest: key for key in keys}
        self._paces = {key.id: self._pace_of(key) for key in self._by_digest.values()}

    def _pace_of(self, key: ApiKey) -> RateLimit:
        """Return how fast a key may publish: as before, so that a stream hears of a change."""
        pace = self._paces.get(key.id)
        if pace is None:
            return RateLimit(key.publish_rate, PUBLISH_BURST_S)
        if pace.rate != key.publish_rate:
            pace.change(key.publish_rate)
        return pace

    def caller(self, headers: Iterable[tuple[bytes, bytes]], now: float) -> Caller:
        """Say who sent a request, by its Authorization header. Raises Unauthorized."""
        if not self._on:
            return ANYONE
        for name, value in headers:
            if name == b"authorization":
                scheme, _, key = value.partition(b" ")
                if scheme.lower() == b"bearer":
                    return self.caller_of(key.strip(), now)
        raise Unauthorized

    def caller_of(self, key: bytes, now: float) -> Caller:
        """Say whose key it is. Raises Unauthorized."""
        if not self._on:
            return ANYONE
        return self.caller_with(sha256(key).hexdigest(), now)

    def caller_with(self, digest: str, now: float) -> Caller:
        """Say whose key has a digest. Raises Unauthorized."""
        if self._admin_digest is not None and hmac.compare_digest(digest, self._admin_digest):
            return Caller("admin", (ADMIN,))
        found = self._by_digest.get(digest)
        if found is None or not hmac.compare_digest(digest, found.digest):
            raise Unauthorized
        self.used[found.id] = now
        return Caller(found.name, found.scopes, self._paces.get(found.id))


def new_key() -> str:
    """Make a key."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """Return what is kept of a key."""
    return sha256(key.encode()).hexdigest()


def to_document(keys: Iterable[ApiKey]) -> dict[str, Any]:
    """Return keys as the document that is stored."""
    return {"keys": [msgspec.to_builtins(key) for key in keys]}


def from_document(document: Mapping[str, Any]) -> list[ApiKey]:
    """Restore keys from the stored document."""
    return msgspec.convert(document.get("keys", []), list[ApiKey])
