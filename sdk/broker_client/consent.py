"""What a webhook endpoint answers a broker that asks for its consent. Pure.

CloudEvents, "HTTP 1.1 Web Hooks for Event Delivery", section 4.
"""

from collections.abc import Sequence
from dataclasses import replace

from broker_client.replies import Reply, problem

ANY = "*"
_ALLOW = {"Allow": "OPTIONS, POST"}


def reply_to_question(origins: Sequence[str], origin: str | None) -> Reply:
    """Agree to the broker named `origin` if it is one of `origins`, or these have `*`.

    Without origins, or a question, it is what OPTIONS says anywhere, which is no consent.
    """
    if not origins or origin is None:
        return Reply(204, headers=_ALLOW)
    if ANY in origins or origin.lower() in origins:
        allowed = ANY if ANY in origins else origin
        agreed = {**_ALLOW, "WebHook-Allowed-Origin": allowed, "WebHook-Allowed-Rate": ANY}
        return Reply(204, headers=agreed)
    refusal = problem(
        403,
        "origin_refused",
        "This broker may not deliver here",
        "BROKER_WEBHOOK_ORIGINS of the application says which brokers may.",
    )
    # A name that is not the broker's own is a refusal; no name would be no answer to its question.
    return replace(refusal, headers={**_ALLOW, "WebHook-Allowed-Origin": origins[0]})
