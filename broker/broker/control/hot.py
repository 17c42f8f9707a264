"""Calls that are answered before Flask is asked, in the route map for what reads it."""

from flask import Blueprint

from broker import pulls
from broker.api.original import CannotConsume, Produced
from broker.api.publish import MAX_ID, Batch
from broker.auth import PublishRateExceeded
from broker.cloudevents import BATCH, STRUCTURED
from broker.control.operation import (
    JSON,
    OF_GROWING,
    OF_READING,
    OF_SUBSCRIPTION,
    OF_TOPIC,
    OF_WRITING,
    Content,
    Ref,
    operation,
)
from broker.errors import (
    EditConflict,
    IdReused,
    InvalidRequest,
    MalformedRequest,
    MessageNotFound,
    MessageTooLarge,
    OutcomeUnknown,
    Overloaded,
    RequestTooSlow,
    StorageFull,
    StoreUnavailable,
    TooManyTopics,
)
from broker.event_schema import batch_schema, header_schemas
from broker.model import Appended
from broker.queries import FROM, STREAM, SUBSCRIBER
from broker.streams import TooManyStreams
from broker.views import PulledPage, SettledPage

blueprint = Blueprint("hot", __name__)
SUBSCRIPTION = "/v1/topics/<topic>/subscriptions/<name>"
TEXT = Content({"text/plain; charset=utf-8": {"type": "string"}})
IDEMPOTENCY_KEY = {
    "description": "The event's `id`, quoted or bare, where it brings none; not with a batch",
    "type": "string",
    "pattern": f'^(?!""$)[!-~]([ -~]{{0,{MAX_ID - 2}}}[!-~])?$',
}
LOCATION = {
    "description": "Where the message is, unless it came in a batch",
    "type": "string",
    "format": "uri-reference",
}
LAST_EVENT_ID = {
    **FROM.schema,
    "description": "The `id` of the last message that was read; counts instead of `after`",
}
_PULLED = (*OF_SUBSCRIPTION, pulls.NotPulled, *OF_WRITING)
_SETTLED = (*_PULLED, MessageNotFound)


@blueprint.post("/v1/topics/<topic>/messages")
@operation(
    in_front=True,
    tag="messages",
    headers={"Idempotency-Key": IDEMPOTENCY_KEY, **header_schemas()},
    body=Content(
        {
            JSON: {"description": "Any data in JSON; the attributes are in `ce-` headers"},
            STRUCTURED: Ref("Event"),
            BATCH: batch_schema(Ref("Event").schema()),
            "*/*": {"description": "Any data of any type; the attributes are in `ce-` headers"},
        }
    ),
    answers={201: Content({JSON: (Appended, Batch)}, {"Location": LOCATION})},
    refuses=(
        *(*OF_READING, *OF_TOPIC, IdReused, TooManyTopics),
        *(PublishRateExceeded, OutcomeUnknown, StorageFull),
    ),
)
def publish(topic: str) -> None:
    """Publish a message, or a batch, which is stored whole or not at all.

    The answer comes when it is on disk. A body of the type `application/cloudevents+json` is an
    event, one of the type `application/cloudevents-batch+json` an array of them; any other body is
    the data of an event, whose attributes are in `ce-` headers, and what is left out is filled in.
    An event that the topic knows by its `source` and `id` is not stored again: the answer then has
    `"duplicate": true` and the sequence of the first one. A topic that is not there is made, unless
    BROKER_AUTO_CREATE_TOPICS is off.
    """


@blueprint.get("/v1/topics/<topic>/stream")
@operation(
    in_front=True,
    tag="messages",
    query=STREAM,
    headers={"Last-Event-ID": LAST_EVENT_ID},
    answers={200: Content({"text/event-stream; charset=utf-8": {"type": "string"}})},
    refuses=(*OF_TOPIC, TooManyStreams),
)
def stream(topic: str) -> None:
    """Send a topic's messages as they come, as Server-Sent Events.

    Each has the message's sequence as its `id`, and as its `data` the message as a structured
    CloudEvent. A reader that comes back with `Last-Event-ID` misses nothing.
    """


@blueprint.post(f"{SUBSCRIPTION}/pull")
@operation(
    in_front=True,
    tag="pulls",
    body=pulls.PULL,
    answers={200: Content({JSON: PulledPage})},
    refuses=_PULLED,
)
def pull(topic: str, name: str) -> None:
    """Hand out deliveries of a subscription without an endpoint.

    Each is leased for the subscription's `ack_deadline_s`; what is not acknowledged by then is
    handed out again.
    """


@blueprint.post(f"{SUBSCRIPTION}/ack")
@operation(
    in_front=True,
    tag="pulls",
    body=pulls.ACK,
    answers={200: Content({JSON: SettledPage})},
    refuses=_SETTLED,
)
def ack(topic: str, name: str) -> None:
    """Settle what was pulled."""


@blueprint.post(f"{SUBSCRIPTION}/nack")
@operation(
    in_front=True,
    tag="pulls",
    body=pulls.NACK,
    answers={200: Content({JSON: SettledPage})},
    refuses=_SETTLED,
)
def nack(topic: str, name: str) -> None:
    """Hand back what was pulled: a failed attempt each."""


@blueprint.post(f"{SUBSCRIPTION}/extend")
@operation(
    in_front=True,
    tag="pulls",
    body=pulls.EXTEND,
    answers={200: Content({JSON: SettledPage})},
    refuses=_SETTLED,
)
def extend(topic: str, name: str) -> None:
    """Keep what was pulled for longer."""


@blueprint.post("/produce")
@operation(
    in_front=True,
    tag="original",
    body=Content({JSON: Produced}, required=True),
    answers={200: TEXT},
    refuses=(
        *(MalformedRequest, RequestTooSlow, MessageTooLarge, InvalidRequest),
        *(*OF_TOPIC, TooManyTopics, PublishRateExceeded, Overloaded, OutcomeUnknown, StorageFull),
    ),
)
def produce() -> None:
    """Store a message, as the original example has it."""


@blueprint.post("/subscribe")
@operation(
    in_front=True,
    tag="original",
    query=SUBSCRIBER,
    answers={200: TEXT},
    refuses=(*OF_TOPIC, *OF_GROWING, EditConflict, *OF_WRITING, StorageFull),
)
def subscribe() -> None:
    """Make a subscriber, as the original example has it, unless there is one of this name."""


@blueprint.get("/consume")
@operation(
    in_front=True,
    tag="original",
    query=SUBSCRIBER,
    answers={200: Content({JSON: {}})},
    refuses=(CannotConsume, RequestTooSlow, MessageTooLarge, OutcomeUnknown, StoreUnavailable),
)
def consume() -> None:
    """Hand out the data of the subscriber's next message, as the original example has it.

    It waits where there is none. Handing a message out settles it.
    """
