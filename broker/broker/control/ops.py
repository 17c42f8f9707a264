"""Health."""

from typing import Literal

from flask import Blueprint, Response
from msgspec import Struct

from broker.control import bridge
from broker.control.operation import Content, operation
from broker.errors import BrokerError
from broker.metrics import CONTENT_TYPE, render

blueprint = Blueprint("ops", __name__)


class NotReady(BrokerError):
    """The broker is not ready."""

    status = 503
    code = "not_ready"
    retry_after_s = 1


class AliveView(Struct):
    """The process is alive."""

    status: Literal["alive"] = "alive"


class ReadyView(Struct):
    """The broker stores and delivers."""

    status: Literal["ready"] = "ready"


@blueprint.get("/metrics")
@operation(answers={200: Content({CONTENT_TYPE: {"type": "string"}})})
def metrics() -> Response:
    """Tell everything there is to count, for Prometheus."""
    to = bridge()
    measures = to.wait(to.measures())
    return Response(render(measures), content_type=CONTENT_TYPE)


@blueprint.get("/healthz")
@operation()
def healthz() -> AliveView:
    """Say that the process is alive."""
    return AliveView()


@blueprint.get("/readyz")
@operation(refuses=(NotReady,))
def readyz() -> ReadyView:
    """Say whether messages can be stored and delivered."""
    to = bridge()

    async def reasons() -> list[str]:
        return to.ready()

    if found := to.wait(reasons()):
        reasons_found = "; ".join(found)
        raise NotReady(f"{reasons_found[0].upper()}{reasons_found[1:]}.")
    return ReadyView()
