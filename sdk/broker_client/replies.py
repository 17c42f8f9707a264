"""What a webhook endpoint answers, by the outcomes of its deliveries. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker_client.reception import Outcome

PROBLEM = "application/problem+json"

# What a broker does that reads only the status is what the verdict says: 422 is given up at once,
# 409 tried again; a verdict beside a 2xx would be taken for an ack by one that does not know it.
_VERDICT_STATUS = {"retry": 409, "dead-letter": 422}


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


def reply_to_one(outcome: Outcome) -> Reply:
    """Answer a request that brought one event."""
    if outcome.done:
        return Reply(204, headers={"Webhook-Receipt": outcome.kind})
    if outcome.kind == "failed":
        return _failed()
    headers: dict[str, str] = {"Webhook-Verdict": outcome.kind}
    if outcome.after_s is not None:
        headers["Retry-After"] = str(math.ceil(outcome.after_s))
    document = {"verdict": outcome.kind, "reason": outcome.reason}
    return Reply(_VERDICT_STATUS[outcome.kind], document, headers)


def reply_to_batch(outcomes: Sequence[Outcome]) -> Reply:
    """Answer a request that brought a batch: single out by position what is not done."""
    receipt = _receipt(outcomes)
    if all(outcome.done for outcome in outcomes):
        return Reply(204, headers=receipt)
    if not receipt and not any(outcome.kind == "dead-letter" for outcome in outcomes):
        return _failed()
    singled_out = {
        "retry": _positions(outcomes, "retry", "failed"),
        "dead_letter": _positions(outcomes, "dead-letter"),
    }
    return Reply(200, singled_out, receipt)


def _receipt(outcomes: Sequence[Outcome]) -> dict[str, str]:
    done = {outcome.kind for outcome in outcomes if outcome.done}
    if not done:
        return {}
    return {"Webhook-Receipt": "processed" if "processed" in done else "duplicate"}


def _positions(outcomes: Sequence[Outcome], *kinds: str) -> list[int]:
    return [position for position, outcome in enumerate(outcomes) if outcome.kind in kinds]


def _failed() -> Reply:
    return problem(
        500,
        "handler_failed",
        "The handler failed",
        "Nothing of the message was committed; the application's log has the reason.",
    )
