"""`…/subscriptions/{name}/dead-letters`: what was given up, and giving it another chance."""

import msgspec
from flask import Blueprint, redirect, request, url_for
from msgspec import Struct
from werkzeug.wrappers import Response

from broker.control import bridge
from broker.dashboard.page import page
from broker.dashboard.wording import data_as_text
from broker.queries import AFTER
from broker.views import DeadLetterView

blueprint = Blueprint(
    "dead_letters", __name__, url_prefix="/topics/<topic>/subscriptions/<name>/dead-letters"
)
LENGTH = 25
ONE = "/<sequence:sequence>"


class Event(Struct):
    """What a list tells of a message, whose data may be large."""

    id: str
    type: str


@blueprint.get("")
def list_dead_letters(topic: str, name: str) -> str:
    """List what was given up."""
    to = bridge()
    after = request.args.get("after", 0, AFTER.read)
    found, following = to.wait(to.broker.deliveries.dead_letters(topic, name, after, LENGTH))
    return page(
        "dead_letters.html",
        topic=topic,
        name=name,
        letters=[(letter, _event(letter), data_as_text(bytes(letter.message))) for letter in found],
        after=after,
        following=following,
    )


@blueprint.get("/replay")
def ask_to_replay(topic: str, name: str) -> str:
    """Ask before all of them are owed again."""
    to = bridge()
    view = to.wait(to.broker.subscription_view(topic, name))
    return page("replay.html", view=view)


@blueprint.post("/replay")
def replay(topic: str, name: str) -> Response:
    """Make one of them owed again, or all."""
    to, all_ = bridge(), request.form.get("all") == "true"
    body: dict[str, object] = (
        {"all": True} if all_ else {"sequences": [_sequence(request.form.get("sequence", ""))]}
    )
    to.wait(to.broker.deliveries.replay(topic, name, body))
    return _back(topic, name, "replayed")


@blueprint.get(f"{ONE}/delete")
def ask_to_delete_dead_letter(topic: str, name: str, sequence: int) -> str:
    """Ask before one is forgotten."""
    to = bridge()
    letter = to.wait(to.broker.deliveries.dead_letter_of(topic, name, sequence))
    return page(
        "delete_dead_letter.html", topic=topic, name=name, letter=letter, event=_event(letter)
    )


@blueprint.post(f"{ONE}/delete")
def delete_dead_letter(topic: str, name: str, sequence: int) -> Response:
    """Forget one."""
    to = bridge()
    to.wait(to.broker.deliveries.delete_dead_letter(topic, name, sequence))
    return _back(topic, name, "dropped")


def _event(letter: DeadLetterView) -> Event:
    return msgspec.json.decode(letter.message, type=Event)


def _sequence(text: str) -> object:
    """Return the number that a text says; the call itself refuses what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 16 else text


def _back(topic: str, name: str, done: str) -> Response:
    return redirect(url_for(".list_dead_letters", topic=topic, name=name, done=done), 303)
