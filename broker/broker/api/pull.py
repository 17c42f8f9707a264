"""`POST …/subscriptions/{name}/pull`, and `ack`, `nack`, `extend` for what was pulled."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from broker.api.departure import unless_departed
from broker.api.publish import Answer, Receive, Scope, length_in, read_body
from broker.cloudevents import structured
from broker.dispatch.puller import Pulled
from broker.errors import MalformedRequest
from broker.pulls import Pulls
from broker.views import PulledPage, PulledView, SettledPage, SettledView

MAX_BODY_BYTES = 4 * 1024 * 1024
ACTS = ("pull", "ack", "nack", "extend")

_JSON = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


async def pull(
    pulls: Pulls, topic: str, name: str, scope: Scope, receive: Receive, ended: asyncio.Event
) -> Answer:
    """Hand out deliveries; a client that goes away meanwhile is given none."""
    body = await _object(scope, receive)
    pulled = await unless_departed(pulls.pull(topic, name, body, ended), receive)
    return 200, [_JSON], _encode(_rendered(pulls, topic, name, pulled))


async def settle(
    pulls: Pulls, act: str, topic: str, name: str, scope: Scope, receive: Receive
) -> Answer:
    """Acknowledge, hand back or keep for longer what was pulled."""
    body = await _object(scope, receive)
    results = await getattr(pulls, act)(topic, name, body)
    ids: Any = body["ack_ids"]
    told = [SettledView(id_, result) for id_, result in zip(ids, results, strict=True)]
    return 200, [_JSON], _encode(SettledPage(told))


def _rendered(pulls: Pulls, topic: str, name: str, pulled: Sequence[Pulled]) -> PulledPage:
    return PulledPage(
        [
            PulledView(
                None if each.claim is None else pulls.ack_id(topic, name, each.claim),
                each.attempt,
                each.replayed,
                Raw(structured(each.message.attributes, each.message.data, each.message.seq)),
            )
            for each in pulled
        ]
    )


async def _object(scope: Scope, receive: Receive) -> Mapping[str, object]:
    body = await read_body(receive, length_in(scope), MAX_BODY_BYTES)
    if not body:
        return {}
    try:
        return _decode(body)
    except msgspec.ValidationError:
        raise MalformedRequest("The body must be a JSON object.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequest(f"The body is not JSON: {error}.") from None
