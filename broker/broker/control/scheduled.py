"""`/v1/topics/{topic}/scheduled`: messages that wait for their time."""

from flask import Blueprint, Response
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from broker.control import bridge
from broker.control.operation import EVENT, OF_TOPIC, Content, Ref, operation
from broker.errors import MessageNotFound, OutcomeUnknown
from broker.model import Turn
from broker.queries import AFTER_TURN, LIMIT, SOURCE
from broker.turns import written_turn
from broker.views import ScheduledView, scheduled_event, scheduled_view

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
@operation(query=(AFTER_TURN, LIMIT), only_these=True, refuses=OF_TOPIC)
def list_scheduled(topic: str, after: Turn, limit: int) -> ScheduledView:
    """List what waits, in the order in which it is due."""
    to = bridge()
    found, following = to.wait(to.broker.scheduled(topic, after, limit))
    return scheduled_view(found, None if following is None else written_turn(following))


@blueprint.get(ID, merge_slashes=False, strict_slashes=True)
@operation(
    query=(SOURCE,),
    only_these=True,
    answers={200: Content({EVENT: Ref("StoredEvent")})},
    refuses=(*OF_TOPIC, MessageNotFound),
)
def get_scheduled(topic: str, id_: str, source: str | None) -> Response:
    """Show one message that waits, as a structured CloudEvent."""
    to = bridge()
    found = to.wait(to.broker.scheduled_message(topic, _source(topic, source), id_))
    return Response(scheduled_event(found), content_type=EVENT)


@blueprint.delete(ID, merge_slashes=False, strict_slashes=True)
@operation(query=(SOURCE,), only_these=True, refuses=(*OF_TOPIC, MessageNotFound, OutcomeUnknown))
def cancel_scheduled(topic: str, id_: str, source: str | None) -> None:
    """Cancel a message that waits; its id may be used anew."""
    to = bridge()
    to.wait(to.broker.cancel_scheduled(topic, _source(topic, source), id_))


def _source(topic: str, source: str | None) -> str:
    return f"/topics/{topic}" if source is None else source
