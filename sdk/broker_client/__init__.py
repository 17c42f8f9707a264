"""Publish to the broker and receive from it: publisher, outbox, inbox, signatures."""

from broker_client.ack_handle import AckHandle
from broker_client.async_publisher import AsyncPublisher
from broker_client.batching_publisher import BatchingPublisher
from broker_client.delivery import Delivery
from broker_client.errors import (
    BrokerClientError,
    BrokerRefused,
    BrokerUnavailable,
    InvalidSignature,
    LaterNotAllowed,
    MalformedEvent,
    UnsupportedDatabase,
)
from broker_client.event import Event
from broker_client.inbox import Inbox
from broker_client.outbox import Outbox
from broker_client.publisher import Publisher
from broker_client.publishing import EventPublisher, Published
from broker_client.pull_consumer import PullConsumer
from broker_client.signatures import verify
from broker_client.verdicts import DeadLetter, Later, Retry

__all__ = [
    "AckHandle",
    "AsyncPublisher",
    "BatchingPublisher",
    "BrokerClientError",
    "BrokerRefused",
    "BrokerUnavailable",
    "DeadLetter",
    "Delivery",
    "Event",
    "EventPublisher",
    "Inbox",
    "InvalidSignature",
    "Later",
    "LaterNotAllowed",
    "MalformedEvent",
    "Outbox",
    "Published",
    "Publisher",
    "PullConsumer",
    "Retry",
    "UnsupportedDatabase",
    "verify",
]
