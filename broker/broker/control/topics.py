"""`/v1/topics`."""

from collections.abc import Mapping

from flask import Blueprint

from broker import topic as topic_fields
from broker.control import bridge
from broker.control.operation import OF_EDITING, OF_TOPIC, OF_WRITING, Put, operation
from broker.control.permissions import PERMISSIONS, caller
from broker.errors import TooManyTopics, TopicInUse
from broker.queries import FORCE
from broker.views import TopicsView, TopicView

blueprint = Blueprint("topics", __name__, url_prefix="/v1/topics")


@blueprint.get("")
@operation()
def list_topics() -> TopicsView:
    """List the topics that the caller's key is for."""
    to, who = bridge(), caller()
    actions = PERMISSIONS["topics.get_topic"].actions

    async def listed() -> list[TopicView]:
        return to.broker.list_topics(lambda name: who.may(actions, name))

    return TopicsView(to.wait(listed()))


@blueprint.put("/<topic>")
@operation(body=topic_fields.FIELDS, refuses=(TooManyTopics, *OF_EDITING))
def put_topic(topic: str, body: Mapping[str, object]) -> tuple[TopicView, Put]:
    """Create or update a topic.

    A field that is left out keeps its value, null restores the default.
    """
    to = bridge()
    created, view = to.wait(to.broker.put_topic(topic, body))
    return view, 201 if created else 200


@blueprint.get("/<topic>")
@operation(refuses=OF_TOPIC)
def get_topic(topic: str) -> TopicView:
    """Show a topic."""
    to = bridge()

    async def shown() -> TopicView:
        return to.broker.topic_view(topic)

    return to.wait(shown())


@blueprint.delete("/<topic>")
@operation(query=(FORCE,), refuses=(*OF_TOPIC, TopicInUse, *OF_WRITING))
def delete_topic(topic: str, force: bool) -> None:
    """Delete a topic and what it holds."""
    to = bridge()
    to.wait(to.broker.delete_topic(topic, force=force))
