"""`/keys`: who may do what, and how much each may publish."""

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response

from broker.control import bridge
from broker.dashboard.page import page, pages_of
from broker.errors import BrokerError
from broker.views import KeyView

blueprint = Blueprint("keys", __name__, url_prefix="/keys")
LENGTH = 50


@blueprint.get("")
def list_keys() -> str:
    """List the keys, without the keys themselves."""
    to = bridge()

    async def listed() -> list[KeyView]:
        return to.broker.keys.list_keys()

    keys = to.wait(listed())
    shown, number, last = pages_of(len(keys), request.args.get("page", 1, int), LENGTH)
    return page("keys.html", keys=keys[shown], number=number, last=last)


@blueprint.get("/<id_>")
def show_key(id_: str) -> str:
    """Show a key, and how to change it."""
    return _shown(id_)


@blueprint.post("/<id_>")
def change_key(id_: str) -> Response | tuple[str, int]:
    """Change how much a key may publish; an empty field takes the limit away."""
    given = request.form.get("publish_rate", "").strip()
    to = bridge()
    try:
        to.wait(to.broker.keys.update(id_, {"publish_rate": _number_in(given)}))
    except BrokerError as refused:
        return _shown(id_, given, refused), refused.status
    return redirect(url_for(".show_key", id_=id_, done="changed"), 303)


def _shown(id_: str, given: str | None = None, refused: BrokerError | None = None) -> str:
    to = bridge()

    async def shown() -> KeyView:
        return to.broker.keys.show(id_)

    key = to.wait(shown())
    if given is None:
        given = "" if key.publish_rate is None else f"{key.publish_rate:g}"
    return page("key.html", key=key, given=given, refused=refused)


def _number_in(text: str) -> float | str | None:
    """Read a number; what is none is left to be refused, and nothing is no limit."""
    try:
        return float(text) if text else None
    except ValueError:
        return text
