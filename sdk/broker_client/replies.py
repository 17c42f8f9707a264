"""What a webhook endpoint answers, by the outcomes of its deliveries. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker_client.reception import Outcome

PROBLEM = "application/problem+json"

_VERDICT_STATUS = {"retry": 200, "dead-letter": 200, "later": 202}
# A sender that reads only the status would take a verdict beside a 2xx for an ack, and lose the
# message. These say the same by themselves: 422 is given up at once, 409 is tried again.
_TELLING_STATUS = {"retry": 409, "dead-letter": 422}


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; `document` is its JSON body, None for none."""

    status: int
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


def problem(status: int, code: str, title: str, detail: str) -> Reply:
    """Refuse a request, as RFC 9457 says."""
    document = {
        "type": f"https://errors.broker.example/{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
    }
    return Reply(status, document, content_type=PROBLEM)


def reply_to_one(outcome: Outcome, *, by_status: bool = False) -> Reply:
    """Answer a request that brought one event; `by_status` where verdicts may not be understood."""
    if outcome.done:
        return Reply(204, headers=_receipt([outcome]))
    if outcome.kind == "failed":
        return _failed()
    headers: dict[str, str] = {"Webhook-Verdict": outcome.kind}
    if outcome.after_s is not None:
        headers["Retry-After"] = str(math.ceil(outcome.after_s))
    document = {"verdict": outcome.kind, "reason": outcome.reason}
    statuses = _TELLING_STATUS if by_status else _VERDICT_STATUS
    return Reply(statuses[outcome.kind], document, headers)


def reply_to_batch(outcomes: Sequence[Outcome]) -> Reply:
    """Answer a request that brought a batch: single out by position what is not done."""
    kinds = {outcome.kind for outcome in outcomes}
    receipt = _receipt(outcomes)
    if all(outcome.done for outcome in outcomes):
        return Reply(204, headers=receipt)
    if "failed" in kinds and kinds <= {"failed", "retry"}:
        return _failed()
    singled_out = {
        "retry": _positions(outcomes, "retry", "failed"),
        "dead_letter": _positions(outcomes, "dead-letter"),
    }
    return Reply(200, singled_out, receipt)


def _receipt(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Vouch for what the inbox knows; it covers no position that is singled out."""
    kinds = {outcome.kind for outcome in outcomes}
    for receipt in ("processed", "duplicate"):
        if receipt in kinds:
            return {"Webhook-Receipt": receipt}
    return {}


def _positions(outcomes: Sequence[Outcome], *kinds: str) -> list[int]:
    return [position for position, outcome in enumerate(outcomes) if outcome.kind in kinds]


def _failed() -> Reply:
    return problem(
        500,
        "handler_failed",
        "The handler failed",
        "Nothing of the message was committed; the application's log has the reason.",
    )
