"""`…/subscriptions/{name}/dead-letters`."""

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from broker.control import bridge
from broker.control.bodies import json_object, query_integer
from broker.model import MAX_SEQUENCE
from broker.service import MAX_PAGE

blueprint = Blueprint(
    "dead_letters", __name__, url_prefix="/v1/topics/<topic>/subscriptions/<name>/dead-letters"
)
SEQUENCE = "<sequence:sequence>"


@blueprint.get("")
def list_dead_letters(topic: str, name: str) -> ResponseReturnValue:
    """List what was given up."""
    to = bridge()
    after = query_integer(request, "after", 0, 0, MAX_SEQUENCE)
    limit = query_integer(request, "limit", 100, 1, MAX_PAGE)
    found, following = to.wait(to.broker.deliveries.dead_letters(topic, name, after, limit))
    return {"dead_letters": found, "next": following}


@blueprint.get(f"/{SEQUENCE}")
def get_dead_letter(topic: str, name: str, sequence: int) -> ResponseReturnValue:
    """Show one dead letter with its failed attempts."""
    to = bridge()
    return to.wait(to.broker.deliveries.dead_letter_of(topic, name, sequence))


@blueprint.post("/replay")
def replay(topic: str, name: str) -> ResponseReturnValue:
    """Make dead letters owed again."""
    to = bridge()
    return {"replayed": to.wait(to.broker.deliveries.replay(topic, name, json_object(request)))}


@blueprint.delete(f"/{SEQUENCE}")
def delete_dead_letter(topic: str, name: str, sequence: int) -> ResponseReturnValue:
    """Forget a dead letter."""
    to = bridge()
    to.wait(to.broker.deliveries.delete_dead_letter(topic, name, sequence))
    return "", 204
