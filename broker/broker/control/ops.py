"""Health."""

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from broker.control import bridge
from broker.errors import BrokerError
from broker.metrics import CONTENT_TYPE, render

blueprint = Blueprint("ops", __name__)


class NotReady(BrokerError):
    """The broker is not ready."""

    status = 503
    code = "not_ready"
    retry_after_s = 1


@blueprint.get("/metrics")
def metrics() -> ResponseReturnValue:
    """Tell everything there is to count, for Prometheus."""
    to = bridge()
    measures = to.wait(to.broker.measures())
    return Response(render(measures), content_type=CONTENT_TYPE)


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
