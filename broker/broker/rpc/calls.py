"""The calls of `broker.v1.Broker`, each named like the call in proto/broker/v1/broker.proto."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct

from broker.api.under_way import UnderWay
from broker.auth import (
    ADMINISTER,
    LIST,
    PUBLISH,
    PUBLISH_ANY,
    READ,
    SEE,
    SEE_SCHEDULED,
    SUBSCRIBE,
    SUBSCRIBE_ANY,
    WATCH,
    Caller,
    Needs,
)
from broker.cloudevents import MAX_BATCH_EVENTS
from broker.deliveries import STATES
from broker.dispatch.puller import Pulled
from broker.errors import BrokerError, Fault, InvalidRequest, NoOwner
from broker.rpc.events import parts_of, render_event, render_message
from broker.rpc.generated import broker_pb2 as pb
from broker.rpc.pull_stream import PULLED_BYTES, PullStream
from broker.rpc.refusals import refusal_of
from broker.rpc.structs import from_struct, to_struct
from broker.rpc.until import until
from broker.service import MAX_PAGE, Broker
from broker.turns import START, parse_turn, written_turn
from broker.views import Unsettled

DEFAULT_PAGE = 100
STREAM_WINDOW = 64

NEEDS: Mapping[str, Needs] = {
    "Publish": PUBLISH,
    "PublishStream": PUBLISH_ANY,  # each request once more, by its topic
    "PutTopic": ADMINISTER,
    "GetTopic": SEE,
    "ListTopics": LIST,
    "DeleteTopic": ADMINISTER,
    "ListMessages": READ,
    "GetMessage": READ,
    "ListScheduled": READ,
    "GetScheduled": SEE_SCHEDULED,
    "CancelScheduled": PUBLISH,
    "PutSubscription": SUBSCRIBE,
    "GetSubscription": WATCH,
    "ListSubscriptions": WATCH,
    "DeleteSubscription": SUBSCRIBE,
    "Pause": SUBSCRIBE,
    "Resume": SUBSCRIBE,
    "RotateSecret": SUBSCRIBE,
    "Seek": SUBSCRIBE,
    "Watch": READ,
    "Pull": SUBSCRIBE,
    "Ack": SUBSCRIBE,
    "Nack": SUBSCRIBE,
    "Extend": SUBSCRIBE,
    "StreamingPull": SUBSCRIBE_ANY,  # the first request once more, by its topic
    "ListDeliveries": WATCH,
    "RetryDelivery": SUBSCRIBE,
    "DeadLetterDelivery": SUBSCRIBE,
    "ListAttempts": WATCH,
    "ListDeadLetters": WATCH,
    "GetDeadLetter": WATCH,
    "ReplayDeadLetters": SUBSCRIBE,
    "DeleteDeadLetter": SUBSCRIBE,
}


class Calls:
    """Each call takes a request and the caller, and returns a response or raises a BrokerError."""

    def __init__(
        self,
        broker: Broker,
        ended: asyncio.Event,
        under_way: UnderWay,
        calls_of: "Callable[[str], Calls]",
        leaves: bool = False,
    ) -> None:
        self._broker = broker
        self._leaves = leaves
        self._calls_of = calls_of  # where the first request, or each, names the topic
        self._under_way = under_way
        self._ended = ended

    # -- publish -----------------------------------------------------------------------------------

    async def publish(self, request: pb.PublishRequest, caller: Caller) -> pb.PublishResponse:
        """Store events, all or none."""
        if not 1 <= len(request.events) <= MAX_BATCH_EVENTS:
            rule = f"a request holds 1 to {MAX_BATCH_EVENTS} events"
            raise InvalidRequest([Fault("events", rule)])
        with self._under_way.holding(request.ByteSize()):
            messages = self._broker.take(request.topic, parts_of(request.events))
            caller.spend(len(messages))
            appended = await self._broker.publish(request.topic, messages, batch=True)
        return pb.PublishResponse(
            messages=[
                pb.Published(id=each.id, sequence=each.sequence, duplicate=each.duplicate)
                for each in appended
            ]
        )

    async def publish_stream(
        self, requests: AsyncIterator[pb.PublishRequest], caller: Caller
    ) -> AsyncIterator[pb.PublishStreamResponse]:
        """Store what comes, in order; STREAM_WINDOW requests at most wait for their answer.

        A task that is made starts in turn, and gives its messages their place before it waits.
        """
        waiting: asyncio.Queue[asyncio.Task[pb.PublishStreamResponse] | None] = asyncio.Queue()
        room = asyncio.Semaphore(STREAM_WINDOW)

        async def take_in() -> None:
            try:
                async for request in requests:
                    await room.acquire()
                    answering = asyncio.create_task(self._answer(request, caller))
                    waiting.put_nowait(answering)
                    if not self._knows(request.topic):
                        await asyncio.wait((answering,))  # making the topic takes a turn
            finally:
                waiting.put_nowait(None)

        taking_in = asyncio.create_task(take_in(), name="publish stream")
        try:
            while (answering := await waiting.get()) is not None:
                yield await answering
                room.release()
        finally:
            taking_in.cancel()

    def _knows(self, topic: str) -> bool:
        try:
            return topic in self._calls_of(topic)._broker.topics
        except NoOwner:
            return False

    async def _answer(self, request: pb.PublishRequest, caller: Caller) -> pb.PublishStreamResponse:
        try:
            caller.require(PUBLISH, request.topic)
            calls = self._calls_of(request.topic)
            return pb.PublishStreamResponse(published=await calls.publish(request, caller))
        except BrokerError as error:
            self._broker.refused[error.code] += 1
            return pb.PublishStreamResponse(refused=refusal_of(error))

    # -- topics ------------------------------------------------------------------------------------

    async def put_topic(self, request: pb.PutTopicRequest, _: Caller) -> pb.PutTopicResponse:
        """Create or update a topic."""
        created, view = await self._broker.put_topic(request.topic, from_struct(request.config))
        return pb.PutTopicResponse(created=created, topic=to_struct(view))

    async def get_topic(self, request: pb.TopicRequest, _: Caller) -> Struct:
        """Show a topic."""
        return to_struct(self._broker.topic_view(request.topic))

    async def list_topics(self, _: Empty, caller: Caller) -> pb.ListTopicsResponse:
        """List the topics that the caller's key is for."""
        found = self._broker.list_topics(lambda name: caller.may(SEE.actions, name))
        return pb.ListTopicsResponse(topics=[to_struct(view) for view in found])

    async def delete_topic(self, request: pb.DeleteTopicRequest, _: Caller) -> Empty:
        """Delete a topic and what it holds."""
        await self._broker.delete_topic(request.topic, force=request.force)
        return Empty()

    # -- messages ----------------------------------------------------------------------------------

    async def list_messages(
        self, request: pb.ListMessagesRequest, _: Caller
    ) -> pb.ListMessagesResponse:
        """Browse a topic's messages, oldest first."""
        found, following = await self._broker.browse(
            request.topic,
            _after(request),
            _limit(request),
            request.key if request.HasField("key") else None,
            request.type if request.HasField("type") else None,
        )
        return pb.ListMessagesResponse(messages=map(render_message, found), next=following)

    async def get_message(self, request: pb.GetMessageRequest, _: Caller) -> pb.Message:
        """Show one message."""
        return render_message(await self._broker.message(request.topic, request.sequence))

    async def list_scheduled(
        self, request: pb.ListScheduledRequest, _: Caller
    ) -> pb.ListScheduledResponse:
        """List what waits, in the order in which it is due."""
        after = parse_turn(request.after or START)
        found, following = await self._broker.scheduled(request.topic, after, _limit(request))
        return pb.ListScheduledResponse(
            messages=[
                pb.ScheduledMessage(event=render_event(each.attributes, each.data))
                for each in found
            ],
            next=None if following is None else written_turn(following),
        )

    async def get_scheduled(self, request: pb.ScheduledRequest, _: Caller) -> pb.ScheduledMessage:
        """Show one message that waits."""
        found = await self._broker.scheduled_message(request.topic, _source(request), request.id)
        return pb.ScheduledMessage(event=render_event(found.attributes, found.data))

    async def cancel_scheduled(self, request: pb.ScheduledRequest, _: Caller) -> Empty:
        """Cancel a message that waits."""
        await self._broker.cancel_scheduled(request.topic, _source(request), request.id)
        return Empty()

    # -- subscriptions -----------------------------------------------------------------------------

    async def put_subscription(
        self, request: pb.PutSubscriptionRequest, _: Caller
    ) -> pb.PutSubscriptionResponse:
        """Create or update a subscription."""
        created, view = await self._broker.put_subscription(
            request.topic, request.subscription, from_struct(request.config)
        )
        return pb.PutSubscriptionResponse(created=created, subscription=to_struct(view))

    async def get_subscription(self, request: pb.SubscriptionRequest, _: Caller) -> Struct:
        """Show a subscription and how far it is."""
        return to_struct(await self._broker.subscription_view(request.topic, request.subscription))

    async def list_subscriptions(
        self, request: pb.TopicRequest, _: Caller
    ) -> pb.ListSubscriptionsResponse:
        """List a topic's subscriptions."""
        found = await self._broker.list_subscriptions(request.topic)
        return pb.ListSubscriptionsResponse(subscriptions=[to_struct(view) for view in found])

    async def delete_subscription(self, request: pb.SubscriptionRequest, _: Caller) -> Empty:
        """Delete a subscription and what it holds."""
        await self._broker.delete_subscription(request.topic, request.subscription)
        return Empty()

    async def pause(self, request: pb.SubscriptionRequest, _: Caller) -> Struct:
        """Have a subscription's messages wait."""
        view = await self._broker.set_paused(
            request.topic, request.subscription, "paused by request"
        )
        return to_struct(view)

    async def resume(self, request: pb.SubscriptionRequest, _: Caller) -> Struct:
        """Let a paused subscription go on."""
        return to_struct(await self._broker.set_paused(request.topic, request.subscription, None))

    async def rotate_secret(
        self, request: pb.RotateSecretRequest, _: Caller
    ) -> pb.RotateSecretResponse:
        """Make a new secret; the one before signs as well for a while."""
        given = {
            name: getattr(request, name)
            for name in ("secret", "overlap_s")
            if request.HasField(name)
        }
        told = await self._broker.rotate_secret(request.topic, request.subscription, given)
        return pb.RotateSecretResponse(secret=told.secret, overlap_s=told.overlap_s)

    async def seek(self, request: pb.SeekRequest, _: Caller) -> pb.SeekResponse:
        """Move a subscription to a time or place."""
        to = request.WhichOneof("to")
        body: dict[str, Any] = {"dry_run": request.dry_run}
        if to is not None:
            body["to"] = getattr(request, to)
        backlog = await self._broker.deliveries.seek(request.topic, request.subscription, body)
        return pb.SeekResponse(backlog=backlog)

    # -- pull --------------------------------------------------------------------------------------

    async def watch(self, request: pb.WatchRequest, _: Caller) -> AsyncIterator[pb.Message]:
        """Send every message from a place on, as it comes."""
        after = _after(request) if request.HasField("after") else None
        async with aclosing(self._broker.watch(request.topic, after)) as watching:
            async for messages in watching:
                for message in messages:
                    yield render_message(message)

    async def pull(self, request: pb.PullRequest, _: Caller) -> pb.PullResponse:
        """Hand out deliveries."""
        body = {"max_messages": request.max_messages or DEFAULT_PAGE, "wait_s": request.wait_s}
        pulled = await self._broker.pulls.pull(
            request.topic, request.subscription, body, self._ended, PULLED_BYTES
        )
        return pb.PullResponse(deliveries=self._rendered(request, pulled))

    def _rendered(self, of: Any, pulled: Sequence[Pulled]) -> list[pb.Delivery]:
        return [
            pb.Delivery(
                ack_id=None
                if each.claim is None
                else self._broker.pulls.ack_id(of.topic, of.subscription, each.claim),
                attempt=each.attempt,
                message=render_message(each.message),
                replay=each.replayed,
            )
            for each in pulled
        ]

    async def ack(self, request: pb.AckRequest, _: Caller) -> pb.AckResponse:
        """Settle what was pulled."""
        body = {"ack_ids": list(request.ack_ids)}
        told = await self._broker.pulls.ack(request.topic, request.subscription, body)
        return pb.AckResponse(results=_results(request.ack_ids, told))

    async def nack(self, request: pb.NackRequest, _: Caller) -> pb.AckResponse:
        """Hand back what was pulled."""
        body: dict[str, Any] = {"ack_ids": list(request.ack_ids)}
        if request.HasField("delay_s"):
            body["delay_s"] = request.delay_s
        told = await self._broker.pulls.nack(request.topic, request.subscription, body)
        return pb.AckResponse(results=_results(request.ack_ids, told))

    async def extend(self, request: pb.ExtendRequest, _: Caller) -> pb.AckResponse:
        """Keep what was pulled for longer."""
        body: dict[str, Any] = {"ack_ids": list(request.ack_ids)}
        if request.HasField("ack_deadline_s"):
            body["ack_deadline_s"] = request.ack_deadline_s
        told = await self._broker.pulls.extend(request.topic, request.subscription, body)
        return pb.AckResponse(results=_results(request.ack_ids, told))

    async def streaming_pull(
        self, requests: AsyncIterator[pb.StreamingPullRequest], caller: Caller
    ) -> AsyncIterator[pb.StreamingPullResponse]:
        """Hand out deliveries as there is room for them, and take acks, until the client ends."""
        first = await anext(requests, None)
        if first is None:
            return
        caller.require(SUBSCRIBE, first.topic)
        of = self._calls_of(first.topic)
        stream = PullStream(of._broker.pulls, first, of._ended)
        steps = stream.run(requests)
        # It may be another cell's than the one that the call is counted with.
        async with aclosing(until(steps, of._ended) if of._leaves else steps) as running:
            async for pulled, results in running:
                deliveries = of._rendered(first, pulled)
                yield pb.StreamingPullResponse(deliveries=deliveries, results=results)

    # -- deliveries --------------------------------------------------------------------------------

    async def list_deliveries(
        self, request: pb.ListDeliveriesRequest, _: Caller
    ) -> pb.ListDeliveriesResponse:
        """List what is not settled yet, by state."""
        if request.state not in STATES:
            raise InvalidRequest([Fault("state", f"must be {' or '.join(STATES)}")])
        state = cast(Unsettled, request.state)
        found, following = await self._broker.deliveries.unsettled(
            request.topic, request.subscription, state, _after(request), _limit(request)
        )
        return pb.ListDeliveriesResponse(deliveries=map(to_struct, found), next=following)

    async def retry_delivery(self, request: pb.DeliveryRequest, _: Caller) -> Empty:
        """Attempt a blocked or retrying delivery now."""
        await self._broker.deliveries.retry(request.topic, request.subscription, request.sequence)
        return Empty()

    async def dead_letter_delivery(self, request: pb.DeliveryRequest, _: Caller) -> Empty:
        """Give up a blocked or retrying delivery."""
        await self._broker.deliveries.dead_letter(
            request.topic, request.subscription, request.sequence
        )
        return Empty()

    async def list_attempts(
        self, request: pb.DeliveryRequest, _: Caller
    ) -> pb.ListAttemptsResponse:
        """List the failed attempts at a message."""
        found = await self._broker.deliveries.attempts(
            request.topic, request.subscription, request.sequence
        )
        return pb.ListAttemptsResponse(attempts=map(to_struct, found))

    # -- dead letters ------------------------------------------------------------------------------

    async def list_dead_letters(
        self, request: pb.ListDeadLettersRequest, _: Caller
    ) -> pb.ListDeadLettersResponse:
        """List what was given up."""
        found, following = await self._broker.deliveries.dead_letters(
            request.topic, request.subscription, _after(request), _limit(request)
        )
        return pb.ListDeadLettersResponse(dead_letters=map(to_struct, found), next=following)

    async def get_dead_letter(self, request: pb.DeliveryRequest, _: Caller) -> Struct:
        """Show one dead letter with its failed attempts."""
        return to_struct(
            await self._broker.deliveries.dead_letter_of(
                request.topic, request.subscription, request.sequence
            )
        )

    async def replay_dead_letters(self, request: pb.ReplayRequest, _: Caller) -> pb.ReplayResponse:
        """Make dead letters owed again."""
        body: dict[str, object] = {"all": True} if request.all else {}
        if request.sequences or not request.all:
            body["sequences"] = list(request.sequences)
        replayed = await self._broker.deliveries.replay(request.topic, request.subscription, body)
        return pb.ReplayResponse(replayed=replayed)

    async def delete_dead_letter(self, request: pb.DeliveryRequest, _: Caller) -> Empty:
        """Forget a dead letter."""
        await self._broker.deliveries.delete_dead_letter(
            request.topic, request.subscription, request.sequence
        )
        return Empty()


def _results(ids: Iterable[str], told: Iterable[str]) -> list[pb.AckResult]:
    return [pb.AckResult(ack_id=id_, result=each) for id_, each in zip(ids, told, strict=True)]


def _after(request: Any) -> int:
    after = int(request.after)
    if not 0 <= after < 2**53:
        raise InvalidRequest([Fault("after", "must be a whole number from 0")])
    return after


def _limit(request: Any) -> int:
    limit = int(request.limit) or DEFAULT_PAGE
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidRequest([Fault("limit", f"must be a whole number from 1 to {MAX_PAGE}")])
    return limit


def _source(request: pb.ScheduledRequest) -> str:
    return request.source or f"/topics/{request.topic}"
