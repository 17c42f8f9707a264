"""Publishing events over gRPC."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from broker_client.cloud_event import to_cloud_event
from broker_client.errors import BrokerUnavailable
from broker_client.event import Event
from broker_client.generated import broker_pb2 as pb
from broker_client.generated.cloudevents_pb2 import CloudEvent
from broker_client.grpc_channel import GrpcChannel
from broker_client.names import check_name
from broker_client.publishing import EventPublisher, Published, check_count
from broker_client.retries import Retries
from broker_client.tracing import stamped


class GrpcPublisher(EventPublisher):
    """Publishes events over gRPC, as a `Publisher` does over HTTP.

    What is sent again, after which waits, and what is raised is the same; `status` is that of the
    HTTP interface. `target` is `host:port`. Without `credentials`, such as those of
    `grpc.ssl_channel_credentials()`, nothing is encrypted. Safe to share between threads; make it
    after the fork.
    """

    def __init__(
        self,
        target: str,
        *,
        source: str | None = None,
        api_key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = 10.0,
        max_attempts: int = 5,
        min_backoff_s: float = 0.1,
        max_backoff_s: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(source)
        self._channel = GrpcChannel(
            target,
            api_key=api_key,
            credentials=credentials,
            timeout_s=timeout_s,
            retries=Retries(max_attempts, min_backoff_s, max_backoff_s),
            sleep=sleep,
        )

    def publish(self, topic: str, event: Event) -> Published:
        """Publish one event."""
        return self._publish(topic, [to_cloud_event(stamped(topic, event))])[0]

    def publish_batch(self, topic: str, events: Sequence[Event]) -> list[Published]:
        """Publish up to 1,000 events in one request, all or none; return receipts in order."""
        return self._publish(topic, [to_cloud_event(stamped(topic, event)) for event in events])

    def publish_encoded(
        self, topic: str, events: Sequence[str], *, max_attempts: int | None = None
    ) -> list[Published]:
        """Publish a batch of events that `Event.to_json` has written before."""
        read = [to_cloud_event(Event.from_dict(json.loads(event))) for event in events]
        return self._publish(topic, read, max_attempts)

    def close(self) -> None:
        """Close the connections."""
        self._channel.close()

    def _publish(
        self, topic: str, events: Sequence[CloudEvent], max_attempts: int | None = None
    ) -> list[Published]:
        check_count(events)
        request = pb.PublishRequest(topic=check_name("topic", topic), events=events)
        if not events:
            return []
        answer = self._channel.call("Publish", request, max_attempts=max_attempts)
        if len(answer.messages) != len(events):
            raise BrokerUnavailable(
                "something other than the broker answered: no receipt", status=200
            )
        return [_receipt(each) for each in answer.messages]


def _receipt(message: Any) -> Published:
    sequence = message.sequence if message.HasField("sequence") else None
    return Published(message.id, sequence, message.duplicate)
