"""`…/subscriptions/{name}/deliveries` and `…/messages/{sequence}/attempts`."""

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from broker.control import bridge
from broker.control.bodies import json_object, query_choice, query_integer
from broker.deliveries import STATES
from broker.model import MAX_SEQUENCE
from broker.service import MAX_PAGE

blueprint = Blueprint("deliveries", __name__, url_prefix="/v1/topics/<topic>/subscriptions/<name>")
SEQUENCE = "<sequence:sequence>"


@blueprint.get("/deliveries")
def list_deliveries(topic: str, name: str) -> ResponseReturnValue:
    """List what is not settled yet, by state."""
    to = bridge()
    state = query_choice(request, "state", STATES)
    after = query_integer(request, "after", 0, 0, MAX_SEQUENCE)
    limit = query_integer(request, "limit", 100, 1, MAX_PAGE)
    found, following = to.wait(to.broker.deliveries.unsettled(topic, name, state, after, limit))
    return {"deliveries": found, "next": following}


@blueprint.post(f"/deliveries/{SEQUENCE}/retry")
def retry(topic: str, name: str, sequence: int) -> ResponseReturnValue:
    """Attempt a blocked or retrying delivery now."""
    json_object(request)
    to = bridge()
    to.wait(to.broker.deliveries.retry(topic, name, sequence))
    return {"sequence": sequence, "state": "retrying"}


@blueprint.post(f"/deliveries/{SEQUENCE}/dead-letter")
def dead_letter(topic: str, name: str, sequence: int) -> ResponseReturnValue:
    """Give up a blocked or retrying delivery."""
    json_object(request)
    to = bridge()
    to.wait(to.broker.deliveries.dead_letter(topic, name, sequence))
    return {"sequence": sequence, "state": "dead"}


@blueprint.get(f"/messages/{SEQUENCE}/attempts")
def list_attempts(topic: str, name: str, sequence: int) -> ResponseReturnValue:
    """List the failed attempts at a message."""
    to = bridge()
    return {"attempts": to.wait(to.broker.deliveries.attempts(topic, name, sequence))}
