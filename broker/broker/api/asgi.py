"""The front door: the hot path, and everything else handed to Flask."""

import asyncio
import itertools
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Protocol

from broker.api.answers import JSON, AsgiApp, Send, answer, given, with_request_id
from broker.api.begun import Begun, failure
from broker.api.original import PATHS, consume, produce, subscribe
from broker.api.publish import (
    Answer,
    Disconnected,
    Headers,
    Receive,
    Scope,
    length_in,
    publish,
    read_body,
)
from broker.api.pull import ACTS, pull, settle
from broker.api.served import Served
from broker.api.stream import stream
from broker.api.under_way import Share, UnderWay
from broker.auth import PUBLISH, PUBLISH_ANY, READ, SUBSCRIBE, SUBSCRIBE_ANY, Caller, Keys
from broker.errors import HostNotAllowed, NoOwner
from broker.hosts import EVERY_HOST, AllowedHosts, from_browser
from broker.logs import asked
from broker.service import Broker
from broker.sessions import Sessions, id_in

if TYPE_CHECKING:
    from broker.api.forwarding import Forwarding
    from broker.api.routing import Found, Routing

log = logging.getLogger(__name__)

_TOPICS = "/v1/topics/"
MAX_CONTROL_BYTES = 1024 * 1024
MOST_HOSTS = 256
MOST_PLACES = 1024  # remembered, of 4 KiB at most
_PUBLISHING = ("publish", "produce")
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,200}")


class Lifespan(Protocol):
    """Starts and stops what stands behind the door."""

    async def start(self) -> Broker | None:
        """Start; raises with a sentence for the operator.

        What is returned serves every request; None where that goes by the cells.
        """

    async def standing_by(self) -> None:
        """End when the start has to wait for another broker."""

    def fail(self, error: Exception) -> None:
        """Hear that a start which had to wait has failed."""

    async def stop(self) -> None:
        """Stop in good order, or what was begun of the start."""


class Front:
    """The ASGI application."""

    def __init__(
        self,
        lifespan: Lifespan,
        control: Callable[[Broker], AsgiApp],
        keys: Keys,
        sessions: Sessions,
        under_way: UnderWay,
        forwarding: "Forwarding | None" = None,
        routing: "Routing | None" = None,
        hosts: AllowedHosts = EVERY_HOST,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._lifespan = lifespan
        self._make_control = control
        self._keys = keys
        self._sessions = sessions
        self._forwarding = forwarding
        self._routing = routing
        self._served: Served | None = None  # all there is, where that is not parted
        self._is_allowed_host = lru_cache(MOST_HOSTS)(hosts.allow)
        self._known_hosts: set[tuple[bytes, bytes]] = set()  # as headers, of those allowed
        self._under_way = under_way
        self._ending = asyncio.Event()  # those who wait, or watch, are to go
        self._now = now
        self._prefix = secrets.token_hex(6).encode()
        self._requests = itertools.count(1)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request, or the worker's lifespan."""
        if scope["type"] == "http":
            return self._serve(scope, receive, send)
        if scope["type"] == "lifespan":
            return self._live(receive, send)
        return send({"type": "websocket.close", "code": 1003})

    def end(self) -> None:
        """Have those go who wait or watch."""
        self._ending.set()
        if self._routing is not None:
            self._routing.end()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = self._request_id(scope["headers"])
        asked.set(request_id)
        share = Share(self._under_way, receive)
        receive = share.receive
        served = found = place = None
        try:
            self._require_known_host(scope["headers"])
            here = self._served
            if here is None:
                found = await self._elsewhere(scope, receive, send, request_id)
                if found is None:
                    return
                here, receive = found.served, found.receive
            served = here
            served.under_way += 1
            place = _place(scope["method"], scope["path"])
            if place is None:
                # Here, and not in one of the few threads, which whoever sends slowly would hold.
                body = await read_body(receive, length_in(scope), MAX_CONTROL_BYTES)
                sending = with_request_id(send, request_id)
                await served.control(scope, given(body), sending)
                return
            act, topic, name = place
            caller = self._caller(act, scope)
            if act == "publish":
                caller.require(PUBLISH, topic)
                said = await publish(served.broker, caller, topic, scope, receive)
            elif act == "stream":
                admit = partial(self._admit_to_stream, topic, scope)
                admit()
                ending = served.ending
                await stream(served.broker, topic, scope, receive, send, request_id, ending, admit)
                return
            elif act in ACTS:
                caller.require(SUBSCRIBE, topic)
                pulls = served.broker.pulls
                if act == "pull":
                    said = await pull(pulls, topic, name, scope, receive, served.ending)
                else:
                    said = await settle(pulls, act, topic, name, scope, receive)
            else:
                said = await self._original(served, act, caller, scope, receive)
        except Disconnected:
            return
        except Exception as fault:
            counts = None
            if served is not None and place is not None and place[0] in _PUBLISHING:
                counts = served.broker.refused
            said = failure(fault, counts, request_id)
        finally:
            share.give_back()
            if served is not None:
                served.under_way -= 1
            if found is not None:
                found.end.close()
        await answer(send, said, request_id)

    def begin(
        self, path: str, headers: Headers, body: bytes, over: Callable[[Begun], None]
    ) -> Begun | None:
        """Begin a publish that has come as a whole, where nothing but the disk is to be waited for.

        None where a topic is to be made first, or another broker asked: the application is to be
        called then, as ASGI has it, and does all of this itself.
        """
        served, found = self._served, _place("POST", path)
        if served is None or found is None or found[1] not in served.broker.topics:
            return None
        try:
            self._require_known_host(headers)
        except HostNotAllowed:
            return None  # refused there, before anything else is looked at
        topic = found[1]
        begun = Begun(served, self._under_way, self._request_id(headers), over)
        token = asked.set(begun.request_id)
        try:
            caller = self._keys.caller(headers, self._now())
            caller.require(PUBLISH, topic)
            begun.hold(len(body))
            begun.place(caller, topic, headers, body)
        except Exception as fault:
            begun.refuse(fault)
        finally:
            asked.reset(token)
        return begun

    def _caller(self, act: str, scope: Scope) -> Caller:
        """Say who calls. A browser sends a stream no key, but the cookie of who has signed in."""
        headers = scope["headers"]
        if act == "stream" and not any(map(_is_bearer, headers)):
            cookies = b";".join(value for name, value in headers if name == b"cookie")
            secure = (b"x-forwarded-proto", b"https") in headers
            return self._sessions.caller(id_in(cookies.decode("latin-1"), secure=secure))
        return self._keys.caller(headers, self._now())

    def _admit_to_stream(self, topic: str, scope: Scope) -> None:
        """Let in whoever may read. Raises Unauthorized, Forbidden."""
        self._caller("stream", scope).require(READ, topic)

    async def _original(
        self, served: Served, act: str, caller: Caller, scope: Scope, receive: Receive
    ) -> Answer:
        caller.require(PUBLISH_ANY if act == "produce" else SUBSCRIBE_ANY, None)
        if act == "produce":
            return await produce(served.broker, caller, scope, receive)
        if act == "subscribe":
            return await subscribe(served.broker, caller, scope, receive)
        return await consume(served.broker, caller, scope, receive, served.ending)

    def _request_id(self, headers: Headers) -> bytes:
        for name, value in headers:
            if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                return bytes(value)
        return b"%s-%d" % (self._prefix, next(self._requests))

    def _require_known_host(self, headers: Headers) -> None:
        """Refuse what a browser may have sent for the page of a stranger.

        Clients send Host first: of one that came before, a look at it is all this costs.
        """
        if headers and headers[0] in self._known_hosts:
            return
        host = next((value for name, value in headers if name == b"host"), b"")
        if self._is_allowed_host(host):
            if len(self._known_hosts) < MOST_HOSTS:
                self._known_hosts.add((b"host", host))
        elif from_browser(headers):
            raise HostNotAllowed(host.decode("latin-1"))

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        starting = asyncio.create_task(self._begin(), name="start")
        waiting = asyncio.create_task(self._lifespan.standing_by(), name="standing by")
        await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if starting.done() and (error := starting.exception()) is not None:
            log.critical("The broker cannot start. %s", error, extra={"action": "start_failed"})
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        starting.add_done_callback(self._started)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
        if self._forwarding is not None:
            await self._forwarding.close()
        await self._lifespan.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _begin(self) -> None:
        broker = await self._lifespan.start()
        if broker is not None:
            control = self._make_control(broker)
            self._served = Served(broker=broker, control=control, ending=self._ending)

    def _started(self, starting: asyncio.Task[None]) -> None:
        """Hear how a start ended, however long it had to wait."""
        error = None if starting.cancelled() else starting.exception()
        if isinstance(error, Exception):
            self._lifespan.fail(error)

    async def _elsewhere(
        self, scope: Scope, receive: Receive, send: Send, request_id: bytes
    ) -> "Found | None":
        """Serve a request that may be another broker's, or return who is to serve it here."""
        forwarding, routing = self._forwarding, self._routing
        if scope["path"] == "/healthz":
            await answer(send, (200, [JSON], b'{"status":"alive"}'), request_id)
        elif routing is not None:
            return await routing.find(scope, receive, send, request_id)
        elif forwarding is None:
            raise NoOwner
        elif scope["path"] == "/readyz" and forwarding.owner() is not None:
            await answer(send, (200, [JSON], b'{"status":"standby"}'), request_id)
        else:
            await forwarding(scope, receive, send, request_id)
        return None


@lru_cache(MOST_PLACES)
def _place(method: str, path: str) -> tuple[str, str, str] | None:
    """Return act, topic and subscription of a request that is answered here, else None."""
    if not path.startswith(_TOPICS):
        return (path[1:], "", "") if PATHS.get(path) == method else None
    parts = path[len(_TOPICS) :].split("/")
    if not parts[0]:
        return None
    if method == "POST":
        if len(parts) == 2 and parts[1] == "messages":
            return "publish", parts[0], ""
        if len(parts) == 4 and parts[1] == "subscriptions" and parts[3] in ACTS:
            return parts[3], parts[0], parts[2]
    elif method == "GET" and len(parts) == 2 and parts[1] == "stream":
        return "stream", parts[0], ""
    return None


def _is_bearer(header: tuple[bytes, bytes]) -> bool:
    # A proxy before the pages may ask for a password of its own, and pass that on.
    return header[0] == b"authorization" and header[1][:7].lower() == b"bearer "
