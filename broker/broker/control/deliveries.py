"""`…/subscriptions/{name}/deliveries` and `…/messages/{sequence}/attempts`."""

from flask import Blueprint

from broker.control import bridge
from broker.control.operation import NOTHING, OF_SUBSCRIPTION, OF_WRITING, operation
from broker.errors import DeliveryBusy, MessageNotFound, StoreUnavailable
from broker.queries import PAGE, STATE
from broker.views import ActedOnView, AttemptsView, DeliveriesView, Unsettled

blueprint = Blueprint("deliveries", __name__, url_prefix="/v1/topics/<topic>/subscriptions/<name>")
SEQUENCE = "<sequence:sequence>"
_ACTED_ON = (*OF_SUBSCRIPTION, MessageNotFound, DeliveryBusy, *OF_WRITING)


@blueprint.get("/deliveries")
@operation(query=(STATE, *PAGE), refuses=(*OF_SUBSCRIPTION, StoreUnavailable))
def list_deliveries(
    topic: str, name: str, state: Unsettled, after: int, limit: int
) -> DeliveriesView:
    """List what is not settled yet, by state."""
    to = bridge()
    found, following = to.wait(to.broker.deliveries.unsettled(topic, name, state, after, limit))
    return DeliveriesView(found, following)


@blueprint.post(f"/deliveries/{SEQUENCE}/retry")
@operation(body=NOTHING, refuses=_ACTED_ON)
def retry(topic: str, name: str, sequence: int) -> ActedOnView:
    """Attempt a blocked or retrying delivery now."""
    to = bridge()
    to.wait(to.broker.deliveries.retry(topic, name, sequence))
    return ActedOnView(sequence, "retrying")


@blueprint.post(f"/deliveries/{SEQUENCE}/dead-letter")
@operation(body=NOTHING, refuses=_ACTED_ON)
def dead_letter(topic: str, name: str, sequence: int) -> ActedOnView:
    """Give up a blocked or retrying delivery."""
    to = bridge()
    to.wait(to.broker.deliveries.dead_letter(topic, name, sequence))
    return ActedOnView(sequence, "dead")


@blueprint.get(f"/messages/{SEQUENCE}/attempts")
@operation(refuses=(*OF_SUBSCRIPTION, MessageNotFound))
def list_attempts(topic: str, name: str, sequence: int) -> AttemptsView:
    """List the failed attempts at a message."""
    to = bridge()
    return AttemptsView(to.wait(to.broker.deliveries.attempts(topic, name, sequence)))
