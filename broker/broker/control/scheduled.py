"""`/v1/topics/{topic}/scheduled`: messages that wait for their time."""

from flask import Blueprint, Response, request
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from werkzeug.routing import BaseConverter

from broker.control import bridge
from broker.control.bodies import only_query, query_integer
from broker.service import MAX_PAGE
from broker.turns import START, parse_turn, written_turn
from broker.views import scheduled_event, scheduled_page

blueprint = Blueprint("scheduled", __name__, url_prefix="/v1/topics/<topic>/scheduled")
ID = "/<anything:id_>"


class Anything(BaseConverter):
    """A part of a path that may hold slashes, as the id of a message may."""

    regex = ".+"
    part_isolating = False


@blueprint.record_once
def _know_ids(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["anything"] = Anything


@blueprint.get("")
def list_scheduled(topic: str) -> ResponseReturnValue:
    """List what waits, in the order in which it is due."""
    only_query(request, "after", "limit")
    to = bridge()
    limit = query_integer(request, "limit", 100, 1, MAX_PAGE)
    found, following = to.wait(
        to.broker.scheduled(topic, parse_turn(request.args.get("after", START)), limit)
    )
    page = scheduled_page(found, None if following is None else written_turn(following))
    return Response(page, content_type="application/json")


@blueprint.get(ID, merge_slashes=False, strict_slashes=True)
def get_scheduled(topic: str, id_: str) -> ResponseReturnValue:
    """Show one message that waits, as a structured CloudEvent."""
    to = bridge()
    found = to.wait(to.broker.scheduled_message(topic, _source(topic), id_))
    event = scheduled_event(found)
    return Response(event, content_type="application/cloudevents+json; charset=UTF-8")


@blueprint.delete(ID, merge_slashes=False, strict_slashes=True)
def cancel_scheduled(topic: str, id_: str) -> ResponseReturnValue:
    """Cancel a message that waits."""
    to = bridge()
    to.wait(to.broker.cancel_scheduled(topic, _source(topic), id_))
    return "", 204


def _source(topic: str) -> str:
    only_query(request, "source")
    return request.args.get("source", f"/topics/{topic}")
