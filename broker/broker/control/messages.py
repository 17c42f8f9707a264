"""`/v1/topics/{topic}/messages`: reading the log. Publishing is in broker.api.publish."""

from flask import Blueprint, Response

from broker.cloudevents import structured
from broker.control import bridge
from broker.control.operation import EVENT, OF_TOPIC, Content, Ref, operation
from broker.errors import MessageNotFound
from broker.queries import KEY, PAGE, TYPE
from broker.views import MessagesView, messages_view

blueprint = Blueprint("messages", __name__, url_prefix="/v1/topics/<topic>/messages")


@blueprint.get("")
@operation(query=(*PAGE, KEY, TYPE), refuses=OF_TOPIC)
def browse(topic: str, after: int, limit: int, key: str | None, type_: str | None) -> MessagesView:
    """Browse a topic's messages, oldest first."""
    to = bridge()
    messages, following = to.wait(to.broker.browse(topic, after, limit, key, type_))
    return messages_view(messages, following)


@blueprint.get("/<sequence:sequence>")
@operation(
    answers={200: Content({EVENT: Ref("StoredEvent")})}, refuses=(*OF_TOPIC, MessageNotFound)
)
def get_message(topic: str, sequence: int) -> Response:
    """Show one message as a structured CloudEvent."""
    to = bridge()
    message = to.wait(to.broker.message(topic, sequence))
    event = structured(message.attributes, message.data, message.seq)
    return Response(event, content_type=EVENT)
