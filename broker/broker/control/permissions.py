"""What each call of the control plane needs; one that is not named here is the admin's alone."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from flask import Request, g

from broker.auth import ANYONE, Caller, Forbidden, Keys
from broker.scopes import Action


@dataclass(frozen=True, slots=True)
class Needs:
    """One of these actions, on the topic of the path, on all topics, or on any topic at all.

    No actions: the call is open, or its token is its key.
    """

    actions: tuple[Action, ...] = ()
    on: Literal["topic", "all", "any"] = "topic"


OPEN = Needs()
ADMIN = Needs(("admin",), "all")
READ = Needs(("read",))
WATCH = Needs(("read", "subscribe"))
SUBSCRIBE = Needs(("subscribe",))
PUBLISH = Needs(("publish",))

PERMISSIONS: Mapping[str, Needs] = {
    "ops.healthz": OPEN,
    "ops.readyz": OPEN,
    "ops.metrics": Needs(("read",), "all"),
    "acks.conclude": OPEN,
    "keys.list_keys": ADMIN,
    "keys.create_key": ADMIN,
    "keys.get_key": ADMIN,
    "keys.delete_key": ADMIN,
    "topics.list_topics": Needs(("read", "subscribe", "publish"), "any"),
    "topics.put_topic": ADMIN,
    "topics.get_topic": Needs(("read", "subscribe", "publish")),
    "topics.delete_topic": ADMIN,
    "messages.publish": PUBLISH,
    "messages.browse": READ,
    "messages.get_message": READ,
    "scheduled.list_scheduled": READ,
    "scheduled.get_scheduled": Needs(("read", "publish")),
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
    needs = PERMISSIONS.get(request.endpoint or "", ADMIN)
    if needs is OPEN:
        g.caller = ANYONE
        return
    authorization = request.headers.get("Authorization", "").encode("latin-1")
    headers = [(b"authorization", authorization)] if authorization else []
    who = g.caller = keys.caller(headers, time.time())
    if request.endpoint is None:
        return  # there is no such call, which any key may be told
    topic = str((request.view_args or {}).get("topic", "")) if needs.on == "topic" else None
    if needs.on == "any":
        if not any(scope.action in (*needs.actions, "admin") for scope in who.scopes):
            raise Forbidden(needs.actions, None)
    else:
        who.require(needs.actions, topic)


def caller() -> Caller:
    """Return who sent the request that is being served."""
    found: Caller = g.caller
    return found
