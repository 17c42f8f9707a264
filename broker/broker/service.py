"""The use cases, the same for every door."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace as replace_fields
from uuid_utils import uuid7

from broker import subscription as subscription_fields
from broker import topic as topic_fields
from broker.api_keys import ApiKeys
from broker.auth import Keys
from broker.changes import subscription_changed, topic_changed
from broker.cloudevents import (
    Attributes,
    HeaderList,
    mode_of,
    parse_time,
    read_batch,
    read_binary,
    read_parts,
    read_structured,
)
from broker.config import Settings
from broker.consent import Agreement
from broker.deliveries import Deliveries
from broker.dispatch.dispatcher import Dispatcher
from broker.encryption import Cipher
from broker.errors import (
    BrokerError,
    EditConflict,
    Fault,
    IdReused,
    InvalidRequest,
    MessageNotFound,
    MessageTooLarge,
    OutcomeUnknown,
    StorageFull,
    StoreUnavailable,
    SubscriptionNotFound,
    TooManySubscriptions,
    TooManyTopics,
    TopicInUse,
    TopicNotFound,
)
from broker.history import History, Totals
from broker.message_id import made_at_of
from broker.metrics import Measures, SubscriptionMeasures
from broker.model import Appended, Message, NewMessage, Scheduled, Turn
from broker.names import checked_name
from broker.new_batch import data_in, longest_in
from broker.pulls import Pulls
from broker.room import Room
from broker.schema import DataSchema
from broker.schema_faults import Schema
from broker.signing import new_secret
from broker.store.port import Conflict, IdTaken, LeaseLost, Store, TopicStats, Unavailable, Waiter
from broker.store.sealed import SealedDocuments
from broker.streams import Streams
from broker.subscription import Start, Subscription
from broker.topic import Topic
from broker.tracing import Tracing
from broker.views import SecretView, SubscriptionView, TopicView, subscription_view, topic_view

MOST_TOPICS = 100_000
MOST_SUBSCRIPTIONS = 10_000
"""Of one topic: each that is to be sent to costs every publish some microseconds."""
MAX_ATTRIBUTES_BYTES = 64 * 1024
MAX_PAGE = 1000

CLOCKS_DIFFER_S = 60.0
NO_CONSENT = ("awaited", "refused")


class Placed(Struct, frozen=True):
    """Messages that have their places in a topic's log, and are about to be on disk.

    Little is kept of them: what is freed at once is freed while the processor has it in its cache.
    So many are `new` and so many `repeated`, `size` is of their data. Where they are `traced`, the
    publish began at `began_ns`.
    """

    topic: str
    new: int
    repeated: int
    size: int
    traced: Sequence[NewMessage] = ()
    began_ns: int = 0


class Broker:
    """What can be asked of a broker. Every method runs on the worker's event loop.

    Each raises a BrokerError for what it refuses, and has then changed nothing.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        keys: Keys | None = None,
        now: Callable[[], float] = time.time,
        tracing: Tracing | None = None,
    ) -> None:
        self._store = store
        cipher = Cipher(settings.encryption_keys) if settings.encryption_keys else None
        self._documents = SealedDocuments(store, cipher)
        self._tracing = tracing
        self.keys = ApiKeys(store, keys if keys is not None else Keys(None, on=False), now)
        self._settings = settings
        self._now = now
        self.topics: dict[str, Topic] = {}
        self._schemas: dict[str, DataSchema] = {}
        self._room = Room(store, settings.min_free_bytes)
        self.subscriptions: dict[tuple[str, str], Subscription] = {}
        self.dispatcher: Dispatcher | None = None
        self._published: Counter[str] = Counter()
        self._repeated: Counter[str] = Counter()
        # Of codes that tell of the store there is a 0 before the first, or a rate would miss it.
        self.refused = Counter({StorageFull.code: 0, OutcomeUnknown.code: 0})
        self.deliveries = Deliveries(store, self)
        self.pulls = Pulls(self)
        self.streams = Streams()
        self.history = History(self._totals)

    def use(self, dispatcher: Dispatcher) -> None:
        """Have deliveries made."""
        self.dispatcher = self.deliveries.dispatcher = self.pulls.dispatcher = dispatcher

    async def load(self) -> None:
        """Take over the configuration that the store holds, its secrets encrypted from now on.

        Raises Unusable where they are encrypted and a key is missing.
        """
        await self._documents.encrypt()
        self.keys.load()
        for document, _ in self._documents.documents("topic/").values():
            topic = Topic.from_document(document)
            self.topics[topic.name] = topic
        for document, _ in self._documents.documents("subscription/").values():
            subscription = Subscription.from_document(document)
            self.subscriptions[(subscription.topic, subscription.name)] = subscription

    def ready(self) -> list[str]:
        """Return what keeps the broker from working; nothing if it is ready."""
        reasons = []
        if (failure := self._store.writable()) is not None:
            reasons.append(failure)
        if self.dispatcher is None or not self.dispatcher.alive():
            reasons.append("deliveries are not all being made: a courier is not running")
        return reasons

    # -- publish -----------------------------------------------------------------------------------

    def body_limit(self, content_type: str) -> int:
        """Return how many bytes a publish request of this type may have."""
        if mode_of(content_type) == "batch":
            return self._settings.max_batch_bytes
        # JSON may write a byte of data as six (\\u0000); whether the data fits is judged when read.
        return 6 * self._settings.max_message_bytes + MAX_ATTRIBUTES_BYTES

    def read(
        self,
        topic: str,
        content_type: str,
        headers: HeaderList,
        body: bytes,
        idempotency_key: str | None,
    ) -> tuple[bool, Sequence[NewMessage]]:
        """Read a publish request: whether it is a batch, and its messages."""
        mode = mode_of(content_type)
        if mode == "batch":
            if idempotency_key is not None:
                rule = "cannot be used with a batch: give each event its own id"
                raise InvalidRequest([Fault("Idempotency-Key", rule)])
            messages: Sequence[NewMessage] = read_batch(body)
        elif mode == "structured":
            messages = [read_structured(body, idempotency_key)]
        else:
            now = self._now()
            messages = [read_binary(topic, headers, body, idempotency_key, _new_id, now)]
        self._require_sizes(messages)
        return mode == "batch", messages

    def take(
        self, topic: str, events: Sequence[tuple[Attributes, bytes | None]]
    ) -> list[NewMessage]:
        """Take events that are in parts already, as attributes and data."""
        now, messages = self._now(), []
        faults: list[Fault] = []
        for position, (attributes, data) in enumerate(events):
            try:
                messages.append(read_parts(topic, attributes, data, _new_id, now))
            except InvalidRequest as wrong:
                faults += [Fault(f"events[{position}].{f.field}", f.message) for f in wrong.faults]
        if faults:
            raise InvalidRequest(faults)
        self._require_sizes(messages)
        return messages

    def _require_sizes(self, messages: Sequence[NewMessage]) -> None:
        attributes, data = longest_in(messages)
        limit = self._settings.max_message_bytes
        if data > limit:
            raise MessageTooLarge(f"A message may have {limit} bytes of data; this one has {data}.")
        if attributes > MAX_ATTRIBUTES_BYTES:
            raise MessageTooLarge(
                f"A message may have {MAX_ATTRIBUTES_BYTES} bytes of attributes; "
                f"this one has {attributes}."
            )

    async def measures(self) -> Measures:
        """Tell of everything, for a scrape."""
        now, standings = self._now(), await self._store.standings()
        subscriptions = []
        for (topic, name), standing in standings.items():
            subscription = self.subscriptions.get((topic, name))
            pump = self.dispatcher.pump(topic, name) if self.dispatcher is not None else None
            subscriptions.append(
                SubscriptionMeasures(
                    topic,
                    name,
                    standing,
                    0 if pump is None else pump.in_flight(),
                    paused=subscription is not None and subscription.paused,
                    circuit_open=pump is not None and not pump.circuit_closed(),
                    no_consent=pump is not None and pump.consent_state in NO_CONSENT,
                    tally=None if pump is None else pump.tally,
                )
            )
        return Measures(
            now,
            dict(self._published),
            dict(self._repeated),
            dict(self.refused),
            {name: self._stats(name) for name in self.topics},
            subscriptions,
            self._store.measures(),
        )

    def _totals(self) -> Totals:
        tallies = [] if self.dispatcher is None else self.dispatcher.tallies()
        return Totals(
            time.monotonic(),
            self._published.total(),
            sum(tally.acked for tally in tallies),
            sum(tally.failed.count for tally in tallies),
        )

    async def publish(
        self, topic: str, messages: Sequence[NewMessage], *, batch: bool = False
    ) -> Sequence[Appended]:
        """Store messages, all or none; return once they are on disk."""
        if topic not in self.topics:
            await self._ensure_topic(topic)
        durable = asyncio.get_running_loop().create_future()
        placed, appended = self.place(topic, messages, durable, batch=batch)
        failure = None
        try:
            await durable
        except BaseException as error:
            failure = error
        self.stored(placed, failure)
        return appended

    def place(
        self, topic: str, messages: Sequence[NewMessage], waiter: Waiter, *, batch: bool = False
    ) -> tuple[Placed, Sequence[Appended]]:
        """Begin to store messages, all or none, in a topic that exists; tell where they stand.

        Whoever begins it calls `stored` once the waiter has been told, and only then may say so.
        """
        found = self.topics[topic]
        if found.schema is not None:
            self._schema_of(found, found.schema).check(messages, batch=batch)
        size = data_in(messages)
        began_ns = 0 if self._tracing is None else time.time_ns()
        self._room.take(size)
        try:
            appended = self._store.append_soon(topic, messages, waiter)
        except IdTaken as taken:
            self._room.written(size)
            raise IdReused(
                f'The id "{taken.id}" from source "{taken.source}" names a different message '
                "already. Give this one an id of its own; nothing of the request was stored."
            ) from None
        except Exception:
            self._room.written(size)
            raise
        repeated = 0
        for each in appended:
            if each.duplicate:
                repeated += 1
        traced = () if self._tracing is None else messages
        return Placed(topic, len(appended) - repeated, repeated, size, traced, began_ns), appended

    def stored(self, placed: Placed, failure: BaseException | None) -> None:
        """Count what has been stored; raise what a failure comes to."""
        self._room.written(placed.size)
        if failure is not None:
            raise OutcomeUnknown if isinstance(failure, Unavailable) else failure from None
        self._published[placed.topic] += placed.new
        if placed.repeated:
            self._repeated[placed.topic] += placed.repeated
        if self._tracing is not None:
            self._tracing.published(placed.topic, placed.traced, placed.began_ns)

    def _schema_of(self, topic: Topic, schema: Schema) -> DataSchema:
        """Return a topic's schema, compiled at the first message."""
        known = self._schemas.get(topic.name)
        if known is None or known.schema is not schema:
            known = self._schemas[topic.name] = DataSchema(schema)
        return known

    # -- topics ------------------------------------------------------------------------------------

    async def put_topic(self, name: str, body: Mapping[str, object]) -> tuple[bool, TopicView]:
        """Create or update a topic; return whether it was created, and its view."""
        checked_name("topic", name)
        before = self.topics.get(name)
        topic = topic_fields.updated(before or Topic(name, created_at=self._now()), body)
        if before is None:
            await self._create_topic(topic)
        elif _differ(topic, before):
            self.topics[name] = topic
            await self._put_document(f"topic/{name}", topic.to_document())
            topic_changed("topic_updated", name)
        return before is None, self.topic_view(name)

    async def _ensure_topic(self, name: str) -> None:
        while name not in self.topics:  # again where it was deleted while it was created
            checked_name("topic", name)
            if not self._settings.auto_create_topics:
                raise TopicNotFound(name)
            self._room.require()
            await self._create_topic(Topic(name, created_at=self._now()))

    async def _create_topic(self, topic: Topic) -> None:
        if len(self.topics) >= MOST_TOPICS:
            raise TooManyTopics(MOST_TOPICS)
        self.topics[topic.name] = topic
        try:
            await self._store.create_topic(topic.name, topic.to_document())
            topic_changed("topic_created", topic.name)
        except Conflict:
            pass  # another request created it a moment ago
        except Unavailable:
            raise OutcomeUnknown from None

    def topic(self, name: str) -> Topic:
        """Return a topic's configuration."""
        topic = self.topics.get(name)
        if topic is None:
            checked_name("topic", name)
            raise TopicNotFound(name)
        return topic

    def topic_view(self, name: str) -> TopicView:
        """Show one topic."""
        return topic_view(self.topic(name), self._stats(name), self._names_of(name))

    def list_topics(self, shown: Callable[[str], bool] = lambda _: True) -> list[TopicView]:
        """Show every topic that is `shown`, in the order of names."""
        names: dict[str, list[str]] = {name: [] for name in sorted(self.topics) if shown(name)}
        for topic, name in sorted(self.subscriptions):
            if topic in names:
                names[topic].append(name)
        return [
            topic_view(self.topic(topic), self._stats(topic), subscriptions)
            for topic, subscriptions in names.items()
        ]

    async def delete_topic(self, name: str, *, force: bool) -> None:
        """Remove a topic and all it holds; with subscriptions only by force."""
        self.topic(name)
        names = self._names_of(name)
        if names and not force:
            raise TopicInUse(
                f'Topic "{name}" has the subscriptions {", ".join(names)}. '
                "Delete them first, or repeat with ?force=true to delete them too."
            )
        del self.topics[name]
        self._schemas.pop(name, None)
        del self._published[name], self._repeated[name]
        for subscription in names:
            del self.subscriptions[(name, subscription)]
        await self._durably(self._store.drop_topic(name))
        topic_changed("topic_deleted", name)

    def _has_most(self, topic: str) -> bool:
        """Say whether a topic has as many subscriptions as it may; not counted while it cannot."""
        if len(self.subscriptions) < MOST_SUBSCRIPTIONS:
            return False
        return sum(owner == topic for owner, _ in self.subscriptions) >= MOST_SUBSCRIPTIONS

    def _names_of(self, topic: str) -> list[str]:
        return sorted(name for owner, name in self.subscriptions if owner == topic)

    def _stats(self, topic: str) -> TopicStats:
        return self._store.topic_stats(topic)

    # -- messages ----------------------------------------------------------------------------------

    async def browse(
        self,
        topic: str,
        after: int,
        limit: int,
        key: str | None,
        type_: str | None,
        id_: str | None = None,
    ) -> tuple[Sequence[Message], int | None]:
        """Return messages after a sequence, oldest first, and where to read on."""
        self.topic(topic)
        return await self._store.read(topic, after, limit, key, type_, id_)

    async def find(self, topic: str, id_: str) -> tuple[Sequence[int], int]:
        """Return where messages of an id are, and if that is not known, after which to look.

        It is known of ids that publishers chose, within the deduplication window. Others that tell
        their time (UUIDv7, as the broker makes them) are not stored much before it.
        """
        self.topic(topic)
        known = await self._store.sequences_of(topic, id_)
        made_at = None if known else made_at_of(id_)
        if made_at is None:
            return known, self._stats(topic).first_sequence - 1
        return known, await self._store.locate(topic, made_at - CLOCKS_DIFFER_S) - 1

    def watch(
        self, topic: str, after: int | None, key: str | None = None, type_: str | None = None
    ) -> AsyncGenerator[Sequence[Message], None]:
        """Yield messages after a sequence as they come, from now on for None."""
        self.topic(topic)
        return self._store.watch(topic, after, key, type_)

    async def sequence_at(self, topic: str, at: str) -> int:
        """Return the first sequence stored at or after an RFC 3339 time, else the next one."""
        self.topic(topic)
        time_ = parse_time(at)
        if time_ is None:
            raise InvalidRequest([Fault("at", "must be a time (RFC 3339)")])
        return await self._store.locate(topic, time_)

    async def message(self, topic: str, sequence: int) -> Message:
        """Return one message."""
        self.topic(topic)
        found, _ = await self._store.read(topic, sequence - 1, 1)
        if not found or found[0].seq != sequence:
            raise MessageNotFound(
                f'Topic "{topic}" has no message {sequence}: never stored, or past its retention.'
            )
        return found[0]

    # -- messages that wait for their time ---------------------------------------------------------

    async def scheduled(
        self, topic: str, after: Turn, limit: int
    ) -> tuple[Sequence[Scheduled], Turn | None]:
        """Return waiting messages in the order in which they are due, and where to read on."""
        self.topic(topic)
        return await self._store.scheduled(topic, after, limit)

    async def scheduled_message(self, topic: str, source: str, id_: str) -> Scheduled:
        """Return a message that waits."""
        self.topic(topic)
        found = await self._store.find_scheduled(topic, source, id_)
        if found is None:
            raise _not_scheduled(topic, source, id_)
        return found

    async def cancel_scheduled(self, topic: str, source: str, id_: str) -> None:
        """Remove a message that waits; its id may be used anew."""
        self.topic(topic)
        try:
            cancelled = await self._store.cancel_scheduled(topic, source, id_)
        except Unavailable:
            raise OutcomeUnknown from None
        if not cancelled:
            raise _not_scheduled(topic, source, id_)

    # -- subscriptions -----------------------------------------------------------------------------

    async def put_subscription(
        self, topic: str, name: str, body: Mapping[str, object]
    ) -> tuple[bool, SubscriptionView]:
        """Create or update a subscription; return whether it was created, and its view.

        The view of a new one has its secret, which is shown nowhere else.
        """
        checked_name("topic", topic)
        checked_name("subscription", name)
        before = self.subscriptions.get((topic, name))
        if before is None:
            created = await self._create_subscription(topic, name, body)
            if created is not None:
                return True, created
            before = self.subscriptions[(topic, name)]
        after, _ = self._updated(before, body)
        if after.filters == before.filters:
            await self._replace(before, after)
        else:
            await self._filter_anew(topic, name, body)
        if after != before:
            subscription_changed("subscription_updated", topic, name)
        return False, await self.subscription_view(topic, name)

    async def _filter_anew(self, topic: str, name: str, body: Mapping[str, object]) -> None:
        """Have new filters apply to what was not looked at under the old ones, and to no more.

        On disk the position changes with them: else a broker that is killed now would look again
        at what the old ones let pass.
        """

        async def write() -> None:
            before = self.subscription(topic, name)  # it may have changed meanwhile
            after, _ = self._updated(before, body)
            await self._replace(before, after)

        pump = self.dispatcher.pump(topic, name) if self.dispatcher is not None else None
        if pump is None:
            await write()
            return
        try:
            await pump.perform(partial(pump.interventions.with_position, write))
        except LeaseLost:
            raise SubscriptionNotFound(topic, name) from None
        except Unavailable:  # the broker stops
            raise OutcomeUnknown from None

    def _updated(
        self, before: Subscription, body: Mapping[str, object]
    ) -> tuple[Subscription, Start]:
        after, start = subscription_fields.updated(before, body, self._now())
        if after.allow_later and self._settings.public_url is None:
            rule = "needs BROKER_PUBLIC_URL: without it the broker cannot say where to answer"
            raise InvalidRequest([Fault("allow_later", rule)])
        return after, start

    async def _replace(self, before: Subscription, after: Subscription) -> None:
        if after == before:
            return
        # Before the await: whoever changes it next starts from this one.
        self.subscriptions[(after.topic, after.name)] = after
        await self._put_document(f"subscription/{after.topic}/{after.name}", after.to_document())
        if self.dispatcher is not None:
            self.dispatcher.configure(after)

    async def set_paused(self, topic: str, name: str, reason: str | None) -> SubscriptionView:
        """Pause a subscription for a reason, or let it go on; return its view."""
        before = self.subscription(topic, name)
        after = replace(before, paused=reason is not None, paused_reason=reason)
        await self._replace(before, after)
        if after.paused is not before.paused:
            action = "subscription_paused" if after.paused else "subscription_resumed"
            subscription_changed(action, topic, name)
        return await self.subscription_view(topic, name)

    async def pause_gone(self, subscription: Subscription, reason: str) -> None:
        """Pause a subscription whose endpoint wants nothing more; what it is owed waits."""
        with contextlib.suppress(BrokerError):  # deleted meanwhile, or the store is failing
            await self.set_paused(subscription.topic, subscription.name, reason)

    async def keep_agreement(self, subscription: Subscription, agreement: Agreement) -> None:
        """Keep what an endpoint has agreed to; where that fails, it is asked again some time."""
        with contextlib.suppress(BrokerError):  # deleted meanwhile, or the store is failing
            before = self.subscription(subscription.topic, subscription.name)
            if before.endpoint == agreement.endpoint and before.consent != "off":
                await self._replace(before, replace(before, agreement=agreement))

    async def rotate_secret(self, topic: str, name: str, body: Mapping[str, object]) -> SecretView:
        """Replace a subscription's secret; return the new one, which is shown nowhere else."""
        before = self.subscription(topic, name)
        secret, overlap_s = subscription_fields.rotation_of(body)
        after = subscription_fields.rotated(before, secret, overlap_s, self._now())
        await self._replace(before, after)
        subscription_changed("secret_rotated", topic, name)
        return SecretView(after.secret, overlap_s)

    async def _create_subscription(
        self, topic: str, name: str, body: Mapping[str, object]
    ) -> SubscriptionView | None:
        """Create a subscription; return None if another request has done so meanwhile."""
        secret = body.get("secret")
        fresh = Subscription(
            topic,
            name,
            secret if isinstance(secret, str) else new_secret(),
            created_at=self._now(),
        )
        subscription, start = self._updated(fresh, body)
        await self._ensure_topic(topic)
        first = await self._first_sequence(topic, start)
        self.topic(topic)  # it may have been deleted while its log was searched
        if (topic, name) in self.subscriptions:
            return None
        if self._has_most(topic):
            raise TooManySubscriptions(topic, MOST_SUBSCRIPTIONS)
        self.subscriptions[(topic, name)] = subscription
        await self._durably(
            self._documents.create_subscription(topic, name, subscription.to_document(), first)
        )
        subscription_changed("subscription_created", topic, name)
        return replace_fields(await self.subscription_view(topic, name), secret=subscription.secret)

    async def _first_sequence(self, topic: str, start: Start) -> int:
        end = self._stats(topic).last_sequence + 1
        if start == "now":
            return end
        if start == "beginning":
            return 1
        if isinstance(start, int):
            return max(1, min(start, end))
        at = parse_time(start)
        return end if at is None else await self._store.locate(topic, at)

    def subscription(self, topic: str, name: str) -> Subscription:
        """Return a subscription's configuration."""
        self.topic(topic)
        subscription = self.subscriptions.get((topic, name))
        if subscription is None:
            checked_name("subscription", name)
            raise SubscriptionNotFound(topic, name)
        return subscription

    async def subscription_view(self, topic: str, name: str) -> SubscriptionView:
        """Show one subscription and how far it is."""
        subscription = self.subscription(topic, name)
        pump = self.dispatcher.pump(topic, name) if self.dispatcher is not None else None
        try:
            stats = await self._store.shard_stats(topic, name)
        except (KeyError, LeaseLost):  # deleted meanwhile
            raise SubscriptionNotFound(topic, name) from None
        return subscription_view(subscription, stats, pump, self._now())

    async def list_subscriptions(self, topic: str) -> list[SubscriptionView]:
        """Show a topic's subscriptions, in the order of names."""
        self.topic(topic)
        views = []
        for name in self._names_of(topic):
            with contextlib.suppress(SubscriptionNotFound):  # deleted meanwhile
                views.append(await self.subscription_view(topic, name))
        return views

    async def delete_subscription(self, topic: str, name: str) -> None:
        """Remove a subscription and what it holds."""
        self.subscription(topic, name)
        del self.subscriptions[(topic, name)]
        await self._durably(self._store.drop_subscription(topic, name))
        subscription_changed("subscription_deleted", topic, name)

    # -- within ------------------------------------------------------------------------------------

    async def _put_document(self, key: str, document: dict[str, Any]) -> None:
        revision = self._documents.revision(key)
        await self._durably(self._documents.put_document(key, document, revision))

    async def _durably(self, write: Coroutine[Any, Any, Any]) -> None:
        if (failure := self._store.writable()) is not None:
            write.close()
            raise StoreUnavailable(failure)
        try:
            await write
        except Conflict:
            raise EditConflict from None
        except Unavailable:
            raise OutcomeUnknown from None


def _differ(one: Topic, other: Topic) -> bool:
    """Say whether two configurations are stored differently: to Python 1 is True, in JSON not."""
    encode = msgspec.json.encode
    return encode(one.to_document()) != encode(other.to_document())


def _not_scheduled(topic: str, source: str, id_: str) -> MessageNotFound:
    return MessageNotFound(
        f'In topic "{topic}" no message "{id_}" from source "{source}" waits for its time: '
        "never stored, cancelled, or in the log by now."
    )


def _new_id() -> str:
    return str(uuid7())
