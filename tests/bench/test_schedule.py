"""The open loop sends by the clock, whether or not answers have come."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from bench.schedule import CONNECTIONS, Publisher, PublishFailed, Schedule

MORE_THAN_IT_HOLDS = CONNECTIONS + 8


@contextmanager
def server(status: int, at_once: int = 1) -> Iterator[int]:
    """Answer requests, but none before so many wait for an answer."""
    gathered = threading.Barrier(at_once, timeout=20)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            gathered.wait()
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield running.server_port
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def test_due_times_are_evenly_spaced() -> None:
    schedule = Schedule(count=3, rate=500)
    assert [schedule.due_ns(index, 10) for index in range(3)] == [10, 2_000_010, 4_000_010]


def test_withheld_answers_hold_nothing_back() -> None:
    with server(201, at_once=MORE_THAN_IT_HOLDS) as port:
        times = Publisher(port, "/").run(Schedule(MORE_THAN_IT_HOLDS, rate=1000))
    assert times.answered_ns.keys() == set(range(MORE_THAN_IT_HOLDS))


def test_times_run_forward() -> None:
    with server(201) as port:
        times = Publisher(port, "/").run(Schedule(count=20, rate=1000))
    for index, due_ns in enumerate(times.due_ns):
        assert due_ns <= times.sent_ns[index] <= times.answered_ns[index]


def test_refused_publish_fails() -> None:
    with server(503) as port, pytest.raises(PublishFailed, match="503"):
        Publisher(port, "/").run(Schedule(count=1, rate=1000))
