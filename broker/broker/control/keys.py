"""`/v1/keys`: who may do what."""

from typing import Any

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from broker.control import bridge
from broker.control.bodies import json_object

blueprint = Blueprint("keys", __name__, url_prefix="/v1/keys")


@blueprint.get("")
def list_keys() -> ResponseReturnValue:
    """List the keys, without the keys themselves."""
    to = bridge()

    async def listed() -> list[dict[str, Any]]:
        return to.broker.keys.list_keys()

    return {"keys": to.wait(listed())}


@blueprint.post("")
def create_key() -> ResponseReturnValue:
    """Make a key; this answer is the only one that shows it."""
    to = bridge()
    created, view = to.wait(to.broker.keys.create(json_object(request)))
    return view, 201 if created else 200


@blueprint.get("/<id_>")
def get_key(id_: str) -> ResponseReturnValue:
    """Show one key, without the key itself."""
    to = bridge()

    async def shown() -> dict[str, Any]:
        return to.broker.keys.show(id_)

    return to.wait(shown())


@blueprint.delete("/<id_>")
def delete_key(id_: str) -> ResponseReturnValue:
    """Revoke a key."""
    to = bridge()
    to.wait(to.broker.keys.delete(id_))
    return "", 204
