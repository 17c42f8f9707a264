"""`/subscriptions` and `/topics/{topic}/subscriptions/{name}`: how each stands, and its acts."""

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response

from broker.control import bridge
from broker.control.permissions import PERMISSIONS, caller
from broker.dashboard.page import page, pages_of
from broker.dashboard.snapshot import latest, worst_first
from broker.errors import BrokerError
from broker.views import DeliveryView, SubscriptionView, Unsettled

blueprint = Blueprint("subscriptions", __name__)
ONE = "/topics/<topic>/subscriptions/<name>"
LENGTH = 50
SHOWN = 10


@blueprint.get("/subscriptions")
def list_subscriptions() -> str:
    """List the subscriptions that who looks may see."""
    wanted = request.args.get("q", "").strip()
    troubled = request.args.get("troubled") == "1"
    who, actions = caller(), PERMISSIONS["subscriptions.get_subscription"].actions
    snapshot = latest()
    found = worst_first(
        each
        for each in snapshot.standings
        if who.may(actions, each.topic)
        and wanted.lower() in f"{each.topic}/{each.name}".lower()
        and (each.troubles or not troubled)
    )
    shown, number, last = pages_of(len(found), request.args.get("page", 1, int), LENGTH)
    return page(
        "subscriptions.html",
        standings=found[shown],
        count=len(found),
        number=number,
        last=last,
        q=wanted,
        troubled=troubled,
        missing=snapshot.missing,
    )


@blueprint.get(ONE)
def show_subscription(topic: str, name: str) -> str:
    """Show a subscription, and some of what it is owed in each state."""
    to = bridge()
    view = to.wait(to.broker.subscription_view(topic, name))
    owed: dict[str, list[DeliveryView]] = {}
    for state in _states_of(view):
        owed[state], _ = to.wait(to.broker.deliveries.unsettled(topic, name, state, 0, SHOWN))
    return page("subscription.html", view=view, owed=owed, shown=SHOWN)


@blueprint.post(f"{ONE}/pause")
def pause(topic: str, name: str) -> Response:
    """Have its messages wait."""
    to = bridge()
    to.wait(to.broker.set_paused(topic, name, "paused by request"))
    return _back(topic, name, "paused")


@blueprint.post(f"{ONE}/resume")
def resume(topic: str, name: str) -> Response:
    """Let it go on."""
    to = bridge()
    to.wait(to.broker.set_paused(topic, name, None))
    return _back(topic, name, "resumed")


@blueprint.get(f"{ONE}/rotate-secret")
def ask_to_rotate_secret(topic: str, name: str) -> str:
    """Ask before the secret is replaced."""
    _require(topic, name)
    return page("rotate_secret.html", topic=topic, name=name, made=None)


@blueprint.post(f"{ONE}/rotate-secret")
def rotate_secret(topic: str, name: str) -> str:
    """Replace the secret, and show the new one this once."""
    to = bridge()
    made = to.wait(to.broker.rotate_secret(topic, name, {}))
    return page("rotate_secret.html", topic=topic, name=name, made=made)


@blueprint.get(f"{ONE}/seek")
def ask_to_seek(topic: str, name: str) -> str | tuple[str, int]:
    """Say what a subscription would be owed from a place on, and ask."""
    _require(topic, name)
    to, backlog, refused = request.args.get("to", "").strip(), None, None
    if to:
        try:
            backlog = _seek(topic, name, to, dry_run=True)
        except BrokerError as error:
            refused = error
    shown = page("seek.html", topic=topic, name=name, to=to, backlog=backlog, refused=refused)
    return shown if refused is None else (shown, refused.status)


@blueprint.post(f"{ONE}/seek")
def seek(topic: str, name: str) -> Response:
    """Move it."""
    _seek(topic, name, request.form.get("to", ""), dry_run=False)
    return _back(topic, name, "moved")


@blueprint.get(f"{ONE}/delete")
def ask_to_delete_subscription(topic: str, name: str) -> str:
    """Ask before a subscription is gone with what it is owed."""
    to = bridge()
    view = to.wait(to.broker.subscription_view(topic, name))
    return page("delete_subscription.html", view=view)


@blueprint.post(f"{ONE}/delete")
def delete_subscription(topic: str, name: str) -> Response:
    """Delete it."""
    to = bridge()
    to.wait(to.broker.delete_subscription(topic, name))
    return redirect(url_for("dashboard.topics.show_topic", topic=topic, done="deleted"), 303)


def _states_of(view: SubscriptionView) -> list[Unsettled]:
    """Return in which states there may be deliveries, those that wait for somebody first."""
    waits = view.retrying > 0 or view.blocked_keys > 0
    may_be: dict[Unsettled, bool] = {
        "blocked": view.when_exhausted == "block" or view.blocked_keys > 0,
        "retrying": view.retrying > 0,
        "in-flight": view.in_flight > 0,
        "waiting": waits and view.ordering == "key",
    }
    return [state for state, so in may_be.items() if so]


def _seek(topic: str, name: str, place: str, *, dry_run: bool) -> int:
    to = bridge()
    body: dict[str, object] = {"to": int(place) if _is_sequence(place) else place}
    return to.wait(to.broker.deliveries.seek(topic, name, {**body, "dry_run": dry_run}))


def _is_sequence(place: str) -> bool:
    return place.isascii() and place.isdigit() and len(place) <= 16


def _require(topic: str, name: str) -> None:
    """Raise TopicNotFound or SubscriptionNotFound where there is nothing to ask about."""
    to = bridge()

    async def found() -> None:
        to.broker.subscription(topic, name)

    to.wait(found())


def _back(topic: str, name: str, done: str) -> Response:
    return redirect(url_for(".show_subscription", topic=topic, name=name, done=done), 303)
