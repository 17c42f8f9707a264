"""`/topics/{topic}/messages`: the log, what became of each message, and what comes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response

from broker.cloudevents import attributes_of, parse_time, rfc3339
from broker.control import bridge
from broker.control.permissions import PERMISSIONS, caller
from broker.dashboard.page import page, pages_of
from broker.dashboard.wording import SHOWN_DATA, data_as_text
from broker.errors import BrokerError, Fault, InvalidRequest, SubscriptionNotFound
from broker.model import MAX_SEQUENCE, Message
from broker.queries import AFTER
from broker.views import FateView, TopicView

blueprint = Blueprint("messages", __name__, url_prefix="/topics/<topic>")
LENGTH = 50
FATES = 25


@dataclass(frozen=True, slots=True)
class Row:
    """A message in a list; its `size` is that of its data, in bytes."""

    sequence: int
    attributes: Mapping[str, Any]
    stored_at: str
    size: int


@blueprint.get("/messages")
def browse(topic: str) -> str | tuple[str, int] | Response:
    """Show a page of the log: its end, or what is looked for."""
    given = {
        name: request.args.get(name, "").strip() for name in ("at", "key", "type", "id", "after")
    }
    to = bridge()

    async def view() -> TopicView:
        return to.broker.topic_view(topic)

    shown = to.wait(view())
    rows: list[Row] = []
    following, refused, after = None, None, 0
    try:
        sequence = request.args.get("sequence", "").strip()
        if sequence:
            return redirect(url_for(".show_message", topic=topic, sequence=_sequence(sequence)))
        after = _begin(topic, given, shown)
        if given["id"] and not given["after"]:
            known, after = to.wait(to.broker.find(topic, given["id"]))
            if len(known) == 1:
                return redirect(url_for(".show_message", topic=topic, sequence=known[0]))
            after = min(known) - 1 if known else after
        wanted = (given["key"] or None, given["type"] or None, given["id"] or None)
        found, following = to.wait(to.broker.browse(topic, after, LENGTH, *wanted))
        rows = [_row(message) for message in found]
    except BrokerError as error:
        refused = error
    answer = page(
        "messages.html",
        topic=shown,
        rows=rows,
        given=given,
        narrowed=bool(given["key"] or given["type"] or given["id"]),
        after=after,
        older=max(shown.first_sequence - 1, after - LENGTH),
        following=following,
        refused=refused,
    )
    return answer if refused is None else (answer, refused.status)


@blueprint.get("/messages/<sequence:sequence>")
def show_message(topic: str, sequence: int) -> str:
    """Show a message, and what became of it for each subscription."""
    to = bridge()
    message = to.wait(to.broker.message(topic, sequence))

    async def view() -> TopicView:
        return to.broker.topic_view(topic)

    shown = to.wait(view())
    watching = caller().may(PERMISSIONS["deliveries.list_attempts"].actions, topic)
    names = shown.subscriptions if watching else []
    part, number, last = pages_of(len(names), request.args.get("page", 1, int), FATES)

    async def fates() -> list[FateView]:
        found = []
        for name in names[part]:
            try:
                found.append(await to.broker.deliveries.fate(topic, name, sequence))
            except SubscriptionNotFound:
                continue  # deleted meanwhile
        return found

    found, row = to.wait(fates()), _row(message)
    return page(
        "message.html",
        topic=shown,
        message=row,
        data=data_as_text(message.data),
        cut=row.size > SHOWN_DATA,
        fates=found,
        moving=any(fate.state not in {"settled", "dead"} for fate in found),
        count=len(names),
        number=number,
        last=last,
    )


@blueprint.get("/tail")
def tail(topic: str) -> str:
    """Show what comes, as it comes."""
    to = bridge()

    async def view() -> TopicView:
        return to.broker.topic_view(topic)

    return page("tail.html", topic=to.wait(view()))


def _begin(topic: str, given: Mapping[str, str], shown: TopicView) -> int:
    """Return after which sequence to read: that of `after`, of a time, of the log's last page."""
    if given["after"]:
        return _read(given["after"], "after")
    if given["at"]:
        to = bridge()
        at = given["at"] if parse_time(given["at"]) is not None else f"{given['at']}Z"
        return to.wait(to.broker.sequence_at(topic, at)) - 1
    if given["key"] or given["type"] or given["id"]:
        return shown.first_sequence - 1
    return max(shown.first_sequence - 1, shown.last_sequence - LENGTH)


def _sequence(text: str) -> int:
    return _read(text, "sequence")


def _read(text: str, field: str) -> int:
    try:
        number: int = AFTER.read(text)
    except ValueError:
        rule = f"must be a whole number from 0 to {MAX_SEQUENCE}"
        raise InvalidRequest([Fault(field, rule)]) from None
    return number


def _row(message: Message) -> Row:
    return Row(
        message.seq,
        attributes_of(message.attributes),
        rfc3339(message.stored_at),
        0 if message.data is None else len(message.data),
    )
