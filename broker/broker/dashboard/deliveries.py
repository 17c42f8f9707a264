"""`…/subscriptions/{name}/deliveries/{sequence}`: what somebody decides about one delivery."""

from flask import Blueprint, redirect, url_for
from werkzeug.wrappers import Response

from broker.control import bridge
from broker.control.permissions import PERMISSIONS, caller
from broker.dashboard.page import page

blueprint = Blueprint(
    "deliveries",
    __name__,
    url_prefix="/topics/<topic>/subscriptions/<name>/deliveries/<sequence:sequence>",
)


@blueprint.post("/retry")
def retry(topic: str, name: str, sequence: int) -> Response:
    """Attempt it now."""
    to = bridge()
    to.wait(to.broker.deliveries.retry(topic, name, sequence))
    return _back(topic, name, sequence, "retried")


@blueprint.get("/dead-letter")
def ask_to_dead_letter(topic: str, name: str, sequence: int) -> str:
    """Ask before it is given up."""
    to = bridge()
    to.wait(to.broker.deliveries.fate(topic, name, sequence))
    return page("give_up.html", topic=topic, name=name, sequence=sequence)


@blueprint.post("/dead-letter")
def dead_letter(topic: str, name: str, sequence: int) -> Response:
    """Give it up."""
    to = bridge()
    to.wait(to.broker.deliveries.dead_letter(topic, name, sequence))
    return _back(topic, name, sequence, "given-up")


def _back(topic: str, name: str, sequence: int, done: str) -> Response:
    if caller().may(PERMISSIONS["messages.get_message"].actions, topic):
        place = url_for(
            "dashboard.messages.show_message", topic=topic, sequence=sequence, done=done
        )
    else:
        place = url_for("dashboard.subscriptions.show_subscription", topic=topic, name=name)
    return redirect(place, 303)
