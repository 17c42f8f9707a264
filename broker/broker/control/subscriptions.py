"""`/v1/topics/{topic}/subscriptions`."""

from collections.abc import Mapping

from flask import Blueprint

from broker import deliveries
from broker import subscription as subscription_fields
from broker.control import bridge
from broker.control.operation import (
    NOTHING,
    OF_EDITING,
    OF_GROWING,
    OF_SUBSCRIPTION,
    OF_TOPIC,
    OF_WRITING,
    Put,
    operation,
)
from broker.errors import MessageNotFound, StorageFull
from broker.views import BacklogView, SecretView, SubscriptionsView, SubscriptionView

blueprint = Blueprint("subscriptions", __name__, url_prefix="/v1/topics/<topic>/subscriptions")


@blueprint.get("")
@operation(refuses=OF_TOPIC)
def list_subscriptions(topic: str) -> SubscriptionsView:
    """List a topic's subscriptions."""
    to = bridge()
    return SubscriptionsView(to.wait(to.broker.list_subscriptions(topic)))


@blueprint.put("/<name>")
@operation(
    body=subscription_fields.FIELDS,
    refuses=(*OF_TOPIC, *OF_GROWING, *OF_EDITING, StorageFull),
)
def put_subscription(
    topic: str, name: str, body: Mapping[str, object]
) -> tuple[SubscriptionView, Put]:
    """Create or update a subscription.

    A field that is left out keeps its value, null restores the default. A topic that is not there
    is made, unless BROKER_AUTO_CREATE_TOPICS is off. The answer to the creation has the secret,
    which is shown nowhere else.
    """
    to = bridge()
    created, view = to.wait(to.broker.put_subscription(topic, name, body))
    return view, 201 if created else 200


@blueprint.get("/<name>")
@operation(refuses=OF_SUBSCRIPTION)
def get_subscription(topic: str, name: str) -> SubscriptionView:
    """Show a subscription and how far it is."""
    to = bridge()
    return to.wait(to.broker.subscription_view(topic, name))


@blueprint.post("/<name>/pause")
@operation(body=NOTHING, refuses=(*OF_SUBSCRIPTION, *OF_EDITING))
def pause(topic: str, name: str) -> SubscriptionView:
    """Have a subscription's messages wait."""
    to = bridge()
    return to.wait(to.broker.set_paused(topic, name, "paused by request"))


@blueprint.post("/<name>/resume")
@operation(body=NOTHING, refuses=(*OF_SUBSCRIPTION, *OF_EDITING))
def resume(topic: str, name: str) -> SubscriptionView:
    """Let a paused subscription go on."""
    to = bridge()
    return to.wait(to.broker.set_paused(topic, name, None))


@blueprint.post("/<name>/rotate-secret")
@operation(body=subscription_fields.ROTATION, refuses=(*OF_SUBSCRIPTION, *OF_EDITING))
def rotate_secret(topic: str, name: str, body: Mapping[str, object]) -> SecretView:
    """Make a new secret; the one before signs as well for a while."""
    to = bridge()
    return to.wait(to.broker.rotate_secret(topic, name, body))


@blueprint.post("/<name>/seek")
@operation(body=deliveries.SEEK, refuses=(*OF_SUBSCRIPTION, MessageNotFound, *OF_WRITING))
def seek(topic: str, name: str, body: Mapping[str, object]) -> BacklogView:
    """Move a subscription to a time or place."""
    to = bridge()
    return BacklogView(to.wait(to.broker.deliveries.seek(topic, name, body)))


@blueprint.delete("/<name>")
@operation(refuses=(*OF_SUBSCRIPTION, *OF_WRITING))
def delete_subscription(topic: str, name: str) -> None:
    """Delete a subscription and what it holds."""
    to = bridge()
    to.wait(to.broker.delete_subscription(topic, name))
