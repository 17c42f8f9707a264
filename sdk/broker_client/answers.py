"""What the broker answers over HTTP, and what a refusal means."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from broker_client.errors import BrokerRefused, BrokerUnavailable
from broker_client.retries import NOT_NOW

_FAR_S = 366 * 86400.0  # as good as for ever, and still a time that one can wait


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its HTTP status and its JSON body (None where it has none)."""

    status: int
    document: Any


def read_answer(response: httpx.Response) -> Answer:
    """Turn a response into an answer. Raises BrokerRefused, BrokerUnavailable."""
    if response.is_success:
        return Answer(response.status_code, _document(response))
    if response.is_client_error and response.status_code not in NOT_NOW:
        raise _refusal(response)
    raise BrokerUnavailable(
        f"the broker answered {response.status_code}: {_detail(response)}",
        status=response.status_code,
        retry_after_s=parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC)),
    )


def _document(response: httpx.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as error:
        raise BrokerUnavailable(
            "something other than the broker answered: no JSON", status=response.status_code
        ) from error


def _refusal(response: httpx.Response) -> BrokerRefused:
    problem = _problem(response)
    errors = problem.get("errors")
    return BrokerRefused(
        response.status_code,
        str(problem.get("code", "unknown")),
        _detail(response),
        [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else [],
    )


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _detail(response: httpx.Response) -> str:
    problem = _problem(response)
    return str(problem.get("detail") or problem.get("title") or response.reason_phrase)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds a Retry-After header asks for; None where it asks for nothing readable."""
    if value is None:
        return None
    asked = value.strip(" \t")
    if asked.isascii() and asked.isdigit():
        return min(float(asked), _FAR_S)
    try:
        at = parsedate_to_datetime(asked)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
