"""Being sent a subscription's messages over gRPC, and having each handled."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Self

import grpc

from broker_client.background import Background, Failures, Pulse
from broker_client.closing import Closing
from broker_client.cloud_event import from_cloud_event
from broker_client.delivery import Delivery
from broker_client.delivery_stream import DeliveryStream
from broker_client.errors import BrokerClientError
from broker_client.generated import broker_pb2 as pb
from broker_client.grpc_channel import GrpcChannel
from broker_client.handlers import Handler
from broker_client.inbox import Inbox
from broker_client.leases import Leases
from broker_client.pull_subscription import PullSubscription, check_range, delay_of, is_lost
from broker_client.reception import Outcome

MAX_OUTSTANDING = 1000
"""How many messages the broker has out at most on one stream."""
STOP_S = 40.0
_PAUSE_S = 0.2  # after a stream that the broker has ended, or many would be opened
_MAX_BACKOFF_S = 10.0

logger = logging.getLogger("broker_client.grpc_subscriber")


class GrpcSubscriber(Closing):
    """Is sent a subscription's messages over gRPC, and has each handled; no endpoint is needed.

    Handlers, `inbox`, `transaction`, `fields` and what follows from what a handler raises are those
    of a `PullConsumer`. Messages come by themselves, on one stream; no more than `max_outstanding`,
    1 to 1,000, are out at once, and they are handled one after another. Any number of subscribers
    may share the subscription. What has come stays this subscriber's however long that takes; it
    goes to somebody else `ack_deadline_s` (30 s) after the subscriber, or its way to the broker, is
    gone. A stream that breaks is opened again after a random wait, once what had come is handled.

    `target` is `host:port`. Without `credentials`, such as those of `grpc.ssl_channel_credentials`,
    nothing is encrypted. Make it after the fork.
    """

    def __init__(
        self,
        target: str,
        topic: str,
        subscription: str,
        handler: Handler,
        *,
        inbox: Inbox | None = None,
        transaction: Callable[[], AbstractContextManager[Any]] | None = None,
        api_key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        max_outstanding: int = 100,
        clock: Callable[[], float] = time.monotonic,
        **fields: Any,
    ) -> None:
        self._subscription = PullSubscription(
            topic,
            subscription,
            handler,
            inbox=inbox,
            transaction=transaction,
            fields=fields,
            logger=logger,
        )
        check_range("max_outstanding", max_outstanding, 1, MAX_OUTSTANDING)
        self._max_outstanding = max_outstanding
        self._clock = clock
        self._channel = GrpcChannel(target, api_key=api_key, credentials=credentials)
        self._unconfirmed = _Unconfirmed()
        self._background = Background(f"stream of {self._subscription}", self._run)

    def start(self) -> None:
        """Begin in a thread of its own, unless that has begun in this process."""
        self._background.start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Be sent nothing more, and end once what has come is handled.

        Waits for that, but no longer than `timeout_s`.
        """
        self._background.stop(timeout_s)

    def close(self) -> None:
        """End, and close the connections."""
        self.stop()
        self._channel.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def _run(self, pulse: Pulse) -> None:
        failures = Failures(logger, f"The stream of {self._subscription}", _MAX_BACKOFF_S)
        while not pulse.stopping:
            began_at = self._clock()
            try:
                self._take_one_stream(pulse, failures)
            except Exception as error:
                if self._clock() - began_at > _MAX_BACKOFF_S:  # it did work for a while
                    failures.end()
                pulse.pause(failures.note(error))
            else:
                pulse.pause(_PAUSE_S)
        self._ack_the_rest()

    def _take_one_stream(self, pulse: Pulse, failures: Failures) -> None:
        """Handle what comes, until the stream ends. Raises BrokerRefused, BrokerUnavailable."""
        deadline_s = self._subscribe()

        with Leases((), deadline_s, self._extend, self._clock) as leases:

            def arrived(deliveries: Sequence[pb.Delivery]) -> None:
                leases.add(each.ack_id for each in deliveries if each.ack_id)
                failures.end()

            first = pb.StreamingPullRequest(
                topic=self._subscription.topic,
                subscription=self._subscription.name,
                max_outstanding=self._max_outstanding,
                ack_ids=self._unconfirmed.all(),
            )
            stream = DeliveryStream(
                self._channel.streaming_pull, first, arrived=arrived, settled=self._settled
            )
            try:
                with pulse.at_stop(stream.finish):
                    for delivery in stream:
                        self._handle(delivery, stream, leases)
            finally:
                stream.close()
        if stream.error is not None:
            raise self._channel.meaning_of(stream.error)

    def _subscribe(self) -> float:
        """Create the subscription unless it is there; return its `ack_deadline_s`."""
        request = pb.PutSubscriptionRequest(
            topic=self._subscription.topic, subscription=self._subscription.name
        )
        request.config.update(self._subscription.fields)
        answer = self._channel.call("PutSubscription", request, max_attempts=1)
        return self._subscription.deadline_s(
            answer.subscription.fields["ack_deadline_s"].number_value
        )

    def _handle(self, delivery: pb.Delivery, stream: DeliveryStream, leases: Leases) -> None:
        ack_id = delivery.ack_id  # empty: handing it out has settled it
        if ack_id and not leases.hold(ack_id):
            # Somebody else may have it, and what follows it, by now; its room here is still taken.
            self._subscription.log_lapsed()
            self._tell(stream, pb.StreamingPullRequest(nack_ids=[ack_id]))
            return
        outcome = self._subscription.take(lambda: self._read(delivery))
        if not ack_id:
            return
        leases.end(ack_id)
        if outcome.done:
            self._unconfirmed.add(ack_id)
            self._tell(stream, pb.StreamingPullRequest(ack_ids=[ack_id]))
        else:
            self._hand_back(ack_id, outcome)
            self._tell(stream, pb.StreamingPullRequest(nack_ids=[ack_id]))

    def _read(self, delivery: pb.Delivery) -> Delivery:
        return Delivery(
            event=from_cloud_event(delivery.message.event),
            topic=self._subscription.topic,
            subscription=self._subscription.name,
            sequence=delivery.message.sequence,
            attempt=delivery.attempt or 1,
            replayed=delivery.replay,
            webhook_id="",
        )

    def _tell(self, stream: DeliveryStream, request: pb.StreamingPullRequest) -> None:
        """Say what became of a message: on the stream, which makes room there, or without it."""
        if not stream.over:
            stream.send(request)
        elif request.ack_ids:  # what is handed back comes again by itself
            with suppress(BrokerClientError):  # then the next stream begins with it
                self._ack_alone(max_attempts=1)

    def _hand_back(self, ack_id: str, outcome: Outcome) -> None:
        """Hand a message back for the delay that was asked for, which a stream cannot say."""
        delay_s = delay_of(outcome)
        if delay_s is None:
            return
        request = pb.NackRequest(
            topic=self._subscription.topic,
            subscription=self._subscription.name,
            ack_ids=[ack_id],
            delay_s=delay_s,
        )
        try:
            self._channel.call("Nack", request, max_attempts=1)  # else its lease ends by itself
        except BrokerClientError as error:
            logger.warning(
                "The delay of a message of %s is not known to the broker: %s",
                self._subscription,
                error,
                extra={"action": "failed"},
            )

    def _ack_the_rest(self) -> None:
        try:
            self._ack_alone()
        except BrokerClientError as error:
            logger.warning(
                "Messages of %s are done and the broker does not know it, so that they come again: "
                "%s",
                self._subscription,
                error,
                extra={"action": "failed"},
            )

    def _ack_alone(self, max_attempts: int | None = None) -> None:
        """Acknowledge, without a stream, all that is not known to be acknowledged."""
        ack_ids = self._unconfirmed.all()
        if ack_ids:
            request = pb.AckRequest(
                topic=self._subscription.topic,
                subscription=self._subscription.name,
                ack_ids=ack_ids,
            )
            answer = self._channel.call("Ack", request, max_attempts=max_attempts)
            self._settled(answer.results)

    def _settled(self, results: Iterable[pb.AckResult]) -> None:
        for each in results:
            if self._unconfirmed.confirm(each.ack_id) and is_lost(each.result):
                self._subscription.log_lapsed()

    def _extend(self, ack_ids: Collection[str]) -> Collection[str]:
        request = pb.ExtendRequest(
            topic=self._subscription.topic, subscription=self._subscription.name, ack_ids=ack_ids
        )
        answer = self._channel.call("Extend", request, max_attempts=1)
        return [each.ack_id for each in answer.results if is_lost(each.result)]


class _Unconfirmed:
    """Acknowledgements that the broker has not confirmed; for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[str, None] = {}

    def add(self, ack_id: str) -> None:
        with self._lock:
            self._ids[ack_id] = None

    def confirm(self, ack_id: str) -> bool:
        """Take one out; say whether it was there."""
        with self._lock:
            return ack_id in self._ids and self._ids.pop(ack_id) is None

    def all(self) -> list[str]:
        with self._lock:
            return list(self._ids)
