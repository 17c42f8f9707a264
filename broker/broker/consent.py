"""An endpoint's consent to being sent webhooks: what it is asked, and what its answer means.

CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery", section 4. An answer's headers count and not
its status: a server that answers every OPTIONS by itself agrees to nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

Consent: TypeAlias = Literal["off", "if-supported", "required"]
ConsentState: TypeAlias = Literal["awaited", "refused", "agreed", "unsupported"]

ORIGIN = "broker"
"""What a broker is called that does not know under which name it is reached."""
MIN_PAUSE_S = 1.0
MAX_PAUSE_S = 300.0
_ALLOWED_ORIGIN, _ALLOWED_RATE = "webhook-allowed-origin", "webhook-allowed-rate"
_PASSING = frozenset({408, 429})


@dataclass(frozen=True, slots=True)
class Question:
    """What an endpoint is asked. `rate` is in requests a minute, None for any."""

    endpoint: str
    origin: str
    rate: int | None
    required: bool

    def headers(self) -> list[str]:
        """Render it as header lines of an OPTIONS request."""
        lines = [origin_line(self.origin)]
        if self.rate is not None:
            lines.append(f"webhook-request-rate: {self.rate}")
        return lines


@dataclass(frozen=True, slots=True)
class Agreement:
    """That an endpoint may be sent to, as it is kept. Rates are in requests a minute, None for any.

    `supported` is false where the endpoint knows nothing of being asked.
    """

    endpoint: str
    origin: str
    supported: bool = True
    asked_rate: int | None = None
    allowed_rate: int | None = None


@dataclass(frozen=True, slots=True)
class NoConsent:
    """Nothing may be sent yet, for this reason; `refused` means that the endpoint said no."""

    reason: str
    refused: bool = False


def origin_of(public_url: str | None) -> str:
    """Return the name under which the broker asks."""
    host = None if public_url is None else urlsplit(public_url).hostname
    return host if host is not None else ORIGIN


def origin_line(origin: str) -> str:
    """Render the header that a delivery has as well once there is consent."""
    return f"webhook-request-origin: {origin}"


def requests_a_minute(rate_limit: float | None) -> int | None:
    """Return what to ask for where there are so many deliveries a second at most."""
    return None if rate_limit is None else max(1, ceil(rate_limit * 60))


def covers(agreement: Agreement | None, question: Question) -> bool:
    """Say whether an agreement answers a question, so that it need not be asked.

    One that bounds the rate does not where the endpoint was asked for less.
    """
    if agreement is None or agreement.endpoint != question.endpoint:
        return False
    if not agreement.supported:
        return not question.required
    if agreement.origin != question.origin:
        return False
    if agreement.allowed_rate is None or agreement.asked_rate is None:
        return True
    return question.rate is not None and question.rate <= agreement.asked_rate


def judge(
    question: Question, status: int, headers: Mapping[str, str], error: str
) -> Agreement | NoConsent:
    """Say what an answer means. Names of headers are in lower case; status 0 is no answer."""
    if not status:
        return NoConsent(f"the endpoint could not be asked for its consent: {error}")
    told = f"asked for its consent, the endpoint answered {status}"
    if _ALLOWED_ORIGIN not in headers and _ALLOWED_RATE not in headers:
        if status in _PASSING or (status >= 500 and status != 501):
            return NoConsent(told)
        if question.required:
            return NoConsent(f"{told} without WebHook-Allowed-Origin, which is no consent")
        return Agreement(question.endpoint, question.origin, supported=False)
    allowed = headers.get(_ALLOWED_ORIGIN, "").strip()
    if allowed != "*" and allowed.lower() != question.origin.lower():
        instead = f'"{allowed[:200]}"' if allowed else "no origin"
        return NoConsent(f'{told} and allows {instead}, not "{question.origin}"', refused=True)
    rate = headers.get(_ALLOWED_RATE, "*").strip()
    if rate == "*":
        return Agreement(question.endpoint, question.origin, asked_rate=question.rate)
    if not (rate.isascii() and rate.isdigit() and len(rate) < 10 and int(rate)):
        rule = "which is neither requests a minute nor *"
        return NoConsent(f'{told} with WebHook-Allowed-Rate "{rate[:40]}", {rule}', refused=True)
    return Agreement(
        question.endpoint, question.origin, asked_rate=question.rate, allowed_rate=int(rate)
    )


def pause_s(asked: int) -> float:
    """Return how long to wait after the endpoint was asked so many times in vain."""
    return min(MAX_PAUSE_S, MIN_PAUSE_S * 2.0 ** min(asked - 1, 64))
