"""`/topics`: what there is, and a message to try it with."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response

from broker.control import bridge
from broker.control.permissions import PERMISSIONS, caller
from broker.dashboard.page import page, pages_of
from broker.dashboard.snapshot import latest, worst_first
from broker.errors import BrokerError, Fault, InvalidRequest
from broker.overview import Overview
from broker.store.port import TopicStats
from broker.views import TopicView

blueprint = Blueprint("topics", __name__, url_prefix="/topics")
LENGTH = 50
JSON = "application/json"
_FORM = {"type": "", "partitionkey": "", "data": '{"hello": "world"}'}


@dataclass(frozen=True, slots=True)
class Row:
    """A topic in the list; `backlog` is what its subscriptions are owed together,
    None where that is not for the caller to know.
    """

    name: str
    stats: TopicStats
    subscriptions: int
    backlog: int | None


@blueprint.get("")
def list_topics() -> str:
    """List the topics that who looks may see."""
    wanted = request.args.get("q", "").strip()
    snapshot = latest()
    rows = [row for row in _rows(snapshot) if wanted.lower() in row.name.lower()]
    shown, number, last = pages_of(len(rows), request.args.get("page", 1, int), LENGTH)
    return page(
        "topics.html",
        rows=rows[shown],
        count=len(rows),
        number=number,
        last=last,
        q=wanted,
        missing=snapshot.missing,
    )


@blueprint.get("/<topic>")
def show_topic(topic: str) -> str:
    """Show a topic and its subscriptions."""
    return _shown(topic, _FORM)


@blueprint.post("/<topic>/publish")
def publish(topic: str) -> Response | tuple[str, int]:
    """Publish what the form has, and say where it stands."""
    given = {name: request.form.get(name, "").strip() for name in _FORM}
    try:
        stored = _publish(topic, given)
    except BrokerError as refused:
        return _shown(topic, given, refused), refused.status
    return redirect(url_for(".show_topic", topic=topic, stored=stored), 303)


def _publish(topic: str, given: Mapping[str, str]) -> int | None:
    """Return the sequence of a message with this type, key and data, which is JSON."""
    try:
        msgspec.json.decode(given["data"])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest([Fault("data", f"must be JSON ({error})")]) from None
    attributes: dict[str, str | int | bool] = {"datacontenttype": JSON}
    attributes |= {name: given[name] for name in ("type", "partitionkey") if given[name]}
    to, who = bridge(), caller()

    async def published() -> int | None:
        to.broker.topic(topic)  # this page makes none
        messages = to.broker.take(topic, [(attributes, given["data"].encode())])
        who.spend(len(messages))
        (appended,) = await to.broker.publish(topic, messages)
        return appended.sequence

    return to.wait(published())


def _shown(topic: str, given: Mapping[str, str], refused: BrokerError | None = None) -> str:
    to = bridge()

    async def view() -> TopicView:
        return to.broker.topic_view(topic)

    shown = to.wait(view())
    watching = caller().may(PERMISSIONS["subscriptions.list_subscriptions"].actions, topic)
    standings = worst_first(each for each in latest().standings if each.topic == topic and watching)
    return page(
        "topic.html",
        topic=shown,
        standings=standings[:LENGTH],
        count=len(standings),
        watching=watching,
        stored=request.args.get("stored", None, int),
        refused=refused,
        given=given,
    )


def _rows(snapshot: Overview) -> list[Row]:
    who, actions = caller(), PERMISSIONS["topics.get_topic"].actions
    watching = PERMISSIONS["subscriptions.get_subscription"].actions
    counts: dict[str, int] = {}
    backlogs: dict[str, int] = {}
    for each in snapshot.standings:
        counts[each.topic] = counts.get(each.topic, 0) + 1
        backlogs[each.topic] = backlogs.get(each.topic, 0) + each.backlog
    return [
        Row(
            name,
            stats,
            counts.get(name, 0),
            backlogs.get(name, 0) if who.may(watching, name) else None,
        )
        for name, stats in sorted(snapshot.topics.items())
        if who.may(actions, name)
    ]
