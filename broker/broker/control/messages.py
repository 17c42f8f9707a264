"""`/v1/topics/{topic}/messages`: reading the log. Publishing is in broker.api.publish."""

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue

from broker.cloudevents import structured
from broker.control import bridge
from broker.control.bodies import query_integer
from broker.model import MAX_SEQUENCE
from broker.service import MAX_PAGE
from broker.views import messages_page

blueprint = Blueprint("messages", __name__, url_prefix="/v1/topics/<topic>/messages")


@blueprint.get("")
def browse(topic: str) -> ResponseReturnValue:
    """Browse a topic's messages, oldest first."""
    to = bridge()
    after = query_integer(request, "after", 0, 0, MAX_SEQUENCE)
    limit = query_integer(request, "limit", 100, 1, MAX_PAGE)
    key, type_ = request.args.get("key"), request.args.get("type")
    messages, following = to.wait(to.broker.browse(topic, after, limit, key, type_))
    return Response(messages_page(list(messages), following), content_type="application/json")


@blueprint.get("/<sequence:sequence>")
def get_message(topic: str, sequence: int) -> ResponseReturnValue:
    """Show one message as a structured CloudEvent."""
    to = bridge()
    message = to.wait(to.broker.message(topic, sequence))
    event = structured(message.attributes, message.data, message.seq)
    return Response(event, content_type="application/cloudevents+json; charset=UTF-8")
