"""How answers are written, and requests that have been read handed on within the process."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from broker.api.problems import CONTENT_TYPE, problem
from broker.api.publish import Answer, Receive, Scope
from broker.errors import BrokerError

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", CONTENT_TYPE.encode())


def refusal(error: BrokerError) -> Answer:
    """Render a refusal."""
    headers = [_PROBLEM]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return error.status, headers, problem(error)


async def answer(send: Send, answer: Answer, request_id: bytes) -> None:
    """Send an answer."""
    status, headers, body = answer
    headers += ((b"content-length", b"%d" % len(body)), (b"x-request-id", request_id))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def given(body: bytes, receive: Receive | None = None) -> Receive:
    """Return what receives a body that has come already, and then what still comes, if anything."""
    events = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receiving() -> MutableMapping[str, Any]:
        event = next(events, None)
        if event is not None:
            return event
        return {"type": "http.disconnect"} if receive is None else await receive()

    return receiving


def with_request_id(send: Send, request_id: bytes) -> Send:
    """Return what sends an answer that tells the request's id."""

    async def sending(event: MutableMapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            event["headers"] = [*event.get("headers", ()), (b"x-request-id", request_id)]
        await send(event)

    return sending


class Kept:
    """Keeps an answer that is sent instead of sending it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def send(self, event: MutableMapping[str, Any]) -> None:
        """Take in a part of the answer."""
        if event["type"] == "http.response.start":
            self.status, self.headers = event["status"], list(event.get("headers", ()))
        elif event["type"] == "http.response.body":
            self.body += event.get("body", b"")
