"""A small HTTP server on loopback that takes messages and subscriptions as the broker does.

It keeps the promises a client relies on (all or none, each source and id once, receipts in order)
and can be told to break: to answer something else, to hang up, to refuse an event.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

BATCH = "application/cloudevents-batch+json"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def events(self) -> list[Json]:
        """The events it publishes."""
        return self.document if self.headers["content-type"] == BATCH else [self.document]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out; `hang_up` closes the connection without a word."""

    status: int = 200
    document: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    hang_up: bool = False

    @property
    def body(self) -> bytes:
        """The bytes of the body."""
        if self.raw is not None:
            return self.raw
        return b"" if self.document is None else json.dumps(self.document).encode()


AWAY = Answer(503, {"code": "away", "detail": "come back later"})
HANG_UP = Answer(hang_up=True)


def refusal(status: int, code: str, detail: str = "no", **more: Any) -> Answer:
    """A problem+json answer."""
    return Answer(status, {"code": code, "detail": detail, "status": status, **more})


class LoopbackBroker:
    """What it stored is in `messages`, what it was asked in `requests`, by arrival.

    `before(request)` may return an answer to give instead of doing the work, `after(request)` one
    to give although the work is done, `refuse(event)` a code to refuse an event with. `old` makes
    it a broker that knows neither guarantees nor verdicts.
    """

    def __init__(self, port: int = 0) -> None:
        self.old = False
        self.forget_all()
        self._lock = threading.Lock()
        self._server = _Server(self, port)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.cut_connections()

    def forget_all(self) -> None:
        """Lose all data and orders, as a new broker."""
        self.messages: dict[str, list[Json]] = {}
        self.subscriptions: dict[str, Json] = {}
        self.requests: list[Request] = []
        self.before: Callable[[Request], Answer | None] = lambda request: None
        self.after: Callable[[Request], Answer | None] = lambda request: None
        self.refuse: Callable[[Json], str | None] = lambda event: None
        self._sequences: dict[tuple[str, str, str], int] = {}

    def ids(self, topic: str = "order") -> list[str]:
        """The ids a topic holds, in its order."""
        return [event["id"] for event in self.messages.get(topic, [])]

    def respond(self, request: Request) -> Answer:
        """Do what a request asks for, unless told otherwise."""
        with self._lock:
            self.requests.append(request)
            answer = self.before(request)
            if answer is None:
                answer = self._work(request)
                instead = self.after(request)
                answer = answer if instead is None else instead
            return answer

    def _work(self, request: Request) -> Answer:
        if request.method == "PUT":
            return self._subscribe(request.path, request.document)
        if request.path.startswith("/v1/acks/"):
            return Answer(200, {"result": "settled"})

        topic = request.path.split("/")[3]
        for event in request.events:
            code = self.refuse(event)
            if code is not None:
                return refusal(422, code, f"event {event['id']}")
        receipts = [self._store(topic, event) for event in request.events]
        single = request.headers["content-type"] != BATCH
        return Answer(201, receipts[0] if single else {"messages": receipts, "unknown": 1})

    def _subscribe(self, path: str, fields: Json) -> Answer:
        view = {"name": path.rpartition("/")[2]}
        if self.old:
            wrong = [name for name in ("guarantee", "allow_later") if name in fields]
            if wrong and fields.get("guarantee") != "at-least-once":
                told = [{"field": name, "message": "not in this version"} for name in wrong]
                return refusal(422, "invalid_request", errors=told)
        else:
            view["allow_later"] = fields.get("allow_later", False)
        known = path in self.subscriptions
        self.subscriptions[path] = fields
        return Answer(200 if known else 201, view)

    def _store(self, topic: str, event: Json) -> Json:
        identity = (topic, event["source"], event["id"])
        duplicate = identity in self._sequences
        if not duplicate:
            log = self.messages.setdefault(topic, [])
            log.append(event)
            self._sequences[identity] = len(log)
        return {
            "id": event["id"],
            "sequence": self._sequences[identity],
            "duplicate": duplicate,
            "unknown": None,
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, broker: LoopbackBroker, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.broker = broker
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
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
        """Stay silent: a client that was killed cuts its connections."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:  # the client was killed while it sent
            self.close_connection = True
            return

        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        self._reply(self.server.broker.respond(request))

    do_PUT = do_POST  # noqa: N815 -- the names are the server's

    def _reply(self, answer: Answer) -> None:
        if answer.hang_up:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the requests are the log."""
