"""`/v1/acks/{topic}/{subscription}/{token}`: the ack URL of a delivery answered `later`."""

from collections.abc import Mapping

from flask import Blueprint

from broker import deliveries
from broker.control import bridge
from broker.control.operation import OF_SUBSCRIPTION, OF_WRITING, operation
from broker.errors import InvalidAckUrl, MessageNotFound
from broker.views import ConcludedView

blueprint = Blueprint("acks", __name__, url_prefix="/v1/acks/<topic>/<name>")


@blueprint.post("/<token>")
@operation(
    body=deliveries.VERDICT,
    refuses=(*OF_SUBSCRIPTION, InvalidAckUrl, MessageNotFound, *OF_WRITING),
)
def conclude(topic: str, name: str, token: str, body: Mapping[str, object]) -> ConcludedView:
    """Take the verdict on a delivery that was answered `later`.

    The URL came with the request as `webhook-ack-url`. It needs no key, for it is signed.
    """
    to = bridge()
    return ConcludedView(to.wait(to.broker.deliveries.conclude(topic, name, token, body)))
