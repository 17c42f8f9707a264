"""Everything the broker refuses, as exceptions that every door turns into its own answer."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: the field that has it, and what is allowed there."""

    field: str
    message: str


class BrokerError(Exception):
    """The broker could not do this."""

    status = 500
    code = "internal_error"
    retry_after_s: int | None = None

    def __init__(self, detail: str | None = None, faults: Sequence[Fault] = ()) -> None:
        self.title = (type(self).__doc__ or "").strip().splitlines()[0]
        self.detail = detail if detail is not None else self.title
        self.faults = tuple(faults)
        super().__init__(self.detail)


class MalformedRequest(BrokerError):
    """The request could not be read."""

    status = 400
    code = "malformed_request"


class RouteNotFound(BrokerError):
    """Nothing is served at this path."""

    status = 404
    code = "route_not_found"


class MethodNotAllowed(BrokerError):
    """This path does not take this method."""

    status = 405
    code = "method_not_allowed"


class TopicNotFound(BrokerError):
    """No topic has this name."""

    status = 404
    code = "topic_not_found"

    def __init__(self, topic: str) -> None:
        super().__init__(f'There is no topic "{topic}". Create it with PUT /v1/topics/{topic}.')


class SubscriptionNotFound(BrokerError):
    """No subscription has this name."""

    status = 404
    code = "subscription_not_found"

    def __init__(self, topic: str, subscription: str) -> None:
        path = f"/v1/topics/{topic}/subscriptions/{subscription}"
        super().__init__(
            f'Topic "{topic}" has no subscription "{subscription}". Create it with PUT {path}.'
        )


class MessageNotFound(BrokerError):
    """No such message is there."""

    status = 404
    code = "message_not_found"


class DeliveryBusy(BrokerError):
    """The delivery is in a state in which this cannot be done."""

    status = 409
    code = "delivery_busy"


class InvalidAckUrl(BrokerError):
    """This is not an ack URL of this broker."""

    status = 403
    code = "invalid_ack_url"

    def __init__(self) -> None:
        super().__init__("Use the webhook-ack-url that came with the request, unchanged.")


class TopicInUse(BrokerError):
    """The topic still has subscriptions."""

    status = 409
    code = "topic_in_use"


class TooManyTopics(BrokerError):
    """There are as many topics as there may be."""

    status = 409
    code = "too_many_topics"

    def __init__(self, most: int) -> None:
        super().__init__(f"There may be {most} topics. Delete one that is not needed.")


class TooManySubscriptions(BrokerError):
    """The topic has as many subscriptions as it may have."""

    status = 409
    code = "too_many_subscriptions"

    def __init__(self, topic: str, most: int) -> None:
        super().__init__(
            f'Topic "{topic}" may have {most} subscriptions. Delete one that is not needed.'
        )


class EditConflict(BrokerError):
    """Somebody else changed this at the same moment."""

    status = 409
    code = "edit_conflict"


class IdReused(BrokerError):
    """This id already names a different message."""

    status = 409
    code = "id_reused"


class HostNotAllowed(BrokerError):
    """A browser may not reach the broker under this name."""

    status = 421
    code = "host_not_allowed"

    def __init__(self, host: str) -> None:
        super().__init__(
            f'A browser asked here for "{host[:200]}", as a page that is up to no good would have '
            "it do. If the broker has this name, add it to BROKER_ALLOWED_HOSTS."
        )


class MessageTooLarge(BrokerError):
    """The message is larger than this broker takes."""

    status = 413
    code = "message_too_large"


class RequestTooSlow(BrokerError):
    """The request's body did not come in time."""

    status = 408
    code = "request_timeout"


class Overloaded(BrokerError):
    """The broker has as much to take in as it can hold."""

    status = 429
    code = "overloaded"
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__(
            "Too many requests with large bodies are under way. Send it again in a moment, in "
            "smaller parts if it is large."
        )


class UnsupportedContent(BrokerError):
    """The request's Content-Type is not one this call takes."""

    status = 415
    code = "unsupported_media_type"


class InvalidRequest(BrokerError):
    """The request breaks a rule."""

    status = 422
    code = "invalid_request"

    def __init__(self, faults: Sequence[Fault], detail: str | None = None) -> None:
        told = "; ".join(f"{fault.field}: {fault.message}" for fault in faults[:3])
        super().__init__(detail if detail is not None else f"Mend and send again: {told}.", faults)


class NoOwner(BrokerError):
    """No broker of the cluster owns the store at the moment."""

    status = 503
    code = "no_owner"
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__(
            "No broker of the cluster can take this at the moment. Nothing was changed: repeat it."
        )


class OutcomeUnknown(BrokerError):
    """The store failed while writing."""

    status = 503
    code = "outcome_unknown"
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__(
            "The store failed while this was being written, so it may or may not be stored. "
            "Send it again with the same id: a repeat is recognised."
        )


class StoreUnavailable(BrokerError):
    """The store takes no writes at the moment."""

    status = 503
    code = "store_unavailable"
    retry_after_s = 1


class StorageFull(BrokerError):
    """There is too little room on the broker's disk."""

    status = 507
    code = "storage_full"
    retry_after_s = 10
