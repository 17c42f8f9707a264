"""`/v1/acks/{topic}/{subscription}/{token}`: the ack URL of a delivery answered `later`."""

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from broker.control import bridge
from broker.control.bodies import json_object

blueprint = Blueprint("acks", __name__, url_prefix="/v1/acks/<topic>/<name>")


@blueprint.post("/<token>")
def conclude(topic: str, name: str, token: str) -> ResponseReturnValue:
    """Take the verdict on a delivery."""
    to = bridge()
    body = json_object(request)
    return {"result": to.wait(to.broker.deliveries.conclude(topic, name, token, body))}
