"""A subscription's configuration: its fields, their defaults, and what is allowed in them."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from broker.cloudevents import parse_time
from broker.documents import known_fields
from broker.errors import Fault, InvalidRequest
from broker.filters.dialects import Filter
from broker.filters.dialects import read as read_filters
from broker.signing import key_of, new_secret

Start: TypeAlias = str | int

GUARANTEES = ("at-least-once", "at-most-once", "exactly-once")
ORDERINGS = ("key", "topic", "none")
FORMATS = ("binary", "structured", "batch")
WHEN_EXHAUSTED = ("dead-letter", "block")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How many attempts a delivery gets, 0 for ever, and how far apart they are."""

    max_attempts: int = 20
    min_backoff_s: float = 1.0
    max_backoff_s: float = 600.0


@dataclass(frozen=True, slots=True)
class OldSecret:
    """A secret that was replaced and still signs until `until`, in Unix seconds."""

    secret: str
    until: float


@dataclass(frozen=True, slots=True)
class Subscription:
    """One endpoint's durable interest in a topic. Durations end in `_s`."""

    topic: str
    name: str
    secret: str
    endpoint: str | None = None
    guarantee: str = "at-least-once"
    ordering: str = "key"
    format: str = "binary"
    max_batch: int = 100
    filters: tuple[Filter, ...] = ()
    max_in_flight: int = 64
    rate_limit: float | None = None
    timeout_s: float = 15.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    when_exhausted: str = "dead-letter"
    ack_deadline_s: float = 30.0
    allow_later: bool = False
    max_backlog_age_s: float | None = 604800.0
    dead_letter_retention_s: float = 2592000.0
    headers: Mapping[str, str] = field(default_factory=dict)
    old_secrets: tuple[OldSecret, ...] = ()
    paused: bool = False
    paused_reason: str | None = None
    created_at: float = 0.0

    def to_document(self) -> dict[str, Any]:
        """Return what is stored of it."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Subscription":
        """Restore it; fields of a newer broker are ignored."""
        values = known_fields(cls, document)
        values["retry"] = RetryPolicy(**known_fields(RetryPolicy, values.get("retry", {})))
        old = [known_fields(OldSecret, each) for each in values.get("old_secrets", ())]
        values["old_secrets"] = tuple(OldSecret(**each) for each in old)
        values["filters"] = tuple(values.get("filters", ()))
        return cls(**values)

    def signing_keys(self, now: float) -> list[bytes]:
        """Return the keys that sign an attempt made now, the newest first."""
        old = [old.secret for old in self.old_secrets if old.until > now]
        return [key_of(secret) for secret in (self.secret, *old)]

    def request_size(self) -> int:
        """Return how many messages one request may have."""
        return self.max_batch if self.format == "batch" and self.endpoint is not None else 1

    def webhook(self) -> bool:
        """Say whether deliveries are pushed to an endpoint."""
        return self.endpoint is not None


SECRET_OVERLAP_S = 86400.0
MAX_LATER_BATCH = 200
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,4096}")
_RESERVED_HEADERS = re.compile(
    r"(?i)(webhook-.*|ce-.*|content-.*|host|user-agent|connection|transfer-encoding|expect"
    r"|keep-alive|upgrade|te|trailer|proxy-.*)"
)
_CREATION_ONLY = "start"


def updated(
    before: Subscription, body: Mapping[str, object], now: float
) -> tuple[Subscription, Start]:
    """Apply the fields of a PUT; raise InvalidRequest that names every fault.

    An absent field keeps its value, null restores the default. Returns the new configuration and
    `start`, which counts only where the subscription is being created.
    """
    faults: list[Fault] = []
    changes: dict[str, Any] = {}
    for name, value in body.items():
        if name == _CREATION_ONLY:
            continue
        if name not in _CHECKS:
            faults.append(Fault(name, f"is not a field; there are {', '.join(sorted(_CHECKS))}"))
        elif value is None and name not in _NULLABLE:
            if name != "secret":
                changes[name] = _DEFAULTS[name]
        else:
            _check(name, value, before, changes, faults)
    start = _start(body.get(_CREATION_ONLY), faults)
    if faults:
        raise InvalidRequest(faults)
    secret = changes.pop("secret", before.secret)
    after = replace(before, **changes)
    if after.allow_later and after.guarantee == "at-most-once":
        rule = "has no meaning with the guarantee at-most-once, which settles before it sends"
        raise InvalidRequest([Fault("allow_later", rule)])
    if after.allow_later and after.request_size() > MAX_LATER_BATCH:
        rule = f"must be at most {MAX_LATER_BATCH} with allow_later: the ack URL names each message"
        raise InvalidRequest([Fault("max_batch", rule)])
    return rotated(after, secret, SECRET_OVERLAP_S, now), start


def rotated(before: Subscription, secret: str, overlap_s: float, now: float) -> Subscription:
    """Replace the secret; the one before signs as well for `overlap_s`."""
    if secret == before.secret:
        return before
    old = OldSecret(before.secret, now + overlap_s)
    kept = [each for each in (old, *before.old_secrets) if each.until > now]
    return replace(
        before,
        secret=secret,
        old_secrets=tuple(each for each in kept if each.secret != secret),
    )


def rotation_of(body: Mapping[str, object]) -> tuple[str, float]:
    """Read what a rotation asks for: the new secret, by default made here, and the overlap."""
    faults = [
        Fault(name, "is not a field; there are overlap_s, secret")
        for name in body
        if name not in {"overlap_s", "secret"}
    ]
    secret, overlap_s = new_secret(), SECRET_OVERLAP_S
    try:
        if body.get("secret") is not None:
            secret = _secret(body["secret"])
    except ValueError as error:
        faults.append(Fault("secret", str(error)))
    try:
        if body.get("overlap_s") is not None:
            overlap_s = _seconds(0, 30 * 86400)(body["overlap_s"])
    except ValueError as error:
        faults.append(Fault("overlap_s", str(error)))
    if faults:
        raise InvalidRequest(faults)
    return secret, overlap_s


def _check(
    name: str,
    value: object,
    before: Subscription,
    changes: dict[str, Any],
    faults: list[Fault],
) -> None:
    if name == "retry":
        changes["retry"] = _retry(value, before.retry, faults)
        return
    if name == "filters":
        changes["filters"] = read_filters(value, faults)
        return
    try:
        changes[name] = _CHECKS[name](value)
    except ValueError as error:
        faults.append(Fault(name, str(error)))


def _start(value: object, faults: list[Fault]) -> Start:
    if value is None:
        return "now"
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
        return value
    if isinstance(value, str):
        if value in {"now", "beginning"}:
            return value
        if parse_time(value) is not None:
            return value
    faults.append(Fault("start", "must be now, beginning, a time (RFC 3339) or a sequence"))
    return "now"


def _retry(value: object, before: RetryPolicy, faults: list[Fault]) -> RetryPolicy:
    if not isinstance(value, dict):
        faults.append(Fault("retry", "must be an object"))
        return before
    changes: dict[str, Any] = {}
    default = RetryPolicy()
    for name, item in value.items():
        check = _RETRY_CHECKS.get(name)
        if check is None:
            faults.append(Fault(f"retry.{name}", f"is not a field; there are {_RETRY_NAMES}"))
            continue
        try:
            changes[name] = getattr(default, name) if item is None else check(item)
        except ValueError as error:
            faults.append(Fault(f"retry.{name}", str(error)))
    policy = replace(before, **changes)
    if policy.max_backoff_s < policy.min_backoff_s:
        faults.append(Fault("retry.max_backoff_s", "must not be less than min_backoff_s"))
    return policy


def _endpoint(value: object) -> str:
    rule = "must be an http or https URL with a host and no fragment or user, in at most 2048 bytes"
    if not isinstance(value, str) or len(value) > 2048 or not value.isascii():
        raise ValueError(rule)
    if any(c <= " " or c == "\x7f" or c in '<>"{}|\\^`' for c in value):
        raise ValueError(rule)
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        raise ValueError(rule) from None
    if not usable or parts.fragment or "@" in parts.netloc:
        raise ValueError(rule)
    return value


def _one_of(*choices: str) -> Any:
    def check(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return str(value)

    return check


def _integer(low: int, high: int) -> Any:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return check


def _seconds(low: float, high: float) -> Any:
    def check(value: object) -> float:
        usable = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not usable or not math.isfinite(value) or not low <= value <= high:  # type: ignore[arg-type,operator]
            raise ValueError(f"must be seconds from {low} to {high}")
        return float(value)  # type: ignore[arg-type]

    return check


def _seconds_or_never(low: float, high: float) -> Any:
    check = _seconds(low, high)
    return lambda value: None if value is None else check(value)


def _rate(value: object) -> float:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not usable or not 0.001 <= value <= 1_000_000:  # type: ignore[operator]
        raise ValueError("must be deliveries a second, from 0.001 to 1000000, or null for no limit")
    return float(value)  # type: ignore[arg-type]


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _secret(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string that begins with whsec_")
    key_of(value)
    return value


def _headers(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 50:
        raise ValueError("must be an object of at most 50 header names and values")
    for name, text in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if _RESERVED_HEADERS.fullmatch(name):
            raise ValueError(f"{name} is set by the broker itself")
        if not isinstance(text, str) or not _HEADER_VALUE.fullmatch(text):
            raise ValueError(f"the value of {name} must be printable ASCII, 4096 bytes at most")
    return dict(value)


_RETRY_CHECKS = {
    "max_attempts": _integer(0, 1000),
    "min_backoff_s": _seconds(0, 86400),
    "max_backoff_s": _seconds(0, 86400),
}
_RETRY_NAMES = ", ".join(_RETRY_CHECKS)
# Here null is a value of its own and restores no default.
_NULLABLE = frozenset({"max_backlog_age_s"})
_CHECKS = {
    "ack_deadline_s": _seconds(0.05, 86400),
    "allow_later": _flag,
    "dead_letter_retention_s": _seconds(1, 10 * 365 * 86400),
    "endpoint": _endpoint,
    "filters": None,
    "format": _one_of(*FORMATS),
    "guarantee": _one_of(*GUARANTEES),
    "headers": _headers,
    "max_backlog_age_s": _seconds_or_never(1, 10 * 365 * 86400),
    "max_batch": _integer(1, 1000),
    "max_in_flight": _integer(1, 1024),
    "ordering": _one_of(*ORDERINGS),
    "rate_limit": _rate,
    "retry": None,
    "secret": _secret,
    "timeout_s": _seconds(0.05, 600),
    "when_exhausted": _one_of(*WHEN_EXHAUSTED),
}
_DEFAULTS: dict[str, Any] = {
    name: getattr(Subscription("", "", ""), name) for name in _CHECKS if name != "secret"
}
