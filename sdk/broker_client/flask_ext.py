"""The Flask extension: handlers for topics, and the subscriptions that feed them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Event as Flag
from typing import Any, Literal, TypeVar

from flask import Flask, Response, g, request

from broker_client.consent import reply_to_question
from broker_client.delivery import Delivery, is_batch, read_deliveries, subscription_in
from broker_client.errors import InvalidSignature, MalformedEvent
from broker_client.formats import dump_json
from broker_client.handlers import Handler, Handlers, Registration
from broker_client.inbox import Inbox
from broker_client.reception import Reception
from broker_client.replies import Reply, problem, reply_to_batch, reply_to_one
from broker_client.secret_table import ensure_secret
from broker_client.settings import SubscriberSettings, read_settings
from broker_client.signatures import verify
from broker_client.subscriptions import SubscriptionKeeper, WantedSubscription
from broker_client.transport import Transport

H = TypeVar("H", bound=Handler)
Guarantee = Literal["exactly-once", "at-least-once", "at-most-once"]

# For bodies that nobody has vouched for yet, where the application sets no limit.
_MAX_BODY_BYTES = 64 * 1024 * 1024


class Subscriber:
    """Receives topics in a Flask application, each event once.

    A handler is called with the event and what `transaction` gives; the inbox's record of the
    event and the handler's effects are committed together. `transaction` opens a unit of work that
    commits on a clean exit and rolls back on an exception, such as `sessionmaker.begin`; it is
    `inbox.transaction` unless given. Whatever a handler raises rolls back, and the event is
    delivered again; `Retry` says when, `DeadLetter` that it shall not be, `Later` that `finish`
    will say.

    With an inbox the subscriptions ask for `guarantee` exactly-once: the broker then settles an
    event only for a receipt, which is sent once the inbox's record is committed. A broker too old
    for it is asked for less, unless it is asked for here. Without an inbox it is at-least-once;
    handlers are then called for every delivery, with None unless there is a `transaction`.

    The handlers' subscriptions are created in the background, and again should the broker lose
    them. Settings in `app.config`: `BROKER_URL`, `BROKER_WEBHOOK_URL` (the base URL under which the
    broker reaches this application), and optionally `BROKER_SUBSCRIBER_NAME` (the application's
    name), `BROKER_API_KEY`, `BROKER_WEBHOOK_PATH` (`/webhooks`), `BROKER_WEBHOOK_SECRET` (one is
    made and kept in the inbox's database, if there is one), `BROKER_WEBHOOK_ORIGINS` (names of the
    brokers, with commas, that get consent where they ask for it, or `*`) and `BROKER_SUBSCRIBE`
    (true).
    """

    _settings: SubscriberSettings
    _secret: str | None

    def __init__(
        self,
        app: Flask | None = None,
        *,
        inbox: Inbox | None = None,
        transaction: Callable[[], AbstractContextManager[Any]] | None = None,
        guarantee: Guarantee | None = None,
    ) -> None:
        _check_guarantee(guarantee, inbox)
        self._inbox = inbox
        self._transaction = _default_transaction(inbox) if transaction is None else transaction
        self._seen_to_commit = Flag()
        self._guarantee = _default_guarantee(inbox) if guarantee is None else guarantee
        self._handlers = Handlers()
        self._keeper: SubscriptionKeeper | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the webhooks' route, and begin to create the subscriptions.

        Raises ValueError for a missing or wrong setting.
        """
        self.stop()
        self._settings = read_settings(app.config, app.name)
        self._secret = self._settings.webhook_secret
        if self._inbox is None:
            self._known_secret()
        self._keeper = self._new_keeper() if self._settings.subscribe else None
        rule = f"{self._settings.webhook_path}/<topic>"
        app.add_url_rule(
            rule,
            "broker_webhook",
            self._receive,
            methods=["POST", "OPTIONS"],
            provide_automatic_options=False,
        )
        app.extensions["broker_subscriber"] = self
        self.start()

    def on(
        self,
        topic: str,
        *,
        subscription: str | None = None,
        types: Sequence[str] | None = None,
        **fields: Any,
    ) -> Callable[[H], H]:
        """Handle a topic's events, or those of some `types`, with the decorated function.

        `subscription` has the subscriber's name unless given. Several handlers of one subscription
        run in one transaction, in the order of their decoration. `fields` are the subscription's,
        such as `max_in_flight=1`; `start` is "beginning" and `ordering` "key" unless given.
        """

        _check_guarantee(fields.get("guarantee"), self._inbox)

        def register(handler: H) -> H:
            wanted = None if types is None else frozenset(types)
            self._handlers.add(Registration(topic, subscription, wanted, fields, handler))
            if self._keeper is not None:
                self._keeper.ring()
            return handler

        return register

    def finish(self, delivery: Delivery, handler: Handler) -> bool:
        """Handle a delivery that was answered with `Later`, and tell the broker how that ended.

        For a thread or process of its own: `handler` is called as a decorated one would be, in a
        transaction, unless the inbox knows the event; what it raises means the same. Returns False
        where the broker waited no longer and delivers again. Raises LaterNotAllowed, and
        BrokerUnavailable or BrokerRefused where the broker could not be told: then too it delivers
        again, once `ack_deadline_s` is over.
        """
        subscription = self._find_subscription(delivery.topic, delivery.subscription)
        if subscription is None:
            raise ValueError(f"nothing here handles {delivery.topic}/{delivery.subscription}")
        reception = self._reception(
            delivery.topic, subscription, lambda each, session: handler(each.event, session)
        )
        return reception.finish(delivery)

    def start(self) -> None:
        """Create the subscriptions in the background, unless that has begun in this process."""
        if self._keeper is not None:
            self._keeper.start()

    def stop(self) -> None:
        """Stop renewing the subscriptions; they stay at the broker."""
        if self._keeper is not None:
            self._keeper.stop()

    @property
    def ready(self) -> bool:
        """Say whether this process has seen all its subscriptions exist.

        True where `BROKER_SUBSCRIBE` is off: then they are somebody else's care.
        """
        self.start()
        return self._keeper is None or self._keeper.ready

    @property
    def delivery(self) -> Delivery:
        """Return the delivery being handled: its attempt, sequence and the like."""
        delivery: Delivery = g.broker_delivery
        return delivery

    def _new_keeper(self) -> SubscriptionKeeper:
        transport = Transport(self._settings.url, api_key=self._settings.api_key)
        return SubscriptionKeeper(transport, wanted=self._wanted, secret=self._known_secret)

    def _wanted(self) -> list[WantedSubscription]:
        found = self._handlers.subscriptions(self._settings.subscriber_name)
        preferred = {"guarantee": "exactly-once"} if self._guarantee is None else {}
        return [
            WantedSubscription(topic, name, {**self._default_fields(topic), **fields}, preferred)
            for (topic, name), fields in found.items()
        ]

    def _default_fields(self, topic: str) -> dict[str, Any]:
        endpoint = self._settings.endpoint(topic)
        fields = {"endpoint": endpoint, "start": "beginning", "ordering": "key"}
        return fields if self._guarantee is None else {**fields, "guarantee": self._guarantee}

    def _known_secret(self) -> str:
        if self._secret is None:
            if self._inbox is None:
                raise ValueError("BROKER_WEBHOOK_SECRET is missing, and no inbox can keep one")
            self._secret = ensure_secret(self._inbox.database, self._settings.subscriber_name)
        return self._secret

    def _receive(self, topic: str) -> Response:
        self.start()  # a fork after init_app left the thread behind
        reply = self._consent(topic) if request.method == "OPTIONS" else self._reply(topic)
        body = None if reply.document is None else dump_json(reply.document)
        return Response(body, reply.status, reply.headers, content_type=reply.content_type)

    def _reply(self, topic: str) -> Reply:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if request.max_content_length is None:
            request.max_content_length = _MAX_BODY_BYTES
        body = request.get_data(cache=False)
        try:
            verify(self._known_secret(), headers, body)
            deliveries = read_deliveries(topic, headers, body)
        except InvalidSignature as error:
            return problem(401, "invalid_signature", "The signature is not valid", str(error))
        except MalformedEvent as error:
            return problem(422, "malformed_event", "This is no CloudEvents event", str(error))
        return self._take(topic, headers, deliveries)

    def _consent(self, topic: str) -> Reply:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if self._find_subscription(topic, subscription_in(headers)) is None:
            return _nothing_here(topic)
        origins = self._settings.webhook_origins
        return reply_to_question(origins, headers.get("webhook-request-origin"))

    def _take(self, topic: str, headers: Mapping[str, str], deliveries: list[Delivery]) -> Reply:
        named = deliveries[0].subscription if deliveries else None
        subscription = self._find_subscription(topic, named)
        if subscription is None:
            return _nothing_here(topic)

        def handle(delivery: Delivery, session: Any) -> None:
            g.broker_delivery = delivery
            name = self._settings.subscriber_name
            for handler in self._handlers.matching(topic, subscription, delivery.event, name):
                handler(delivery.event, session)

        reception = self._reception(topic, subscription, handle)
        if is_batch(headers):
            return reply_to_batch(reception.take_batch(deliveries))
        [delivery] = deliveries
        outcome = reception.take(delivery)
        return reply_to_one(outcome, by_status=not self._reads_verdicts(delivery))

    def _find_subscription(self, topic: str, named: str | None) -> str | None:
        return self._handlers.find_subscription(topic, named, self._settings.subscriber_name)

    def _reads_verdicts(self, delivery: Delivery) -> bool:
        """Say whether whoever sent this reads a verdict beside a 2xx, and takes it for no ack."""
        if delivery.ack_url is not None:
            return True
        if delivery.subscription is None:
            return False  # a sender of Standard Webhooks, and no broker
        if self._keeper is None:
            return True  # whoever made the subscription chose the broker
        return self._keeper.reads_verdicts(delivery.topic, delivery.subscription)

    def _reception(
        self, topic: str, subscription: str, handle: Callable[[Delivery, Any], object]
    ) -> Reception:
        consumer = f"{topic}/{subscription}"
        return Reception(self._inbox, consumer, self._transaction, handle, self._seen_to_commit)


def _nothing_here(topic: str) -> Reply:
    return problem(
        404,
        "subscription_not_found",
        "Nothing here handles this subscription",
        f"register a handler for topic {topic}, or delete the subscription",
    )


def _check_guarantee(guarantee: object, inbox: Inbox | None) -> None:
    if guarantee == "exactly-once" and inbox is None:
        raise ValueError("the guarantee exactly-once needs an inbox")


def _default_guarantee(inbox: Inbox | None) -> Guarantee | None:
    """Return what to insist on; None means exactly once, where the broker can."""
    return "at-least-once" if inbox is None else None


def _default_transaction(inbox: Inbox | None) -> Callable[[], AbstractContextManager[Any]]:
    return nullcontext if inbox is None else inbox.transaction
