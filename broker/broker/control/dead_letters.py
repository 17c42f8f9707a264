"""`…/subscriptions/{name}/dead-letters`."""

from collections.abc import Mapping

from flask import Blueprint

from broker import deliveries
from broker.control import bridge
from broker.control.operation import OF_SUBSCRIPTION, OF_WRITING, operation
from broker.errors import MessageNotFound
from broker.queries import PAGE
from broker.views import DeadLettersView, DeadLetterView, ReplayedView

blueprint = Blueprint(
    "dead_letters", __name__, url_prefix="/v1/topics/<topic>/subscriptions/<name>/dead-letters"
)
SEQUENCE = "<sequence:sequence>"


@blueprint.get("")
@operation(query=PAGE, refuses=OF_SUBSCRIPTION)
def list_dead_letters(topic: str, name: str, after: int, limit: int) -> DeadLettersView:
    """List what was given up."""
    to = bridge()
    found, following = to.wait(to.broker.deliveries.dead_letters(topic, name, after, limit))
    return DeadLettersView(found, following)


@blueprint.get(f"/{SEQUENCE}")
@operation(refuses=(*OF_SUBSCRIPTION, MessageNotFound))
def get_dead_letter(topic: str, name: str, sequence: int) -> DeadLetterView:
    """Show one dead letter with its failed attempts."""
    to = bridge()
    return to.wait(to.broker.deliveries.dead_letter_of(topic, name, sequence))


@blueprint.post("/replay")
@operation(body=deliveries.REPLAY, refuses=(*OF_SUBSCRIPTION, MessageNotFound, *OF_WRITING))
def replay(topic: str, name: str, body: Mapping[str, object]) -> ReplayedView:
    """Make dead letters owed again."""
    to = bridge()
    return ReplayedView(to.wait(to.broker.deliveries.replay(topic, name, body)))


@blueprint.delete(f"/{SEQUENCE}")
@operation(refuses=(*OF_SUBSCRIPTION, MessageNotFound, *OF_WRITING))
def delete_dead_letter(topic: str, name: str, sequence: int) -> None:
    """Forget a dead letter."""
    to = bridge()
    to.wait(to.broker.deliveries.delete_dead_letter(topic, name, sequence))
