"""Requests over plain HTTP/1.1, without libcurl's handle for each.

What libcurl does for a request costs as much as all else of one. It opens the connections still,
with its names, addresses and patience; what is said on them is written and read here.
"""

import re
import select
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from itertools import takewhile
from typing import Any, NamedTuple, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from broker.dispatch.answer import BROKE, CLOSED, NO_HTTP, TOO_LATE, Answer
from broker.dispatch.frames import Endpoint, Job, Outcome
from broker.dispatch.request import request_of

PIECE = 64 * 1024
MAX_AROUND_BYTES = 256 * 1024  # of an answer: all but its body
MOST_AT_REST = 4096
REST_S = 118.0  # after that an endpoint, or what is in between, may have forgotten a connection
LOOK_S = 30.0

_NEVER = float("inf")
_URL = re.compile(
    r"(?i:http)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?"
    r"(/[!-\"$->@-~]*)?(\?[!-\"$-~]*)?"
)
# libcurl removes dots, and writes what is escaped in upper case.
_WRITTEN_ANEW = re.compile(r"/(?:\.|%2[Ee]){1,2}(?:/|\Z)|%(?![0-9A-F]{2})")
_NUMBER = re.compile(r"(?:\A|\.)(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?\Z")


class Target(NamedTuple):
    """Where an endpoint's requests go: to whom, and how each begins."""

    authority: str
    head: bytes


class Opens(Protocol):
    """What opens connections."""

    def open(self, endpoint: Endpoint, opened: Callable[[int, str], None]) -> None:
        """Open one, and call with its descriptor, or -1 and the reason why there is none."""


def target_of(endpoint: Endpoint, user_agent: str) -> Target | None:
    """Return where an endpoint's requests go, None where they are not plain.

    A URL that libcurl would write in another way than it is given is not.
    """
    match = _URL.fullmatch(endpoint.url)
    if match is None:
        return None
    host, port, path, query = match.groups()
    if _WRITTEN_ANEW.search(path or "") or not _is_written_plainly(host):
        return None
    default = port is None or int(port) == 80
    lines = [
        f"POST {path or '/'}{query or ''} HTTP/1.1",
        f"host: {host}" if default else f"host: {host}:{int(port)}",
        f"user-agent: {user_agent}",
        *endpoint.headers,
    ]
    if not any(line[:7].lower() == "accept:" for line in endpoint.headers):
        lines.append("accept: */*")
    if any(not line.isprintable() for line in lines):
        return None
    return Target(
        f"{host.lower()}:{int(port or 80)}", "".join(f"{line}\r\n" for line in lines).encode()
    )


def _is_written_plainly(host: str) -> bool:
    """Say whether libcurl leaves a host as it is: of an address there are many ways to write it."""
    if not host.startswith("[") and not _NUMBER.search(host):
        return not host.endswith(".")
    address = host.strip("[]")
    try:
        return str(ip_address(address)) == address
    except ValueError:
        return False


class Request:
    """A request that has no outcome yet. Times are monotonic."""

    __slots__ = (
        "authority",
        "connection",
        "endpoint",
        "job",
        "late_at",
        "may_repeat",
        "started",
        "text",
    )

    def __init__(
        self, job: int, endpoint: Endpoint, authority: str, text: bytes, started: float
    ) -> None:
        self.job = job
        self.endpoint = endpoint
        self.authority = authority
        self.text = text
        self.connection: Connection | None = None
        # Where a connection that was used before breaks without an answer: its end may have come
        # while the request was on its way to it.
        self.may_repeat = not endpoint.once
        self.started = started
        self.late_at = started + endpoint.timeout_ms / 1000


class Connection:
    """A connection, and the answer that comes on it. Its methods `on_…` are the parser's."""

    __slots__ = (
        "answer",
        "authority",
        "chunked",
        "complete",
        "descriptor",
        "goes_on",
        "head",
        "measured",
        "parser",
        "received",
        "request",
        "rests",
        "rests_since",
        "socket",
        "status",
        "unsent",
        "used",
    )

    def __init__(self, opened: socket.socket, authority: str) -> None:
        self.socket = opened
        self.descriptor = opened.fileno()
        self.authority = authority
        self.parser: Any = HttpResponseParser(self)
        # As libcurl has it. Where the length of an answer is in doubt, its connection is closed.
        self.parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_optional_cr_before_lf=True,
            lenient_optional_lf_after_cr=True,
        )
        self.request: Request | None = None
        self.used = self.rests = False
        self.rests_since = 0.0

    def begin(self, request: Request) -> None:
        """Be ready for the answer to a request."""
        self.request = request
        request.connection = self
        self.answer = Answer(batch=request.endpoint.format == "batch")
        self.unsent: memoryview | None = None
        self.status = self.received = 0
        self.head = self.measured = self.chunked = self.complete = self.goes_on = False

    def is_quiet(self) -> bool:
        """Say whether nothing has come on it while it was at rest, nor its end."""
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def on_message_begin(self) -> None:
        """Hear that an answer begins; if there was one, nobody has asked for another."""
        self.goes_on = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Hear a header, or what comes after the body and counts for nothing."""
        first = name[:1]
        if self.head:
            return
        if first in b"wWrR":
            self.answer.take_header(name, value)
        elif first in b"cC":
            self.measured |= name.lower() == b"content-length"
        elif first in b"tT":
            self.chunked |= name.lower() == b"transfer-encoding"

    def on_headers_complete(self) -> None:
        """Hear that the body follows."""
        if not self.complete:
            self.status = self.parser.get_status_code()
            self.head = True

    def on_body(self, chunk: bytes) -> None:
        """Hear a part of the body."""
        if not self.complete and not self.answer.take_body(chunk):
            self.complete = True  # it does not stop: what there is must do

    def on_message_complete(self) -> None:
        """Hear that the answer is whole, unless it only says that one is to come."""
        if self.complete:
            return
        if 100 <= self.status < 200 and self.status != 101:
            self.head = self.measured = self.chunked = False
            self.answer.headers = None
            return
        self.complete = True
        in_doubt = self.chunked and (self.measured or self.parser.get_http_version() != "1.1")
        self.goes_on = self.parser.should_keep_alive() and not in_doubt


class PlainRequests:
    """The requests that are out, and the connections: busy, or at rest for further requests."""

    def __init__(
        self,
        epoll: select.epoll,
        opens: Opens,
        user_agent: str,
        may_send: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._epoll = epoll
        self._opens = opens
        self._user_agent = user_agent
        self._may_send = may_send
        self._monotonic = monotonic
        self._targets: dict[int, Target] = {}
        self._connections: dict[int, Connection] = {}
        self._at_rest: defaultdict[str, list[Connection]] = defaultdict(list)
        self._rest_count = 0
        # By timeout and job, so that each has those in front that are over first.
        self._out: defaultdict[int, dict[int, Request]] = defaultdict(dict)
        self._late_at = _NEVER  # none is late before
        self._look_at = _NEVER  # none has rested too long before
        self._ended: list[Outcome] = []

    def use(self, endpoint: Endpoint) -> None:
        """Take a new or changed endpoint, if it is plain."""
        self.forget(endpoint.id)
        if (target := target_of(endpoint, self._user_agent)) is not None:
            self._targets[endpoint.id] = target

    def forget(self, endpoint: int) -> None:
        """Make no more requests to an endpoint."""
        self._targets.pop(endpoint, None)

    def takes(self, endpoint: int) -> bool:
        """Say whether an endpoint's requests are made here."""
        return endpoint in self._targets

    def start(self, job: Job, endpoint: Endpoint) -> None:
        """Make a request."""
        authority, head = self._targets[endpoint.id]
        headers, body = request_of(endpoint, job, time.time())
        lines = "\r\n".join(headers)
        text = b"%s%s\r\ncontent-length: %d\r\n\r\n%s" % (
            head,
            lines.encode(),
            len(body),
            body,
        )
        request = Request(job.id, endpoint, authority, text, self._monotonic())
        self._out[endpoint.timeout_ms][job.id] = request
        self._late_at = min(self._late_at, request.late_at)
        connection = self._take(request)
        if connection is None:
            self._open(request)
        else:
            self._send(connection, request)

    def _take(self, request: Request) -> Connection | None:
        """Take a connection that is at rest, the one that was used last."""
        at_rest = self._at_rest[request.authority]
        while at_rest:
            connection = at_rest[-1]
            fresh = request.started - connection.rests_since < REST_S
            if fresh and (request.may_repeat or connection.is_quiet()):
                del at_rest[-1]
                self._rest_count -= 1
                connection.rests = False
                return connection
            self._close(connection)
        return None

    def _open(self, request: Request) -> None:
        self._opens.open(request.endpoint, partial(self._opened, request))

    def _opened(self, request: Request, descriptor: int, reason: str) -> None:
        waits = request.job in self._out[request.endpoint.timeout_ms]
        if descriptor < 0:
            if waits:
                self._fail(request, reason)
            return
        opened = socket.socket(fileno=descriptor)
        opened.setblocking(False)
        connection = Connection(opened, request.authority)
        self._connections[descriptor] = connection
        self._epoll.register(descriptor, select.EPOLLIN)
        if not waits or not self._may_leave(request):
            self._rest(connection)
        else:
            self._send(connection, request)

    def _may_leave(self, request: Request) -> bool:
        """Say whether a request may still be sent; one that may not has failed, or is about to.

        This process may have stood still since it was begun, or a connection have taken its time:
        who has taken over may have sent what comes after.
        """
        if request.late_at <= self._monotonic():
            return False
        if request.endpoint.once and not self._may_send():
            self._fail(request, BROKE)
            return False
        return True

    # -- on a connection ---------------------------------------------------------------------------

    def _send(self, connection: Connection, request: Request) -> None:
        connection.begin(request)
        self._send_on(connection, memoryview(request.text))

    def _send_on(self, connection: Connection, text: memoryview) -> None:
        try:
            text = text[connection.socket.send(text) :]
        except BlockingIOError:
            pass
        except OSError:
            text = text[:0]  # it is broken, and to be read: there may be an answer
        if text:
            self._epoll.modify(connection.descriptor, select.EPOLLIN | select.EPOLLOUT)
            connection.unsent = text
        elif connection.unsent is not None:
            self._epoll.modify(connection.descriptor, select.EPOLLIN)
            connection.unsent = None

    def hear(self, descriptor: int, events: int) -> bool:
        """Hear that a socket has something; say whether it is one of these."""
        connection = self._connections.get(descriptor)
        if connection is None:
            return False
        request = connection.request
        if events & select.EPOLLOUT and connection.unsent is not None and request is not None:
            if not self._may_leave(request):
                self._close(connection)
                return True
            self._send_on(connection, connection.unsent)
        if events & ~select.EPOLLOUT:
            self._receive(connection)
        return True

    def _receive(self, connection: Connection) -> None:
        reset = False
        try:
            data = connection.socket.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            data, reset = b"", True
        request = connection.request
        if request is None:
            self._close(connection)  # its end, or what nobody has asked for
            return
        if not data:
            self._break(connection, request, reset=reset)
            return
        connection.received += len(data)
        try:
            connection.parser.feed_data(data)
        except HttpParserUpgrade:
            connection.complete, connection.goes_on = True, False
        except HttpParserError:
            connection.goes_on = False
            if not connection.complete:
                self._refuse(connection, request)
                return
        endless = connection.received - connection.answer.length > MAX_AROUND_BYTES
        if endless and connection.head:
            connection.complete = True  # as with a body that does not stop
        if connection.complete and connection.status >= 100:
            self._finish(connection, request)
        elif connection.complete or endless:
            self._refuse(connection, request)

    def _refuse(self, connection: Connection, request: Request) -> None:
        """Take an answer for none. libcurl may read it: the next attempt is made there."""
        self._close(connection)
        self._fail(request, NO_HTTP)
        self.forget(request.endpoint.id)

    def _break(self, connection: Connection, request: Request, *, reset: bool) -> None:
        """A connection has ended with a request on it."""
        if connection.head and not (connection.measured or connection.chunked or reset):
            connection.goes_on = False  # the end of the answer is that of the connection
            self._finish(connection, request)
            return
        self._close(connection)
        if connection.used and not connection.received and request.may_repeat:
            request.may_repeat = False
            self._open(request)
        else:
            self._fail(request, BROKE if connection.received or reset else CLOSED)

    def _finish(self, connection: Connection, request: Request) -> None:
        took_ms = self._take_out(request)
        self._ended.append(connection.answer.outcome(request.job, connection.status, took_ms))
        if connection.goes_on and connection.unsent is None:
            self._rest(connection)
        else:
            self._close(connection)

    def _fail(self, request: Request, reason: str) -> None:
        self._ended.append(Outcome(request.job, 0, reason, self._take_out(request)))

    def _take_out(self, request: Request) -> int:
        """Have a request be out no more; return for how many milliseconds it was."""
        del self._out[request.endpoint.timeout_ms][request.job]
        return round((self._monotonic() - request.started) * 1000)

    def _rest(self, connection: Connection) -> None:
        if self._rest_count >= MOST_AT_REST:
            self._close(connection)
            return
        _part(connection)
        connection.used = connection.rests = True
        connection.rests_since = self._monotonic()
        self._at_rest[connection.authority].append(connection)
        self._rest_count += 1
        if self._look_at == _NEVER:
            self._look_at = connection.rests_since + LOOK_S

    def _close(self, connection: Connection) -> None:
        if connection.rests:
            self._at_rest[connection.authority].remove(connection)
            self._rest_count -= 1
        del self._connections[connection.descriptor]
        connection.socket.close()
        # What knows the connection is cut from it: the search for cycles comes seldom.
        _part(connection)
        connection.parser = None

    # -- by time -----------------------------------------------------------------------------------

    def wait_s(self) -> float:
        """Return how long nothing has to be done unless a connection has something."""
        return max(min(self._late_at, self._look_at) - self._monotonic(), 0.0)

    def ended(self) -> list[Outcome]:
        """Return the outcomes since the last call, with those of requests that are late."""
        now = self._monotonic()
        if now >= self._late_at:
            self._end_late(now)
        if now >= self._look_at:
            self._close_old(now)
        ended, self._ended = self._ended, []
        return ended

    def _end_late(self, now: float) -> None:
        self._late_at = _NEVER
        for timeout_ms, out in list(self._out.items()):
            for request in list(takewhile(lambda each: each.late_at <= now, out.values())):
                if request.connection is not None:
                    self._close(request.connection)
                self._fail(request, TOO_LATE)
            if out:
                self._late_at = min(self._late_at, next(iter(out.values())).late_at)
            else:
                del self._out[timeout_ms]

    def _close_old(self, now: float) -> None:
        for authority, at_rest in list(self._at_rest.items()):
            while at_rest and now - at_rest[0].rests_since >= REST_S:
                self._close(at_rest[0])
            if not at_rest:
                del self._at_rest[authority]
        self._look_at = now + LOOK_S if self._rest_count else _NEVER


def _part(connection: Connection) -> None:
    """Have a connection and its request know each other no more."""
    if connection.request is not None:
        connection.request.connection = None
        connection.request = None
