"""What an endpoint's answer to a batch says of single positions."""

import msgspec

from broker.dispatch.frames import Outcome
from broker.dispatch.policy import Dead, Decision, succeeded


class _Answer(msgspec.Struct):
    retry: list[int] = []
    dead_letter: list[int] = []


_decode = msgspec.json.Decoder(_Answer).decode


def positions_of(outcome: Outcome, size: int) -> dict[int, Decision | None] | None:
    """Return what each position singled out by a 2xx answer gets, None for a retry by the policy.

    Returns None where the answer singles out nothing. An answer that is no such JSON acks all, as a
    2xx does; positions outside the batch are ignored.
    """
    if not outcome.body or not succeeded(outcome):
        return None
    try:
        answer = _decode(outcome.body)
    except (msgspec.DecodeError, RecursionError):
        return None
    singled: dict[int, Decision | None] = {
        position: Dead("the endpoint asked for a dead letter")
        for position in answer.dead_letter
        if 0 <= position < size
    }
    singled.update({position: None for position in answer.retry if 0 <= position < size})
    return singled or None


def asked_to_retry(outcome: Outcome) -> Outcome:
    """Turn an accepted request into the failed attempt it is for positions to be sent again."""
    return msgspec.structs.replace(outcome, status=0, error="the endpoint asked for a retry")
