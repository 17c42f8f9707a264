"""A real HTTP endpoint that records every request and answers by a script."""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from support.cloudevent import BATCH, STRUCTURED, Json, from_headers
from support.eventually import eventually

# A certificate for localhost with its key, valid for a hundred years; nobody trusts it.
SELF_SIGNED = Path(__file__).with_name("self_signed.pem")


@dataclass(frozen=True, slots=True)
class Received:
    """One request: header names in lower case, body as sent, `at` on the monotonic clock."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def webhook_id(self) -> str:
        """The `webhook-id` header."""
        return self.headers["webhook-id"]

    @property
    def attempt(self) -> int:
        """The `webhook-attempt` header."""
        return int(self.headers["webhook-attempt"])

    @property
    def events(self) -> list[Json]:
        """The events inside, structured, whatever the format they came in."""
        media_type = self.headers.get("content-type", "").partition(";")[0]
        if media_type == BATCH:
            return list(json.loads(self.body))
        if media_type == STRUCTURED:
            return [json.loads(self.body)]
        return [{**from_headers(self.headers)}]

    @property
    def key(self) -> str | None:
        """The `partitionkey` of the first event."""
        key = self.events[0].get("partitionkey")
        return None if key is None else str(key)

    @property
    def sequences(self) -> list[int]:
        """The sequence of each event inside."""
        return [int(each["sequence"]) for each in self.events]

    @property
    def sequence(self) -> int:
        """The sequence of the only event inside."""
        (only,) = self.sequences
        return only


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint replies.

    `hang_up` closes the connection without a word, `raw` sends these bytes instead of HTTP, and
    `endless` follows the body with more until the broker has had enough, `pause_s` apart.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0.0
    hang_up: bool = False
    raw: bytes | None = None
    endless: bool = False
    pause_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the answer is a 2xx that really goes out."""
        return 200 <= self.status < 300 and not self.hang_up and self.raw is None


Script = Callable[[Received], Answer]


def verdict(value: str, headers: Mapping[str, str] | None = None, status: int = 200) -> Answer:
    """Take the request, and say with `Webhook-Verdict` what is to become of the delivery."""
    return Answer(status, {"Webhook-Verdict": value, **(headers or {})})


def receipt(value: str = "processed", body: Json | None = None) -> Answer:
    """Take the request with a `Webhook-Receipt`; `body` singles out positions of a batch."""
    content = b"" if body is None else json.dumps(body).encode()
    return Answer(200, {"Webhook-Receipt": value}, content)


def always(answer: Answer) -> Script:
    """Give every request the same answer."""
    return lambda _request: answer


def by_attempt(*answers: Answer) -> Script:
    """Answer the first attempt of a message with the first answer, and so on; the last stays."""
    return lambda request: answers[min(request.attempt, len(answers)) - 1]


def by_key(scripts: Mapping[str | None, Script], default: Script) -> Script:
    """Choose the script by the message's key."""
    return lambda request: scripts.get(request.key, default)(request)


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of the timeline: a request has come (`answer` is None) or is being answered."""

    request: Received
    answer: Answer | None


class Endpoint:
    """A webhook receiver on loopback. `requests` and `timeline` grow as requests come in.

    Requests for its consent are in `asked`, and answered by `consent`. With a `certificate` it is
    reached over TLS, and with `clients` by those only whom an authority in that file vouches for.

    In the timeline an answer stands before its first byte leaves, so that whatever the broker does
    because of it stands after it.
    """

    def __init__(
        self,
        script: Script = always(Answer()),  # noqa: B008
        port: int = 0,
        certificate: Path | None = None,
        clients: Path | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.script = script
        self.consent: Script = always(Answer(501))  # as of one that knows no OPTIONS
        self.asked: list[Received] = []
        self.scheme = "http" if certificate is None else "https"
        self.timeline: list[Step] = []
        self.faults: list[BaseException] = []
        self.connections = 0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = _Server(self, (host, port), certificate, clients)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="endpoint", daemon=True
        )

    def start(self) -> Endpoint:
        """Begin to accept connections."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening and cut every open connection."""
        self._server.shutdown()
        self._server.server_close()
        self._server.cut_connections()
        self._thread.join()

    def __enter__(self) -> Endpoint:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The address to subscribe."""
        return f"{self.scheme}://{self._server.server_address[0]}:{self.port}/hook"

    @property
    def requests(self) -> list[Received]:
        """All requests so far, in the order in which they came."""
        return [step.request for step in list(self.timeline) if step.answer is None]

    @property
    def sequences(self) -> list[int]:
        """The sequences of all events so far, in the order in which they came."""
        return [sequence for request in self.requests for sequence in request.sequences]

    @property
    def first_deliveries(self) -> list[int]:
        """The sequences in the order in which they came for the first time."""
        return list(dict.fromkeys(self.sequences))

    def wait_for(self, count: int) -> None:
        """Wait until so many different messages have come."""
        eventually(lambda: len(set(self.sequences)) >= count, within_s=30)

    def handle(self, request: Received) -> Answer:
        """Record a request and say what to answer."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.timeline.append(Step(request, None))
        try:
            answer = self.script(request)
            time.sleep(answer.delay_s)
        finally:
            with self._lock:
                self._at_once -= 1
        self.timeline.append(Step(request, answer))
        return answer


class _Server(ThreadingHTTPServer):
    """The socket side: knows its open connections, so that it can cut them."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        endpoint: Endpoint,
        address: tuple[str, int],
        certificate: Path | None,
        clients: Path | None,
    ) -> None:
        super().__init__(address, _Handler)
        self.endpoint = endpoint
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            if clients is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(clients)
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.endpoint.connections += 1
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its peer was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.endpoint.faults.append(error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:  # the broker was killed while it sent
            self.close_connection = True
            return

        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Received(self.command, self.path, headers, body, time.monotonic())
        self._reply(self.server.endpoint.handle(request))

    def do_OPTIONS(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Received(self.command, self.path, headers, b"", time.monotonic())
        self.server.endpoint.asked.append(request)
        answer = self.server.endpoint.consent(request)
        time.sleep(answer.delay_s)
        self._reply(answer)

    def do_GET(self) -> None:
        self.do_POST()  # a redirect that was followed comes as a GET

    def _reply(self, answer: Answer) -> None:
        if answer.hang_up or answer.raw is not None:
            self.wfile.write(answer.raw or b"")
            self.close_connection = True
            return

        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            length = 10**12 if answer.endless else len(answer.body)
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(answer.body)
        while answer.endless:
            self.wfile.write(b"x" * 1000)
            self.wfile.flush()
            time.sleep(answer.pause_s)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the timeline is the log."""


def settled_before(timeline: Sequence[Step], earlier: int, later: int) -> bool:
    """Say whether `earlier` got its 2xx before `later` was sent for the first time."""
    acked = next(
        at
        for at, step in enumerate(timeline)
        if step.answer is not None and step.answer.ok and earlier in step.request.sequences
    )
    sent = next(at for at, step in enumerate(timeline) if later in step.request.sequences)
    return acked < sent
