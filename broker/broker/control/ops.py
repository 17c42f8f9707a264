"""Health."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from broker.control import bridge
from broker.errors import BrokerError

blueprint = Blueprint("ops", __name__)


class NotReady(BrokerError):
    """The broker is not ready."""

    status = 503
    code = "not_ready"
    retry_after_s = 1


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Say that the process is alive."""
    return {"status": "alive"}


@blueprint.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Say whether messages can be stored and delivered."""
    to = bridge()

    async def reasons() -> list[str]:
        return to.broker.ready()

    if found := to.wait(reasons()):
        reasons_found = "; ".join(found)
        raise NotReady(f"{reasons_found[0].upper()}{reasons_found[1:]}.")
    return {"status": "ready"}
