"""gunicorn's HTTP/1 connection, with what it lacks.

There are no more connections than there may be, and one whose client takes nothing of its answer is
dropped.

The next request is held back until the last one is over: a client that has read an answer may send
it before gunicorn has made the parser ready for one. The C parser keeps 64 KiB of such bytes and
forgets the rest, and gunicorn then closes the connection, without a word that it would: one in four
requests of 1 MiB failed so.

Who is refused before all of the request has come is told that the connection ends, and may still
send the rest, which is forgotten. gunicorn announced nothing and closed: the next request on such a
connection was lost, and so, now and then, was the refusal, because the system resets a connection
that is closed before all has been read.

A connection that has ended is freed at once: it and its parser know each other, and the search for
cycles comes seldom. Until then each kept some 100 KB.

A publish that comes in one piece is answered without what gunicorn does for requests of every kind.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi
from gunicorn_h1c import H1CProtocol

from broker.api.problems import problem
from broker.cli.exchange import Exchange, Request, rendered, request_of
from broker.errors import BrokerError

if TYPE_CHECKING:  # gunicorn's first process has no use for the broker itself
    from broker.api.begun import Begun
    from broker.api.publish import Headers

log = logging.getLogger(__name__)

HEAD_S = 10.0  # until a new connection has sent the head of a request
LAST_LOOK_S = 0.1  # for what has come while the loop did not turn, before a connection is closed
STALL_S = 60.0  # for so long a client may take nothing of what waits for it
REFUSING_S = 1.0  # until a connection that is refused has sent something, and then the rest of it
# A refused client that goes on sending is let finish, for as long as a body may take to come and
# for some of the largest bodies. Ordinary clients look for the answer only then.
LINGER_S = 30.0
LINGER_BYTES = 64 * 1024 * 1024
PIECE = 64 * 1024  # what the parser keeps behind the end of a request
# A parser's buffer grows to what it is fed while it reads a head, and keeps that size.
FIRST_PIECE = 8 * 1024


class TooManyConnections(BrokerError):
    """There are as many connections as there may be."""

    status = 503
    code = "too_many_connections"
    retry_after_s = 5

    def __init__(self) -> None:
        super().__init__(
            "Too many connections are open. Close those that are not needed, or come back later."
        )


_REFUSAL = problem(TooManyConnections())
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n"
    b"content-length: %d\r\nretry-after: %d\r\nconnection: close\r\n\r\n%s"
    % (len(_REFUSAL), TooManyConnections.retry_after_s, _REFUSAL)
)


class Parser(H1CProtocol):  # type: ignore[misc]
    """The C parser; `early` is what has come of the next requests besides what it keeps itself."""

    early = b""

    def feed(self, data: bytes) -> None:
        """Take bytes in, up to the end of a request."""
        if len(data) <= FIRST_PIECE and not self.is_complete:
            super().feed(data)
            return
        start, end = 0, FIRST_PIECE
        while start < len(data):
            if self.is_complete:
                self.early += data[start:]
                return
            super().feed(data[start:end])
            start, end = end, end + PIECE

    def remaining(self) -> bytes:
        """Return what has come of the next requests."""
        kept: bytes = super().remaining()
        return kept + self.early if self.early else kept

    def reset(self) -> None:
        """Be ready for the next request."""
        if self.early:
            self.early = b""
        super().reset()


def _begin_none(
    path: str, headers: "Headers", body: bytes, over: Callable[["Begun"], None]
) -> None:
    """Leave every publish to an application that is ASGI and no more."""


class Protocol(ASGIProtocol):  # type: ignore[misc]
    """One connection."""

    _callback_parser: Any
    _closed: bool
    _looking: asyncio.TimerHandle | None = None
    _request: Request | None = None
    _exchange: Exchange | None = None
    _answering: "Begun | asyncio.Task[None] | None" = None
    _answered_at = -math.inf
    _looked_again = False
    _lingering: asyncio.TimerHandle | None = None
    _may_still_come = LINGER_BYTES

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Give the first request's head some time; gunicorn gives it to the following ones only."""
        super().connection_made(transport)
        self._begin_publish = getattr(self.app, "begin", _begin_none)
        self.worker.connections.add(self)
        self.expire_in(HEAD_S)

    def expire_in(self, seconds: float) -> None:
        """Close the connection then if it is at rest."""
        self._cancel_keepalive_timer()
        self._keepalive_handle = self.worker.loop.call_later(seconds, self._keepalive_timeout)

    def expire_if_at_rest(self, seconds: float) -> None:
        """Give a connection that has no request under way only so long for another."""
        self._answered_at = -math.inf
        if self._lingering is not None:
            self._linger(seconds)
        elif self._awaiting_request and self._answering is None:
            self.expire_in(seconds)

    def _keepalive_timeout(self) -> None:
        """Close the connection, but not while a publish is under way or when one was just now.

        Timers come before the turn of a request that has been read. Where the process stood still
        for longer than a connection may rest, they would close it on that request.
        """
        rested = self.worker.loop.time() - self._answered_at
        if self._answering is not None:
            self.expire_in(self._keepalive)
        elif rested < self._keepalive and self.worker.alive:
            self.expire_in(self._keepalive - rested)
        elif not self._looked_again:
            self._looked_again = True
            self.expire_in(LAST_LOOK_S)
        else:
            super()._close_transport()  # at once: there is no answer that could be lost
            self._request_ready.set()

    def _will_close(self, request: Any, response_requires_close: bool) -> bool:
        """Say whether the answer that begins is the connection's last."""
        if self._body_receiver is not None and not self._body_receiver._complete:
            return True
        return bool(super()._will_close(request, response_requires_close))

    def _close_transport(self) -> None:
        """Close the connection, or only its answering half while the client may still send."""
        parser = self._callback_parser
        all_read = parser is None or parser.is_complete
        if all_read or self._closed or self.transport.is_closing():
            super()._close_transport()
            return
        self._closed = True
        self._callback_parser = None  # what comes now is no request
        self.transport.write_eof()
        self._resume_reading()
        self._linger(LINGER_S)
        if self._body_receiver is not None:
            self._body_receiver.signal_disconnect()

    def _linger(self, seconds: float) -> None:
        """Close the connection then, if its client has not done so before."""
        if self._lingering is not None:
            self._lingering.cancel()
        self._lingering = self.worker.loop.call_later(seconds, self.transport.close)

    def _forget(self, size: int) -> None:
        self._may_still_come -= size
        if self._may_still_come < 0:
            self.transport.close()

    def _on_headers_complete(self) -> bool:
        self._looked_again = False
        self._request = request_of(self._callback_parser, PIECE)
        return False if self._request is not None else bool(super()._on_headers_complete())

    def _on_body(self, chunk: bytes) -> None:
        if self._request is None:
            super()._on_body(chunk)
        else:
            self._request.body += chunk

    def _feed_callback_parser(self, data: bytes) -> bool:
        going_on = bool(super()._feed_callback_parser(data))
        if self._request is not None and self._answering is None:
            self._begin(self._request, going_on=going_on)
        parser = self._callback_parser
        if parser is not None and parser.early:
            self._pause_reading()
        return going_on

    def _begin(self, request: Request, *, going_on: bool) -> None:
        if not going_on:
            self._request = None
        elif not self._callback_parser.is_complete:  # what is missing may take its time
            self._request = None
            super()._on_headers_complete()  # finds no fault: all that it looks for has been seen
            super()._on_body(request.body)
        else:
            begun = self._begin_publish(request.path, request.headers, request.body, self._end)
            if begun is None:
                self._exchange = Exchange(request)
                answering = self._answer(self._exchange, keep_alive=request.keep_alive)
                self._answering = self.worker.loop.create_task(answering)
            else:
                self._answering = begun

    def _end(self, begun: "Begun") -> None:
        """Answer a publish that waited for nothing but the disk, and turn to the next request."""
        request = self._request
        keep_alive = request is not None and request.keep_alive and self.worker.alive
        try:
            answer = rendered(begun.end(), begun.request_id, keep_alive=keep_alive)
            if not self._closed:
                self._safe_write(answer)
        except Exception:
            keep_alive = self._give_up()
        if self._flow_control.write_paused:
            self._answering = self.worker.loop.create_task(self._drain(keep_alive=keep_alive))
        else:
            self._turn(keep_alive=keep_alive)

    async def _answer(self, exchange: Exchange, *, keep_alive: bool) -> None:
        """Have the application answer a publish, and turn to the next request."""
        try:
            await self.app(exchange.scope(), exchange.receive, exchange.send)
            if not self._closed:
                keep_alive = keep_alive and self.worker.alive
                self._safe_write(exchange.answer(keep_alive=keep_alive))
        except Exception:
            keep_alive = self._give_up()
        self._exchange = None
        await self._drain(keep_alive=keep_alive)

    def _give_up(self) -> Literal[False]:
        """Say that there is no answer; the connection is kept no longer."""
        log.exception("A request got no answer.", extra={"action": "request_failed"})
        if not self._closed:
            self._send_error_response(500, "Internal Server Error")
        return False

    async def _drain(self, *, keep_alive: bool) -> None:
        if self._flow_control.write_paused:
            await self._flow_control.drain()
        self._turn(keep_alive=keep_alive)

    def _turn(self, *, keep_alive: bool) -> None:
        self._request = self._answering = None
        if keep_alive and self.worker.alive and not self._closed:
            self._answered_at = self.worker.loop.time()
            self._turn_to_next()
        else:
            self._close_transport()
            self._request_ready.set()

    def _turn_to_next(self) -> None:
        parser = self._callback_parser
        early = parser.remaining()
        parser.reset()
        if early:
            self._feed_callback_parser(early)
        if not parser.early:
            self._resume_reading()

    def data_received(self, data: bytes) -> None:
        """Take bytes in; of those that are held back some, and then no more are read for now."""
        if self._callback_parser is None:
            self._forget(len(data))
        elif self._body_receiver is not None:
            super().data_received(data)  # a request that goes gunicorn's way
        else:
            self._feed_callback_parser(data)

    def pause_writing(self) -> None:
        """Watch a client for whom more waits than its connection takes."""
        super().pause_writing()
        self._look_again(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Trust it again."""
        self._stop_looking()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Watch no more, and be gone once the last request is over."""
        self._stop_looking()
        super().connection_lost(exc)
        self.worker.connections.discard(self)
        if self._lingering is not None:
            self._lingering.cancel()
        if self._exchange is not None:
            self._exchange.leave()
        if self._answering is not None:
            self._flow_control.resume_writing()  # nobody else wakes who waits for that
        if self._awaiting_request:
            self._request_ready.set()  # it would otherwise wait for some seconds
        if self._task is None or self._task.done():
            self._let_parser_go()
        else:
            self._task.add_done_callback(self._let_parser_go)

    def _let_parser_go(self, _: object = None) -> None:
        self._callback_parser = None

    def _look_again(self, waiting: int) -> None:
        self._stop_looking()
        self._looking = self.worker.loop.call_later(STALL_S, self._look, waiting)

    def _look(self, before: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting < before:
            self._look_again(waiting)
        else:
            self.transport.abort()

    def _stop_looking(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None


class Refusing(asyncio.Protocol):
    """A connection beyond those that there may be: told so, and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request: an answer before it may be lost."""
        self._transport: Any = transport
        loop = asyncio.get_running_loop()
        self._closing = loop.call_later(REFUSING_S, transport.close)
        self._told = False

    def data_received(self, _: bytes) -> None:
        """Refuse it, and forget what else it sends."""
        if not self._told:
            self._told = True
            self._transport.write(_FULL)
            self._transport.write_eof()

    def connection_lost(self, _: Exception | None) -> None:
        """Wait no more."""
        self._closing.cancel()


def protocol_for(worker: Any) -> asyncio.Protocol:
    """Return what serves the next connection."""
    full = worker.nr_conns >= worker.worker_connections
    return Refusing() if full else Protocol(worker)


def install() -> None:
    """Have gunicorn's worker use these."""
    ASGIProtocol._check_h1c_protocol_available()
    ASGIProtocol._h1c_protocol_class = Parser
    gasgi.ASGIProtocol = protocol_for
