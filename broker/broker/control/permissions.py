"""What each call of the control plane needs; one that is not named here is the admin's alone."""

import time
from collections.abc import Mapping

from flask import Request, g

from broker.auth import (
    ADMINISTER,
    ANYONE,
    LIST,
    OPEN,
    PUBLISH,
    PUBLISH_ANY,
    READ,
    READ_ALL,
    SEE,
    SEE_SCHEDULED,
    SUBSCRIBE,
    SUBSCRIBE_ANY,
    WATCH,
    Caller,
    Keys,
    Needs,
)

PAGES = "dashboard."  # begins the endpoints of what is for people, and no call of the interface

PERMISSIONS: Mapping[str, Needs] = {
    "ops.healthz": OPEN,
    "ops.readyz": OPEN,
    "ops.metrics": READ_ALL,
    "openapi.openapi": OPEN,
    "docs.docs": OPEN,
    "acks.conclude": OPEN,
    "keys.list_keys": ADMINISTER,
    "keys.create_key": ADMINISTER,
    "keys.get_key": ADMINISTER,
    "keys.put_key": ADMINISTER,
    "keys.delete_key": ADMINISTER,
    "topics.list_topics": LIST,
    "topics.put_topic": ADMINISTER,
    "topics.get_topic": SEE,
    "topics.delete_topic": ADMINISTER,
    "hot.publish": PUBLISH,
    "hot.stream": READ,
    "hot.pull": SUBSCRIBE,
    "hot.ack": SUBSCRIBE,
    "hot.nack": SUBSCRIBE,
    "hot.extend": SUBSCRIBE,
    "hot.produce": PUBLISH_ANY,  # the topic is in the body
    "hot.subscribe": SUBSCRIBE_ANY,
    "hot.consume": SUBSCRIBE_ANY,
    "messages.browse": READ,
    "messages.get_message": READ,
    "scheduled.list_scheduled": READ,
    "scheduled.get_scheduled": SEE_SCHEDULED,
    "scheduled.cancel_scheduled": PUBLISH,
    "subscriptions.list_subscriptions": WATCH,
    "subscriptions.put_subscription": SUBSCRIBE,
    "subscriptions.get_subscription": WATCH,
    "subscriptions.delete_subscription": SUBSCRIBE,
    "subscriptions.pause": SUBSCRIBE,
    "subscriptions.resume": SUBSCRIBE,
    "subscriptions.rotate_secret": SUBSCRIBE,
    "subscriptions.seek": SUBSCRIBE,
    "deliveries.list_deliveries": WATCH,
    "deliveries.retry": SUBSCRIBE,
    "deliveries.dead_letter": SUBSCRIBE,
    "deliveries.list_attempts": WATCH,
    "dead_letters.list_dead_letters": WATCH,
    "dead_letters.get_dead_letter": WATCH,
    "dead_letters.replay": SUBSCRIBE,
    "dead_letters.delete_dead_letter": SUBSCRIBE,
}


def admit(request: Request, keys: Keys) -> None:
    """Let a request go on to its view, or raise Unauthorized or Forbidden."""
    if request.endpoint is not None and request.endpoint.startswith(PAGES):
        return  # they ask by themselves
    needs = PERMISSIONS.get(request.endpoint or "", ADMINISTER)
    if needs is OPEN:
        g.caller = ANYONE
        return
    authorization = request.headers.get("Authorization", "").encode("latin-1")
    headers = [(b"authorization", authorization)] if authorization else []
    who = g.caller = keys.caller(headers, time.time())
    if request.endpoint is None:
        return  # there is no such call, which any key may be told
    who.require(needs, str((request.view_args or {}).get("topic", "")))


def caller() -> Caller:
    """Return who sent the request that is being served."""
    found: Caller = g.caller
    return found
