"""Calls that are answered before Flask is asked, in the route map for what reads it."""

from typing import NoReturn

from flask import Blueprint

from broker.errors import RouteNotFound

blueprint = Blueprint("hot", __name__)
SUBSCRIPTION = "/v1/topics/<topic>/subscriptions/<name>"


def _elsewhere() -> NoReturn:
    raise RouteNotFound


@blueprint.post("/v1/topics/<topic>/messages")
def publish(topic: str) -> NoReturn:
    """Append one message or a batch."""
    _elsewhere()


@blueprint.get("/v1/topics/<topic>/stream")
def stream(topic: str) -> NoReturn:
    """Send a topic's messages as they come."""
    _elsewhere()


@blueprint.post(f"{SUBSCRIPTION}/pull")
def pull(topic: str, name: str) -> NoReturn:
    """Hand out deliveries."""
    _elsewhere()


@blueprint.post(f"{SUBSCRIPTION}/ack")
def ack(topic: str, name: str) -> NoReturn:
    """Settle what was pulled."""
    _elsewhere()


@blueprint.post(f"{SUBSCRIPTION}/nack")
def nack(topic: str, name: str) -> NoReturn:
    """Hand back what was pulled."""
    _elsewhere()


@blueprint.post(f"{SUBSCRIPTION}/extend")
def extend(topic: str, name: str) -> NoReturn:
    """Keep what was pulled for longer."""
    _elsewhere()


@blueprint.post("/produce")
def produce() -> NoReturn:
    """Store a message, as the original example has it."""
    _elsewhere()


@blueprint.post("/subscribe")
def subscribe() -> NoReturn:
    """Make a subscriber, as the original example has it."""
    _elsewhere()


@blueprint.get("/consume")
def consume() -> NoReturn:
    """Hand out a message, as the original example has it."""
    _elsewhere()
