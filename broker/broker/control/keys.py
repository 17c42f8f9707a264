"""`/v1/keys`: who may do what."""

from collections.abc import Mapping

from flask import Blueprint

from broker import api_keys
from broker.control import bridge
from broker.control.operation import OF_EDITING, Put, operation
from broker.views import KeysView, KeyView

blueprint = Blueprint("keys", __name__, url_prefix="/v1/keys")


@blueprint.get("")
@operation()
def list_keys() -> KeysView:
    """List the keys, without the keys themselves."""
    to = bridge()

    async def listed() -> list[KeyView]:
        return to.broker.keys.list_keys()

    return KeysView(to.wait(listed()))


@blueprint.post("")
@operation(body=api_keys.FIELDS, refuses=(api_keys.KeyNameTaken, *OF_EDITING))
def create_key(body: Mapping[str, object]) -> tuple[KeyView, Put]:
    """Make a key; this answer is the only one that shows it.

    The same name, scopes, rate and key once more is answered 200 and changes nothing.
    """
    to = bridge()
    created, view = to.wait(to.broker.keys.create(body))
    return view, 201 if created else 200


@blueprint.get("/<id_>")
@operation(refuses=(api_keys.KeyNotFound,))
def get_key(id_: str) -> KeyView:
    """Show one key, without the key itself."""
    to = bridge()

    async def shown() -> KeyView:
        return to.broker.keys.show(id_)

    return to.wait(shown())


@blueprint.put("/<id_>")
@operation(body=api_keys.CHANGES, refuses=(api_keys.KeyNotFound, *OF_EDITING))
def put_key(id_: str, body: Mapping[str, object]) -> KeyView:
    """Change a key: how much it may publish, from now on. It makes none."""
    to = bridge()
    return to.wait(to.broker.keys.update(id_, body))


@blueprint.delete("/<id_>")
@operation(refuses=(api_keys.KeyNotFound, *OF_EDITING))
def delete_key(id_: str) -> None:
    """Revoke a key."""
    to = bridge()
    to.wait(to.broker.keys.delete(id_))
