"""A subscription's configuration: its fields, their defaults, and what is allowed in them."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from broker.cloudevents import parse_time
from broker.consent import Agreement, Consent
from broker.documents import known_fields
from broker.errors import Fault, InvalidRequest
from broker.fields import (
    MAX_INTEGER,
    Body,
    Field,
    Refused,
    flag,
    integer,
    moment,
    nested,
    number,
    one_of,
    seconds,
    whole,
)
from broker.filters.dialects import MOST_FILTERS, Filter
from broker.filters.dialects import read as read_filters
from broker.signing import key_of, new_secret

Start: TypeAlias = str | int

Guarantee: TypeAlias = Literal["at-least-once", "at-most-once", "exactly-once"]
Ordering: TypeAlias = Literal["key", "topic", "none"]
Format: TypeAlias = Literal["binary", "structured", "batch"]
WhenExhausted: TypeAlias = Literal["dead-letter", "block"]


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


# Where secrets stand in the document of a subscription; `*` is every item.
SECRETS = (("secret",), ("old_secrets", "*", "secret"), ("headers", "*"))


@dataclass(frozen=True, slots=True)
class Subscription:
    """One endpoint's durable interest in a topic. Durations end in `_s`."""

    topic: str
    name: str
    secret: str
    endpoint: str | None = None
    guarantee: Guarantee = "at-least-once"
    ordering: Ordering = "key"
    filters: tuple[Filter, ...] = ()
    format: Format = "binary"
    max_batch: int = 100
    max_in_flight: int = 64
    rate_limit: float | None = None
    timeout_s: float = 15.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    when_exhausted: WhenExhausted = "dead-letter"
    ack_deadline_s: float = 30.0
    allow_later: bool = False
    consent: Consent = "off"
    max_backlog_age_s: float | None = 604800.0
    dead_letter_retention_s: float = 2592000.0
    headers: Mapping[str, str] = field(default_factory=dict)
    old_secrets: tuple[OldSecret, ...] = ()
    agreement: Agreement | None = None
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
        values["filters"] = tuple(values.get("filters", ()))
        old = [known_fields(OldSecret, each) for each in values.get("old_secrets", ())]
        values["old_secrets"] = tuple(OldSecret(**each) for each in old)
        if (agreement := values.get("agreement")) is not None:
            values["agreement"] = Agreement(**known_fields(Agreement, agreement))
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
YEARS_S = 10 * 365 * 86400
MAX_HEADERS = 50
_WORDS = ("now", "beginning")
_HEADER_NAME = "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}"
_HEADER_VALUE = r"[\x20-\x7e]{0,4096}"
_RESERVED = (
    "webhook-.*|ce-.*|content-.*|host|user-agent|connection|transfer-encoding|expect"
    "|keep-alive|upgrade|te|trailer|proxy-.*"
)
# Nobody's user, and brackets around the whole of a host or not at all: urlsplit takes others too.
_authority = re.compile(r"(\[[^\[\]@]+\]|[^\[\]@:]+)(:[0-9]*)?")
_header_name, _header_value = re.compile(_HEADER_NAME), re.compile(_HEADER_VALUE)
_reserved_header = re.compile(_RESERVED, re.IGNORECASE)


def updated(
    before: Subscription, body: Mapping[str, object], now: float
) -> tuple[Subscription, Start]:
    """Apply the fields of a PUT; raise InvalidRequest that names every fault.

    An absent field keeps its value, null restores the default. Returns the new configuration and
    `start`, which counts only where the subscription is being created.
    """
    values, faults = FIELDS.read(body)
    start, secret = values.pop("start", None), values.pop("secret", None)
    changes = {
        name: _DEFAULTS[name] if value is None and name not in _NULLABLE else value
        for name, value in values.items()
    }
    if values.get("retry") is not None:
        changes["retry"] = _retry(before.retry, values["retry"], faults)
    if faults:
        raise InvalidRequest(faults)
    after = replace(before, **changes)
    if after.allow_later and after.guarantee == "at-most-once":
        rule = "has no meaning with the guarantee at-most-once, which settles before it sends"
        raise InvalidRequest([Fault("allow_later", rule)])
    if after.allow_later and after.request_size() > MAX_LATER_BATCH:
        rule = f"must be at most {MAX_LATER_BATCH} with allow_later: the ack URL names each message"
        raise InvalidRequest([Fault("max_batch", rule)])
    if after.endpoint != before.endpoint or after.consent == "off":
        after = replace(after, agreement=None)
    signing = before.secret if secret is None else secret
    return rotated(after, signing, SECRET_OVERLAP_S, now), "now" if start is None else start


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
    values = ROTATION.require(body)
    secret, overlap_s = values.get("secret"), values.get("overlap_s")
    return (
        new_secret() if secret is None else secret,
        SECRET_OVERLAP_S if overlap_s is None else overlap_s,
    )


def _retry(before: RetryPolicy, values: dict[str, Any], faults: list[Fault]) -> RetryPolicy:
    default = RetryPolicy()
    changes = {
        name: getattr(default, name) if value is None else value for name, value in values.items()
    }
    policy = replace(before, **changes)
    if policy.max_backoff_s < policy.min_backoff_s:
        faults.append(Fault("retry.max_backoff_s", "must not be less than min_backoff_s"))
    return policy


def place_in_log() -> Field:
    """A place in a topic's log: a word, a time, or a sequence."""

    def check(value: object) -> Start:
        number = whole(value)
        if number is not None and 0 <= number <= MAX_INTEGER:
            return number
        if isinstance(value, str) and (value in _WORDS or parse_time(value) is not None):
            return value
        raise ValueError("must be now, beginning, a time (RFC 3339) or a sequence")

    choices = [
        {"type": "string", "enum": list(_WORDS)},
        moment(),
        {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER},
    ]
    return Field(check, {"anyOf": choices})


def _endpoint() -> Field:
    rule = "must be an http or https URL with a host and no fragment or user, in at most 2048 bytes"

    def check(value: object) -> str:
        if not isinstance(value, str) or len(value) > 2048 or not value.isascii():
            raise ValueError(rule)
        if any(c <= " " or c == "\x7f" or c in '<>"{}|\\^`' for c in value):
            raise ValueError(rule)
        try:
            parts = urlsplit(value)
            usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            raise ValueError(rule) from None
        if not usable or parts.fragment or not _authority.fullmatch(parts.netloc):
            raise ValueError(rule)
        return value

    pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://[!$-;=?-\[\]_a-z~]+#?$"
    return Field(check, {"type": "string", "maxLength": 2048, "pattern": pattern})


def _secret() -> Field:
    def check(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError("must be a string that begins with whsec_")
        key_of(value)
        return value

    one = "[A-Za-z0-9+/]"
    tail = f"({one}{{2}}={{0,2}}|{one}{{3}}=?)?"
    base64 = f"({one}{{4}}){{8,20}}{tail}|({one}{{4}}){{21}}({one}{{2}}={{0,2}})?"  # 24 to 64 bytes
    return Field(check, {"type": "string", "pattern": f"^whsec_({base64})$"})


def _headers() -> Field:
    def check(value: object) -> dict[str, str]:
        if not isinstance(value, dict) or len(value) > MAX_HEADERS:
            raise ValueError(f"must be an object of at most {MAX_HEADERS} header names and values")
        for name, text in value.items():
            if not _header_name.fullmatch(name):
                raise ValueError(f"{name!r} is not a header name")
            if _reserved_header.fullmatch(name):
                raise ValueError(f"{name} is set by the broker itself")
            if not isinstance(text, str) or not _header_value.fullmatch(text):
                raise ValueError(f"the value of {name} must be printable ASCII, 4096 bytes at most")
        return dict(value)

    reserved = "".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in _RESERVED)
    schema = {
        "type": "object",
        "maxProperties": MAX_HEADERS,
        "propertyNames": {"pattern": f"^{_HEADER_NAME}$", "not": {"pattern": f"^({reserved})$"}},
        "additionalProperties": {"type": "string", "pattern": f"^{_HEADER_VALUE}$"},
    }
    return Field(check, schema)


def _filters() -> Field:
    def check(value: object) -> tuple[Filter, ...]:
        faults: list[Fault] = []
        found = read_filters(value, faults, "")
        if faults:
            raise Refused(faults)
        return found

    items = {"$ref": "#/components/schemas/Filter"}
    return Field(check, {"type": "array", "items": items, "maxItems": MOST_FILTERS})


_unnamed = Subscription("", "", "")
_DEFAULTS: dict[str, Any] = {
    name: getattr(_unnamed, name) for name in Subscription.__slots__ if name != "secret"
}
# Here null is a value of its own and restores no default.
_NULLABLE = frozenset({"max_backlog_age_s"})
_RETRY = Body(
    "RetryFields",
    {
        "max_attempts": integer(0, 1000).says("How many attempts a delivery gets; 0: for ever"),
        "min_backoff_s": seconds(0, 86400).says(
            "The longest the first pause can be; it doubles with each failure"
        ),
        "max_backoff_s": seconds(0, 86400).says(
            "The longest any pause can be; not less than `min_backoff_s`"
        ),
    },
).defaults(asdict(RetryPolicy()))
FIELDS = Body(
    "SubscriptionFields",
    {
        "endpoint": _endpoint().says("Where each message is sent by POST"),
        "guarantee": one_of(*get_args(Guarantee)).says(
            "`exactly-once` wants a receipt for each message"
        ),
        "ordering": one_of(*get_args(Ordering)).says(
            "Which messages wait for one another: those of a `partitionkey`, all, or none"
        ),
        "filters": _filters().says("Which messages are wanted: all of these have to hold"),
        "format": one_of(*get_args(Format)).says("The content mode of CloudEvents in requests"),
        "max_batch": integer(1, 1000).says(
            "Most messages in one request of the format `batch`; with `allow_later` it is "
            f"{MAX_LATER_BATCH} at most"
        ),
        "max_in_flight": integer(1, 1024).says("Most requests at once"),
        "rate_limit": number(
            0.001,
            1_000_000,
            "must be deliveries a second, from 0.001 to 1000000, or null for no limit",
        ).says("Most deliveries a second; null: no limit"),
        "timeout_s": seconds(0.05, 600).says("How long one attempt may take"),
        "retry": nested(_RETRY).says("How often, how far apart: exponential, with full jitter"),
        "when_exhausted": one_of(*get_args(WhenExhausted)).says(
            "What becomes of a message that is given up: it is put aside, or what comes after waits"
        ),
        "ack_deadline_s": seconds(0.05, 86400).says(
            "How long the verdict on a message that was answered `later` may take"
        ),
        "allow_later": flag().says(
            "Whether the endpoint may answer `later`; not with `at-most-once`, and only where "
            "BROKER_PUBLIC_URL is set"
        ),
        "consent": one_of(*get_args(Consent)).says(
            "Whether the endpoint is asked before anything is sent there, as CloudEvents says of "
            "webhooks: `required` waits until it agrees, `if-supported` also sends to one that "
            "knows nothing of being asked"
        ),
        "max_backlog_age_s": seconds(1, YEARS_S).says(
            "An older message that is still owed becomes a dead letter; null: never"
        ),
        "dead_letter_retention_s": seconds(1, YEARS_S).says("How long dead letters are kept"),
        "headers": _headers().says("Sent with each request; their values are not shown again"),
        "secret": _secret().says(
            "Signs requests as Standard Webhooks has it: `whsec_` and 24 to 64 bytes in base64. "
            "The broker makes one where none is given; one that is replaced signs for another day"
        ),
        "start": place_in_log().says(
            "Where a new subscription begins: `now`, `beginning`, a time, or a sequence. "
            "It says nothing to one that is there"
        ),
    },
).defaults({**_DEFAULTS, "retry": asdict(RetryPolicy()), "filters": [], "start": "now"})
ROTATION = Body(
    "Rotation",
    {
        "secret": _secret().says("The new secret; the broker makes one where none is given"),
        "overlap_s": seconds(0, 30 * 86400).says("How long the old secret signs as well"),
    },
).defaults({"overlap_s": SECRET_OVERLAP_S})
