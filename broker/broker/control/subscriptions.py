"""`/v1/topics/{topic}/subscriptions`."""

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from broker.control import bridge
from broker.control.bodies import json_object

blueprint = Blueprint("subscriptions", __name__, url_prefix="/v1/topics/<topic>/subscriptions")


@blueprint.get("")
def list_subscriptions(topic: str) -> ResponseReturnValue:
    """List a topic's subscriptions."""
    to = bridge()
    return {"subscriptions": to.wait(to.broker.list_subscriptions(topic))}


@blueprint.put("/<name>")
def put_subscription(topic: str, name: str) -> ResponseReturnValue:
    """Create or update a subscription."""
    to = bridge()
    created, view = to.wait(to.broker.put_subscription(topic, name, json_object(request)))
    return view, 201 if created else 200


@blueprint.get("/<name>")
def get_subscription(topic: str, name: str) -> ResponseReturnValue:
    """Show a subscription and how far it is."""
    to = bridge()
    return to.wait(to.broker.subscription_view(topic, name))


@blueprint.post("/<name>/pause")
def pause(topic: str, name: str) -> ResponseReturnValue:
    """Have a subscription's messages wait."""
    json_object(request)
    to = bridge()
    return to.wait(to.broker.set_paused(topic, name, "paused by request"))


@blueprint.post("/<name>/resume")
def resume(topic: str, name: str) -> ResponseReturnValue:
    """Let a paused subscription go on."""
    json_object(request)
    to = bridge()
    return to.wait(to.broker.set_paused(topic, name, None))


@blueprint.post("/<name>/rotate-secret")
def rotate_secret(topic: str, name: str) -> ResponseReturnValue:
    """Make a new secret; the one before signs as well for a while."""
    to = bridge()
    return to.wait(to.broker.rotate_secret(topic, name, json_object(request)))


@blueprint.post("/<name>/seek")
def seek(topic: str, name: str) -> ResponseReturnValue:
    """Move a subscription to a time or place."""
    to = bridge()
    return {"backlog": to.wait(to.broker.deliveries.seek(topic, name, json_object(request)))}


@blueprint.delete("/<name>")
def delete_subscription(topic: str, name: str) -> ResponseReturnValue:
    """Delete a subscription and what it holds."""
    to = bridge()
    to.wait(to.broker.delete_subscription(topic, name))
    return "", 204
