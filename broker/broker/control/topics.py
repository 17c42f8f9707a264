"""`/v1/topics`."""

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from broker.control import bridge
from broker.control.bodies import json_object, query_flag
from broker.control.permissions import PERMISSIONS, caller

blueprint = Blueprint("topics", __name__, url_prefix="/v1/topics")


@blueprint.get("")
def list_topics() -> ResponseReturnValue:
    """List the topics that the caller's key is for."""
    to, who = bridge(), caller()
    actions = PERMISSIONS["topics.get_topic"].actions

    async def listed() -> list[dict[str, object]]:
        return to.broker.list_topics(lambda name: who.may(actions, name))

    return {"topics": to.wait(listed())}


@blueprint.put("/<topic>")
def put_topic(topic: str) -> ResponseReturnValue:
    """Create or update a topic."""
    to = bridge()
    created, view = to.wait(to.broker.put_topic(topic, json_object(request)))
    return view, 201 if created else 200


@blueprint.get("/<topic>")
def get_topic(topic: str) -> ResponseReturnValue:
    """Show a topic."""
    to = bridge()

    async def shown() -> dict[str, object]:
        return to.broker.topic_view(topic)

    return to.wait(shown())


@blueprint.delete("/<topic>")
def delete_topic(topic: str) -> ResponseReturnValue:
    """Delete a topic and what it holds."""
    to = bridge()
    to.wait(to.broker.delete_topic(topic, force=query_flag(request, "force")))
    return "", 204
